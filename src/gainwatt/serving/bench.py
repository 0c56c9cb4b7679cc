"""What all cells of one checkpoint share, and which of them are done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.engines.start import context_tokens
from gainwatt.errors import RecordError
from gainwatt.job import Job
from gainwatt.record import Record, read_record, text_sha256
from gainwatt.schemes import Scheme, get_scheme
from gainwatt.serving.prompts import Source
from gainwatt.serving.roofs import Roofs
from gainwatt.serving.spec import QUANTIZATIONS, ServerSpec
from gainwatt.study import Cell, Study
from gainwatt.study.serving import Serve
from gainwatt.study.serving_cells import STAGE, Load, Start, loads

MANY_ARRIVALS = 256
"""Answers at once that an engine makes room for where requests arrive at random and no load says how many there are."""


@dataclass(frozen=True)
class Bench:
    """One checkpoint, its prompts and roofs, and the folder of its records."""

    study: Study
    serve: Serve
    cell: Cell
    checkpoint: Checkpoint
    tokenizer: Any
    source: Source
    roofs: Roofs
    records: Path
    work: Path
    logs: Path

    @property
    def scheme(self) -> Scheme:
        """The scheme's entry in the registry."""
        return get_scheme(self.cell.scheme)

    @property
    def dtype(self) -> str:
        """The type of the arithmetic."""
        return self.scheme.compute_dtype or self.study.model.dtype

    def record(self, name: str) -> Path:
        """The record called `name`."""
        return self.records / f"{name}.json"

    def about(self, start: Start, load: str) -> dict[str, str]:
        """The cell of a record."""
        about = {"variant": self.cell.variant, "scheme": self.cell.scheme, "engine": self.serve.engine, "load": load}
        return about | ({"kernel": start.kernel} if start.kernel else {})

    def identity(self, name: str) -> str:
        """Hash of what decides the result of a record."""
        return text_sha256(f"{self.study.settings_sha256(STAGE)} {self.checkpoint.sha256} {name}")

    def spec(self, start: Start, python: str | None) -> ServerSpec:
        """The engine of a start in the words of the server. Raises UnavailableError for what cannot be served."""
        serve = self.serve
        return ServerSpec(
            checkpoint=self.checkpoint.folder,
            scheme=self.cell.scheme,
            engine=serve.engine,
            dtype=self.dtype,
            max_model_len=self.max_tokens,
            max_num_seqs=most_at_once(serve, start.mode),
            memory_fraction=serve.gpu_memory_utilization if serve.engine == "vllm" else None,
            quantization=start.kernel if start.kernel in QUANTIZATIONS else None,
            seed=serve.seed,
            python=python,
            enforce_eager=serve.enforce_eager,
            trust_remote_code=self.study.model.trust_remote_code,
            options=self._options(),
        )

    @property
    def max_tokens(self) -> int:
        """Longest prompt and answer together: the study's, at most what the model has."""
        return min(self.serve.max_model_tokens, context_tokens(self.checkpoint.folder) or self.serve.max_model_tokens)

    def _options(self) -> tuple[str, ...]:
        tokens = self.serve.max_num_batched_tokens
        return ("--max-num-batched-tokens", str(tokens)) if tokens and self.serve.engine == "vllm" else ()

    def name_inputs(self, job: Job) -> None:
        """Name the checkpoint in a job's record."""
        made = self.checkpoint
        about = {"variant": made.variant, "scheme": made.scheme, "parent_sha256": made.parent_sha256}
        job.add_input("checkpoint", made.sha256, **about)

    def measured(self, name: str, load: Load | None = None) -> Record | None:
        """The record called `name` where it is there and a result of these settings and this checkpoint.

        What failed, or could not run on this machine, is measured again; what did not fit into memory is a result.
        """
        record = self.current(name, load)
        return record if record is not None and record["status"] in ("ok", "oom") else None

    def current(self, name: str, load: Load | None = None) -> Record | None:
        """The record called `name`, however it went, where it is of these settings and this checkpoint."""
        try:
            record = read_record(self.record(name), stage=STAGE)
        except RecordError:
            return None
        inputs = record["inputs"]
        wanted = {"settings": self.study.settings_sha256(STAGE), "checkpoint": self.checkpoint.sha256}
        same = all(inputs.get(key, {}).get("sha256") == sha256 for key, sha256 in wanted.items())
        same = same and (load is None or record["settings"].get("load") == load.as_dict())
        return record if same else None

    def left(self, start: Start) -> list[Load]:
        """The loads of a start that are not measured yet."""
        return [load for load in loads(self.serve, start.mode) if not self.measured(start.record_name(load), load)]


def most_at_once(serve: Serve, mode: str) -> int:
    """Answers that an engine must be able to generate at once for the loads of one mode."""
    if serve.max_num_seqs is not None:
        return serve.max_num_seqs
    most = [int(load.size) for load in loads(serve, mode) if load.kind in ("batch", "closed") and load.size]
    open_loop = any(load.kind in ("poisson", "capacity") for load in loads(serve, mode))
    if open_loop and serve.engine == "vllm":
        most.append(MANY_ARRIVALS)
    return max(most, default=1)


def quiet(study: Study) -> Study:
    """The study without idle power: the record of the engine's start has it, for all cells of that start."""
    return study.model_copy(update={"energy": study.energy.model_copy(update={"idle_s": 0.0})})

"""The section `serve` of a study: which loads are put on which checkpoints, by which engine, and how often.

Offline loads hand whole batches to an engine in this process; online loads send requests to its server. Every load is
one cell with a record of its own. A study without the section runs none of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gainwatt.study.sections import NonNegative, Positive, Section, Share

Seconds = Annotated[float, Field(gt=0)]
Milliseconds = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Kernel = Annotated[str, Field(pattern=r"^(awq|awq_marlin|no-[A-Za-z0-9]+)$", max_length=60)]


class Offline(Section):
    """Closed batches: a batch is handed over when the one before has finished."""

    sequential_prompts: NonNegative = 16
    """Prompts of one pass that are asked one after the other; 0 leaves the sequential load out."""
    batch_sizes: tuple[Positive, ...] = (16, 32, 64)
    """Prompts handed over at once, one cell for each size."""
    batches_per_pass: Positive = 4
    """Batches of one pass: four times the batch size are asked in all."""


class Slo(Section):
    """When a request was served well enough; a limit that is none does not count."""

    ttft_ms: Milliseconds | None = 1000.0
    """Longest time to the first token, from the moment at which the request was due."""
    tpot_ms: Milliseconds | None = 50.0
    """Longest mean time of each further token."""
    e2e_ms: Milliseconds | None = None
    """Longest time to the last token."""
    met_share: Share = 0.9
    """A rate is carried where at least this share of its requests meets every limit."""


class Online(Section):
    """Requests to a server: a number of clients that each wait for their answer, or arrivals at random."""

    concurrency: tuple[Positive, ...] = (1, 8, 32)
    """Clients at once, each of which sends its next request when it has its answer (closed loop); a cell for each."""
    requests_per_client: Positive = 8
    """Requests of each client in one run of such a load."""
    rates_per_s: tuple[Rate, ...] = ()
    """Requests per second that arrive as a Poisson process, whatever the server does (open loop); a cell for each."""
    requests_per_rate: Positive = 64
    """Requests of one run at such a rate."""
    capacity: bool = False
    """Also look for the largest rate that meets the service level, by bisection."""
    capacity_probes: Positive = 6
    """Rates tried in that search."""
    slo: Slo = Slo()
    """The service level that goodput counts by."""
    error_share_max: Share = 0.01
    """A cell fails when more of its requests than this share fail."""
    timeout_s: Seconds = 120.0
    """A request that takes longer has failed."""
    ready_s: Seconds = 900.0
    """How long the server may take to answer for the first time."""

    @model_validator(mode="after")
    def _check(self) -> Online:
        if self.slo.ttft_ms is None and self.slo.tpot_ms is None and self.slo.e2e_ms is None:
            raise ValueError("slo: give at least one of ttft_ms, tpot_ms and e2e_ms, or every request meets it")
        if self.capacity and not self.concurrency:
            raise ValueError("capacity: the search begins with a burst of the most clients that concurrency names")
        return self


class Serve(Section):
    """The serving benchmark: speed, latency, memory and energy of every chosen checkpoint under each load."""

    engine: Literal["vllm", "transformers", "llamacpp"] = "vllm"
    """What serves. vllm and llamacpp have environments of their own (`make env NAME=vllm`), where the rule runs."""
    variants: tuple[str, ...] | None = None
    """Variants that are served (none: all of the study)."""
    schemes: tuple[str, ...] | None = None
    """Schemes that are served (none: all of the study)."""
    kernels: tuple[Kernel, ...] = ()
    """Kernels measured beside vLLM's own choice: `awq` and `awq_marlin` are asked for by name and apply to
    awq-w4g128-autoawq; `no-NAME` (e.g. no-MacheteLinearKernel) forbids one and applies to every quantized scheme."""
    lengths: Annotated[tuple[Literal["natural", "fixed"], ...], Field(min_length=1)] = ("natural", "fixed")
    """`natural`: the study's questions, answers end by themselves. `fixed`: random prompts of one length, answers of
    one length. Numbers of the two are never put into one comparison."""
    max_new_tokens: Positive = 512
    """Length limit of a natural answer; an answer that meets it is counted as cut."""
    fixed_prompt_tokens: Annotated[int, Field(ge=2, strict=True)] = 128
    """Tokens of a fixed-length prompt."""
    fixed_new_tokens: Annotated[int, Field(ge=2, strict=True)] = 128
    """Tokens of a fixed-length answer."""
    max_model_tokens: Positive = 2048
    """Longest prompt and answer together that the engine makes room for."""
    max_num_seqs: Positive | None = None
    """Answers generated at once (none: as many as the largest load asks for)."""
    max_num_batched_tokens: Positive | None = None
    """Tokens in one step of vLLM (none: vLLM's own choice)."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Share of the GPU's memory that vLLM may take for weights and KV cache."""
    enforce_eager: bool = False
    """Leave CUDA graphs and compilation out of vLLM: a faster start, and slower generation."""
    repeats: Positive = 5
    """Measured windows of each cell; the gate on repeats asks for 5."""
    window_s: Annotated[float, Field(ge=0)] = 5.0
    """Shortest window: an offline pass is repeated with fresh prompts until this much time has passed."""
    warmup_batches: NonNegative = 2
    """Batches (offline) or requests of each client (online) before the first window, with prompts of their own."""
    split_phases: bool = True
    """Also measure the prompts alone (answers of one token, half as many windows): it tells prefill from decode."""
    limits: bool = True
    """Measure the machine's bandwidth and arithmetic before the engine starts, for the roofs."""
    seed: NonNegative = 0
    """Seed of prompts and arrivals; each cell and repeat draws its own from it."""
    offline: Offline | None = Offline()
    """Loads without a server (null: none)."""
    online: Online | None = None
    """Loads on a server (none: not measured)."""

    @model_validator(mode="after")
    def _check(self) -> Serve:
        if self.offline is None and self.online is None:
            raise ValueError("give offline, online, or both")
        if "fixed" in self.lengths and self.fixed_prompt_tokens + self.fixed_new_tokens > self.max_model_tokens:
            raise ValueError("fixed_prompt_tokens + fixed_new_tokens must not exceed max_model_tokens")
        if self.kernels and self.engine != "vllm":
            raise ValueError(f"kernels can be chosen with vllm only, and the engine is {self.engine}")
        for name in ("variants", "schemes", "kernels", "lengths"):
            values = getattr(self, name) or ()
            if len(set(values)) != len(values):
                raise ValueError(f"{name} {list(values)} names one twice")
        return self


_GRID = ("variants", "schemes", "kernels", "lengths")
_GRID_OFFLINE = ("batch_sizes",)
_GRID_ONLINE = ("concurrency", "rates_per_s", "capacity", "ready_s")


def deciding(serve: dict[str, Any] | None) -> dict[str, Any] | None:
    """The part of the section (as JSON values) that decides the result of a cell.

    Which cells there are decides none of them: one more batch size leaves the others as they are.
    """
    if serve is None:
        return None
    chosen = {name: value for name, value in serve.items() if name not in _GRID}
    for name, left_out in (("offline", _GRID_OFFLINE), ("online", _GRID_ONLINE)):
        if chosen[name] is not None:
            chosen[name] = {key: value for key, value in chosen[name].items() if key not in left_out}
    return chosen


def check(serve: Serve, variants: list[str], schemes: list[str]) -> None:
    """Raise ValueError where the section names a variant or scheme that the study does not have."""
    for name, there in (("variants", variants), ("schemes", schemes)):
        unknown = [value for value in getattr(serve, name) or () if value not in there]
        if unknown:
            raise ValueError(f"serve.{name}: the study has no {unknown[0]!r}; it has {', '.join(there)}")

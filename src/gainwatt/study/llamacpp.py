"""The section of a study file that profiles llama.cpp: suites, arms, quantization types, protocol."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gainwatt.llamacpp.types import TYPES
from gainwatt.study.sections import NonNegative, Positive, Section

Backend = Literal["cpu", "gpu"]
Boundary = Literal["cpu_package", "dram", "gpu_board"]
SUITES = ("sd", "ar", "ng")
"""Built-in suites: short dialogue, analytical reasoning, narrative generation."""

_NOT_DECIDING = ("deadline_s", "reply_s")


class PromptTemplate(Section):
    """Prompts made of one text: `count` combinations of the values of its variables, drawn with a seed."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    """Name; the prompts are called NAME-1, NAME-2, …."""
    suite: str
    """The suite that the prompts belong to."""
    text: str | None = None
    """The text, with each variable as `{variable}`."""
    file: str | None = None
    """A text file that holds it instead."""
    count: Positive = 3
    """How many prompts are drawn; all combinations where there are fewer."""
    variables: Annotated[dict[str, tuple[str, ...]], Field(min_length=1)]
    """Values of each variable; the combinations are their Cartesian product."""

    @model_validator(mode="after")
    def _check(self) -> PromptTemplate:
        if (self.text is None) == (self.file is None):
            raise ValueError("give either text or file")
        empty = [name for name, values in self.variables.items() if not values]
        if empty:
            raise ValueError(f"the variable {empty[0]!r} has no values")
        if self.text is not None:
            lacking = [name for name in self.variables if f"{{{name}}}" not in self.text]
            if lacking:
                raise ValueError(f"the text does not hold {{{lacking[0]}}}")
        return self


class LlamaCpp(Section):
    """llama.cpp on this machine: CPU against GPU, ablations, quantization types, each arm metered alike."""

    source: str = "base"
    """`base`: the study's base model, converted here; `hub:ORG/NAME`, a folder with *.gguf files, or one .gguf file."""
    revision: str | None = None
    """Commit of the hub repository; required with a hub source."""
    file: str = "*.{TYPE}.gguf"
    """Name of the file of a type in the hub repository or folder; `{TYPE}` stands for Q4_K_M, `{type}` for q4_k_m."""
    make_from: str | None = None
    """Type whose file llama.cpp quantizes again where a type has no file of its own (none: such arms are unavailable).
    Quantizing twice loses more than once: the record says so."""
    quant_types: Annotated[tuple[str, ...], Field(min_length=1)] = ("q4_0",)
    """Quantization types that are compared, each on every backend."""
    arm_type: str = "q4_0"
    """Type of the arms that compare something else than types."""
    backends: Annotated[tuple[Backend, ...], Field(min_length=1)] = ("cpu", "gpu")
    """What is compared with all else equal; a machine without a GPU makes `gpu` a row with its reason."""
    threads: Positive | None = None
    """CPU threads of every arm but those of the ablation (none: all that the process may use)."""
    gpu_layers: NonNegative | None = None
    """Layers offloaded in GPU arms (none: all; 0: no layer, but prompts may be computed there)."""
    prompt_batch: Positive = 512
    """Tokens of a prompt that are computed at once (llama.cpp's -b); it is no number of requests."""
    ablation_threads: tuple[Positive, ...] = ()
    """CPU threads, on the CPU."""
    ablation_gpu_layers: tuple[NonNegative, ...] = ()
    """Layers offloaded, on the GPU."""
    ablation_prompt_batch: tuple[Positive, ...] = ()
    """Prompt batches, on every backend."""
    ablation_parallel: tuple[Annotated[int, Field(ge=2, strict=True)], ...] = ()
    """Requests decoded at the same time, on every backend."""
    suites: Annotated[tuple[str, ...], Field(min_length=1)] = SUITES
    """Built-in suites (sd, ar, ng), or files NAME.jsonl with a line {"id", "text", "template"} for each prompt."""
    ablation_suites: tuple[str, ...] | None = None
    """Names of the suites that the ablations and types run (none: all)."""
    prompt_source: Literal["manual", "auto", "both"] = "manual"
    """The suites' own prompts, those made of templates, or both."""
    templates: tuple[PromptTemplate, ...] | None = None
    """Templates (none: one built-in template for each built-in suite)."""
    template_seed: NonNegative = 42
    """Seed of the draw of combinations."""
    chat: bool = True
    """Ask through the chat template of the file, where it has one."""
    max_new_tokens: Annotated[int, Field(ge=2, strict=True)] = 128
    """Tokens generated for each prompt."""
    ignore_eos: bool = True
    """Generate all of them, so that every arm does the same work; `false`: stop at the end token."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 takes the likeliest token."""
    seed: NonNegative = 42
    """Seed of the sampler."""
    mmap: bool = False
    """Map the file instead of reading it; the first prompt then pays for what loading left undone."""
    window_s: Annotated[float, Field(gt=0)] = 5.0
    """Requests are repeated until a window is this long; below 5 s the joules are marked `short`."""
    rounds: Positive = 6
    """Windows of each arm and suite; arms run in the order A B … B A."""
    warmup_requests: NonNegative = 1
    """Requests before the first window of a visit."""
    split_energy: bool = True
    """Also measure windows of prefill alone, so that joules of prefill and decode are known apart."""
    cool_margin_c: Annotated[float, Field(ge=0)] = 2.0
    """An arm starts when the board is back within this margin of its first temperature."""
    cool_patience_s: Annotated[float, Field(ge=0)] = 120.0
    """The longest wait for that."""
    boundary: Annotated[tuple[Boundary, ...], Field(min_length=1)] = ("cpu_package", "dram", "gpu_board")
    """What the joules of every arm are the sum of; one that the machine has and cannot read leaves them null."""
    deadline_s: Annotated[float, Field(gt=0)] | None = None
    """Deadline of a request in the race-to-sleep analysis (none: the slowest arm's time)."""
    reply_s: Annotated[float, Field(gt=0)] = 1800.0
    """An arm that gives no answer for so long is stopped, and is a row with that reason."""

    @property
    def suite_names(self) -> tuple[str, ...]:
        """Names of the suites: a file's is its stem."""
        return tuple(name if name in SUITES else PurePath(name).stem for name in self.suites)

    @model_validator(mode="after")
    def _check(self) -> LlamaCpp:
        for name in (*self.quant_types, self.arm_type, *([self.make_from] if self.make_from else [])):
            if name not in TYPES:
                raise ValueError(f"there is no quantization type {name!r}; there are: {', '.join(TYPES)}")
        if self.arm_type not in self.quant_types:
            raise ValueError(f"arm_type {self.arm_type!r} is not among quant_types")
        if self.source.startswith("hub:") and not self.revision:
            raise ValueError("a hub source needs `revision`, the commit to read, so that the study can be repeated")
        if self.source.endswith(".gguf") and len(self.quant_types) > 1 and not self.make_from:
            raise ValueError("one file holds one type: name a folder, or make_from, for several quant_types")
        self._check_lists()
        self._check_suites()
        return self

    def _check_lists(self) -> None:
        for name in ("quant_types", "backends", "suites", "boundary", "ablation_threads", "ablation_gpu_layers",
                     "ablation_prompt_batch", "ablation_parallel"):  # fmt: skip
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} names a value twice: {list(values)}")
        if self.ablation_threads and "cpu" not in self.backends:
            raise ValueError("ablation_threads needs `cpu` among backends")
        if self.ablation_gpu_layers and "gpu" not in self.backends:
            raise ValueError("ablation_gpu_layers needs `gpu` among backends")

    def _check_suites(self) -> None:
        names = self.suite_names
        for given, name in zip(self.suites, names, strict=True):
            if given not in SUITES and not given.endswith(".jsonl"):
                raise ValueError(f"{given!r} is neither a built-in suite ({', '.join(SUITES)}) nor a .jsonl file")
            if not name.replace("-", "_").isidentifier() or names.count(name) > 1:
                raise ValueError(f"the suite {given!r} has no name of its own: letters, digits, - and _, each once")
        for wanted in self.ablation_suites or ():
            if wanted not in names:
                raise ValueError(f"ablation_suites names {wanted!r}, and suites are {', '.join(names)}")
        for template in self.templates or ():
            if template.suite not in names:
                raise ValueError(
                    f"the template {template.name!r} is for the suite {template.suite!r}, which is not run"
                )


def deciding(section: dict[str, Any] | None) -> dict[str, Any] | None:
    """What of the section decides what is measured: deadline and patience do not."""
    return None if section is None else {key: value for key, value in section.items() if key not in _NOT_DECIDING}


def local_paths(section: LlamaCpp) -> dict[str, str]:
    """Key -> path of every file or folder that the section names."""
    named = {} if section.source == "base" or section.source.startswith("hub:") else {"llamacpp.source": section.source}
    named |= {f"llamacpp.suites.{name}": name for name in section.suites if name not in SUITES}
    templates = section.templates or ()
    return named | {f"llamacpp.templates.{entry.name}": entry.file for entry in templates if entry.file is not None}

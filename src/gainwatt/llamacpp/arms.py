"""From the study's section to its arms: each a way of running the same prompts. Standard library only at run time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gainwatt.study import Study
    from gainwatt.study.llamacpp import LlamaCpp

BACKENDS, THREADS, LAYERS, BATCH, PARALLEL, TYPES = (
    "backends",
    "threads",
    "gpu_layers",
    "prompt_batch",
    "parallel",
    "type",
)
"""What an arm is compared over."""
FILES = "files"
"""Name of the record about the GGUF files."""
SESSION = "session"
"""Name of the record that holds what all arms share: the machine, the meter, the order."""


@dataclass(frozen=True)
class Arm:
    """One setting. `compared`: what it is compared over -> its value there; an arm may stand in several comparisons.

    `gpu_layers` is None where all layers go to the GPU, 0 where none does; on the CPU it is 0 and the GPU is hidden.
    `threads` is None for all that the process may use.
    """

    name: str
    backend: str
    type: str
    threads: int | None
    gpu_layers: int | None
    prompt_batch: int
    parallel: int
    compared: tuple[tuple[str, str], ...]

    def value(self, comparison: str) -> str | None:
        """The arm's value in a comparison; None where it has no part in it."""
        return dict(self.compared).get(comparison)

    def suites(self, section: LlamaCpp) -> tuple[str, ...]:
        """Names of the suites that the arm runs."""
        if self.value(BACKENDS) is not None or section.ablation_suites is None:
            return section.suite_names
        return tuple(name for name in section.suite_names if name in section.ablation_suites)


def arms_of(section: LlamaCpp) -> list[Arm]:
    """Every arm of the study, each once: an ablation whose value is the main arm's own shares its windows."""
    made: dict[tuple[object, ...], Arm] = {}

    def add(name: str, backend: str, comparison: str, value: str, **changed: object) -> None:
        settings: dict[str, object] = {
            "type": section.arm_type,
            "threads": section.threads,
            "gpu_layers": section.gpu_layers if backend == "gpu" else 0,
            "prompt_batch": section.prompt_batch,
            "parallel": 1,
        } | changed
        key = (backend, *settings.values())
        before = made.get(key)
        if before is None:
            made[key] = Arm(name, backend, compared=((comparison, value),), **settings)  # type: ignore[arg-type]
        else:
            compared = (*before.compared, (comparison, value))
            made[key] = Arm(before.name, backend, compared=compared, **settings)  # type: ignore[arg-type]

    for backend in section.backends:
        add(backend, backend, BACKENDS, backend)
    for threads in section.ablation_threads:
        add(f"cpu-t{threads}", "cpu", THREADS, str(threads), threads=threads)
    for layers in section.ablation_gpu_layers:
        add(f"gpu-l{layers}", "gpu", LAYERS, str(layers), gpu_layers=layers)
    for backend in section.backends:
        for batch in section.ablation_prompt_batch:
            add(f"{backend}-b{batch}", backend, BATCH, str(batch), prompt_batch=batch)
        for parallel in (1, *section.ablation_parallel) if section.ablation_parallel else ():
            add(f"{backend}-p{parallel}", backend, PARALLEL, str(parallel), parallel=parallel)
        for kind in section.quant_types if len(section.quant_types) > 1 else ():
            add(f"{backend}-{kind}", backend, TYPES, kind, type=kind)
    return list(made.values())


def file_record_names(study: Study) -> list[str]:
    """Name of the record about the GGUF files; none without the section."""
    return [] if study.llamacpp is None else [FILES]


def record_names(study: Study) -> list[str]:
    """Names of the records of a study: the session's and each arm's; none without the section."""
    if study.llamacpp is None:
        return []
    return [SESSION, *(arm.name for arm in arms_of(study.llamacpp))]

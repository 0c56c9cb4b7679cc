"""The section `profile` of a study: speed, memory and energy of generation, precision by precision and load by load.

Every scheme is measured beside an unquantized baseline in one process and in interleaved order. A study without the
section runs none of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gainwatt.errors import InputError
from gainwatt.schemes import get_scheme
from gainwatt.study.sections import NonNegative, Positive, Section

Mode = Literal["eager", "static", "compile", "cuda-graphs"]
Attention = Literal["sdpa", "eager", "flash"]
Loads = Annotated[tuple[Positive, ...], Field(min_length=1)]
Seconds = Annotated[float, Field(ge=0)]


class Profile(Section):
    """Which arms (scheme, mode, attention) are measured under which loads (batch, prompt, answer), and how often.

    The first mode and attention implementation hold for every scheme; the further ones for the schemes in `varied`,
    one change at a time.
    """

    variants: Annotated[tuple[str, ...], Field(min_length=1)] = ("base",)
    """Variants whose checkpoints are profiled."""
    baseline: str = "fp16"
    """Unquantized scheme that is measured again beside the others in every process, and that ratios refer to."""
    schemes: tuple[str, ...] | None = None
    """Schemes to profile (none: all of `quantize`). A quantized one must be in `quantize.schemes`."""
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = ("eager",)
    """`eager`: a growing cache; `static`: a cache of fixed size; `compile`: that, compiled; `cuda-graphs`: that,
    captured and replayed as CUDA graphs."""
    attention: Annotated[tuple[Attention, ...], Field(min_length=1)] = ("sdpa",)
    """Attention implementations of transformers; `flash` needs the package flash_attn."""
    varied: tuple[str, ...] = ()
    """Schemes that also run in the further modes and attention implementations (none named: the baseline)."""
    batches: Loads = (1, 8, 64)
    """Sequences generated at once."""
    prompt_tokens: Loads = (128,)
    """Tokens of each prompt, without padding."""
    new_tokens: Loads = (64,)
    """Tokens generated for each prompt; the end token does not stop them."""
    together: Positive = 1
    """Arms that share a process and the memory with the baseline: more save time, fewer fit a small GPU."""
    repeats: Annotated[int, Field(ge=2, strict=True)] = 10
    """Measured windows of each arm under each load; an even number completes the order A B B A."""
    window_s: Seconds = 5.0
    """Shortest window: the batch is generated again until this much time has passed."""
    warmup_runs: NonNegative = 3
    """Batches before the first window."""
    cool_margin_c: Seconds = 2.0
    """A window starts when the board is this close to its temperature before the first one (degrees Celsius)."""
    cool_patience_s: Seconds = 120.0
    """How long to wait for that."""
    kernels: bool = True
    """Look at the kernels of a few tokens with torch's profiler, outside of the windows."""

    @model_validator(mode="after")
    def _check(self) -> Profile:
        if self.repeats % 2:
            raise ValueError(f"repeats = {self.repeats} leaves the order A B B A incomplete; give an even number")
        for name in ("variants", "schemes", "modes", "attention", "varied", "batches", "prompt_tokens", "new_tokens"):
            values = getattr(self, name) or ()
            if len(set(values)) != len(values):
                raise ValueError(f"{name} {list(values)} names one twice")
        try:
            baseline = get_scheme(self.baseline)
            known = [get_scheme(name) for name in (*(self.schemes or ()), *self.varied)]
        except InputError as error:
            raise ValueError(f"{error.what}; {error.hint}") from error
        if not baseline.dense:
            raise ValueError(f"baseline {self.baseline!r} is quantized; name an unquantized scheme")
        lost = [scheme.name for scheme in known if scheme.loader("transformers") is None]
        if lost:
            raise ValueError(f"the profile runs on transformers, which does not read {lost[0]}")
        return self


_GRID = ("variants", "schemes", "modes", "attention", "varied", "together")
_FIRST = {"modes": "eager", "attention": "sdpa"}


def deciding(profile: dict[str, Any] | None) -> dict[str, Any] | None:
    """The part of the section (as JSON values) that decides a record: one more arm leaves the others as they are.

    The first mode and attention implementation are those of every arm whose label names no other. They stand in it
    where they are not the defaults.
    """
    if profile is None:
        return None
    first = {name: profile[name][0] for name in _FIRST if profile[name][0] != _FIRST[name]}
    return {name: value for name, value in profile.items() if name not in _GRID} | first


def check(profile: Profile, variants: list[str], schemes: list[str]) -> None:
    """Raise ValueError for a variant or quantized scheme that the study does not have, or one varied for nothing."""
    for name in profile.variants:
        if name not in variants:
            raise ValueError(f"profile.variants: the study has no {name!r}; it has {', '.join(variants)}")
    chosen = profiled_schemes(profile, schemes)
    for name in chosen:
        if not get_scheme(name).dense and name not in schemes:
            raise ValueError(f"profile.schemes: {name!r} needs a checkpoint; add it to quantize.schemes")
    for name in profile.varied:
        if name not in chosen:
            raise ValueError(f"profile.varied: {name!r} is not profiled; add it to profile.schemes")


def profiled_schemes(profile: Profile, schemes: list[str]) -> list[str]:
    """The baseline first, then the others; of the study's `schemes` those that transformers reads, unless named."""
    readable = [name for name in schemes if get_scheme(name).loader("transformers") is not None]
    return list(dict.fromkeys([profile.baseline, *(readable if profile.schemes is None else profile.schemes)]))

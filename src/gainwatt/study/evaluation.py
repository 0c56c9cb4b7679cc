"""The section `evaluate` of a study: how the answers are generated, and by which engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gainwatt.study.sections import NonNegative, Positive, Section


class Vllm(Section):
    """Settings of the vLLM engine; used only where `engine` is `vllm`."""

    gpu_memory_utilization: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Share of each GPU's memory that the engine may take for weights and KV cache."""
    max_model_tokens: Positive | None = None
    """Longest prompt and answer together (none: what the limits of this section need)."""
    max_num_seqs: Positive | None = None
    """Answers generated at once (none: vLLM's own choice for the GPU)."""
    tensor_parallel_size: Positive = 1
    """GPUs that hold one copy of the model together."""
    enforce_eager: bool = False
    """Leave CUDA graphs and compilation out: a faster start, and slower generation."""
    seed: NonNegative = 0
    """Seed of the engine. Greedy decoding draws nothing; it is pinned all the same."""


class Evaluate(Section):
    """Greedy decoding of the test items. Every sampling field is pinned here, whatever the checkpoint says."""

    engine: Literal["transformers", "vllm", "llamacpp"] = "transformers"
    """What generates the answers. vllm and llamacpp have environments of their own (`make env NAME=vllm`), where the
    rule then runs; llamacpp is for the gguf schemes and unquantized ones."""
    batch_size: Positive = 16
    """Items per forward pass of the transformers engine."""
    max_new_tokens: Positive = 512
    """Length limit of an answer."""
    max_prompt_tokens: Positive = 1024
    """A test item whose prompt is longer is an error before the first item."""
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    """1.0 leaves greedy decoding alone even where the checkpoint's own configuration would not."""
    reference_nll: bool = True
    """Also measure the model's loss on the reference solutions."""
    max_reference_tokens: Positive = 512
    """Reference solutions are cut at this length."""
    vllm: Vllm = Vllm()
    """The vLLM engine."""


def deciding(evaluate: dict[str, Any]) -> dict[str, Any]:
    """The part of the section (as JSON values) that decides a result: the fields of the engine in use.

    How much memory vLLM may take, and the longest sequence that it makes room for, decide none.
    """
    left_out = {"vllm": {"batch_size"}, "transformers": {"vllm"}}.get(evaluate["engine"], {"vllm", "batch_size"})
    chosen = {name: value for name, value in evaluate.items() if name not in left_out}
    if "vllm" in chosen:
        free = {"gpu_memory_utilization", "max_model_tokens"}
        chosen["vllm"] = {name: value for name, value in chosen["vllm"].items() if name not in free}
    return chosen

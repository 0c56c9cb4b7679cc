"""What is read out of vLLM's log: lines as versions 0.25 and 0.32 write them."""

from __future__ import annotations

import pytest

from gainwatt.engines.vllm_log import facts, lack_of_memory, last_error

CORE = "(EngineCore pid=31) "
START = [
    f"{CORE}INFO 11-21 12:51:55 [cuda.py:477] Using FLASH_ATTN attention backend out of potential backends: [...].",
    f"{CORE}INFO 11-21 12:51:55 [compressed_tensors_wNa16.py:137] Using MacheteLinearKernel for CompressedTensorsWNA16",
    f"{CORE}INFO 11-21 12:51:56 [gpu_model_runner.py:5307] Model loading took 2.89 GiB memory and 1.512345 seconds",
    f"{CORE}INFO 11-21 12:51:57 [utils.py:347] Using LBHNC KV cache layout.",
]


def test_facts():
    assert facts(START) == {
        "attention_backend": "FLASH_ATTN",
        "kernels": {"CompressedTensorsWNA16": "MacheteLinearKernel"},
        "weights_gib": 2.89,
    }


def test_what_the_log_does_not_say_is_none():
    assert facts(["INFO nothing"]) == {"attention_backend": None, "kernels": None, "weights_gib": None}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            f"{CORE}ERROR 11-21 12:00:00 [core.py:999] torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB",
            "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB",
        ),
        (
            "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.",
            "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.",
        ),
        ("INFO 11-21 12:00:00 [x.py:1] memory pool set up", None),
    ],
)
def test_lack_of_memory(line, said):
    assert lack_of_memory([*START, line]) == said


def test_the_last_error_that_says_what_happened():
    lines = [
        *START,
        f"{CORE}ERROR 11-21 12:00:00 [core.py:999] Traceback (most recent call last):",
        f"{CORE}ERROR 11-21 12:00:00 [core.py:999] ValueError: There is no module or parameter named 'x'",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
    ]
    assert last_error(lines) == "ValueError: There is no module or parameter named 'x'"
    assert last_error(START) is None

"""The table of quantized checkpoints says which engines loaded one, and by which kernels."""

from __future__ import annotations

from gainwatt.tables import stages


def test_engines_and_kernels(results):
    smoke = [
        {"engine": "transformers", "status": "ok", "reason": None, "kernels": {"Linear4bit[uint8]": 28}},
        {"engine": "vllm", "status": "unavailable", "reason": "no GPU"},
        {"engine": "llamacpp", "status": "ok", "reason": None, "kernels": "CPU : AVX2 = 1 | "},
    ]
    first, second, *_ = results.quantizations.values()
    first["settings"]["smoke"] = smoke
    first["metrics"]["used_bytes"] = 7
    second["settings"].pop("smoke", None)
    row, without, *_ = stages.quantization(results)
    assert row["loaded_by"] == "transformers, llamacpp"
    assert row["kernels"] == "transformers: 28 Linear4bit[uint8]; llamacpp: CPU : AVX2 = 1"
    assert row["used_bytes"] == 7
    assert (without["loaded_by"], without["kernels"]) == (None, None)

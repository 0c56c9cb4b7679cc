"""The registry of schemes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gainwatt.errors import InputError
from gainwatt.schemes import SCHEMES, get_scheme


def test_closest_name():
    with pytest.raises(InputError, match="no quantization scheme 'bnb_nf4'") as caught:
        get_scheme("bnb_nf4")
    assert "did you mean 'bnb-nf4'?" in caught.value.hint
    assert "awq-w4g128" in caught.value.hint
    with pytest.raises(InputError) as caught:
        get_scheme("zzz")
    assert "did you mean" not in caught.value.hint


def test_every_scheme_is_consistent():
    for name, scheme in SCHEMES.items():
        assert scheme.name == name
        assert len(set(scheme.engines)) == len(scheme.engines) > 0
        assert scheme.bits_per_weight >= scheme.stored_bits
        assert all(loader.kernel for loader in scheme.loaders)
        if scheme.dense:
            assert scheme.compute_dtype == name
            assert scheme.group_size is None
        if scheme.group_size is None:
            assert not scheme.whole_groups


def test_a_loader_is_found_by_its_engine():
    autoawq = get_scheme("awq-w4g128-autoawq")
    assert autoawq.loader("transformers").environment == "autoawq"
    assert autoawq.loader("vllm").environment == "vllm"
    assert autoawq.loader("llamacpp") is None
    assert get_scheme("gguf-q4_0").engines == ("llamacpp",)


def test_bits_per_weight_are_those_of_the_formats():
    # Dettmers et al., QLoRA: double quantization takes the scales from 0.5 to 0.127 bits per weight.
    assert get_scheme("bnb-nf4").bits_per_weight == pytest.approx(4.127, abs=5e-4)
    assert get_scheme("bnb-nf4-single").bits_per_weight == 4.5
    assert get_scheme("awq-w4g128").bits_per_weight == 4.15625
    assert get_scheme("gguf-q4_0").bits_per_weight == 4.5
    assert get_scheme("gguf-q2_k").bits_per_weight == 2.625


def test_what_each_name_asks_of_its_tool():
    """The settings by which published numbers of these schemes were made; a checkpoint's record repeats them."""
    asked = {name: dict(scheme.options) for name, scheme in SCHEMES.items()}
    four_bit = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    assert asked["bnb-nf4"] == four_bit
    assert asked["bnb-nf4-single"] == four_bit | {"bnb_4bit_use_double_quant": False}
    assert asked["bnb-fp4"] == four_bit | {"bnb_4bit_quant_type": "fp4"}
    assert asked["bnb-int8"] == {"load_in_8bit": True, "llm_int8_threshold": 6.0}
    assert asked["bnb-int8-pure"] == {"load_in_8bit": True, "llm_int8_threshold": 0.0}
    assert asked["awq-w4g128"]["scheme"] == "W4A16_ASYM"
    autoawq = {"w_bit": 4, "q_group_size": 128, "zero_point": True, "version": "GEMM"}
    assert asked["awq-w4g128-autoawq"] == autoawq
    assert (asked["gptq-w4g128"]["scheme"], asked["fp8"]["scheme"]) == ("W4A16", "FP8_DYNAMIC")


def test_needs_only_the_standard_library():
    code = "import sys, gainwatt.schemes; print([m for m in ('torch', 'pydantic', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

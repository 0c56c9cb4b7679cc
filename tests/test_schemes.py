"""The table of schemes."""

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
        assert scheme.dense == (scheme.compute_dtype is not None)
        assert scheme.dense == (scheme.group_size is None)
        assert "transformers" in scheme.engines


def test_needs_only_the_standard_library():
    code = "import sys, gainwatt.schemes; print([m for m in ('torch', 'pydantic', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

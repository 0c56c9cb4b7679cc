"""A quantized checkpoint appears whole or not at all, and carries its parent's tokenizer."""

from __future__ import annotations

import pytest

from factories import study_content
from gainwatt.errors import InputError
from gainwatt.quantization import bitsandbytes
from gainwatt.quantization.made import Made
from gainwatt.quantization.make import make
from gainwatt.schemes import get_scheme
from gainwatt.study import Study


@pytest.fixture
def study(tmp_path):
    return Study.model_validate(study_content(tmp_path))


def test_the_tokenizer_is_the_parents_byte_by_byte(study, tiny_checkpoint, tmp_path):
    folder = tmp_path / "made"
    make(study, tiny_checkpoint, get_scheme("bnb-nf4"), folder, None, [])
    names = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
    for name in names:
        assert (folder / name).read_bytes() == (tiny_checkpoint.folder / name).read_bytes()
    assert not (folder / "manifest.json").exists()


def test_a_failure_leaves_the_old_checkpoint_and_no_rest(study, tiny_checkpoint, tmp_path, monkeypatch):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "old").touch()

    def broken(_base, _scheme, target, **_options):
        (target / "half").touch()
        raise RuntimeError("in the middle")

    monkeypatch.setattr(bitsandbytes, "quantize", broken)
    with pytest.raises(RuntimeError, match="in the middle"):
        make(study, tiny_checkpoint, get_scheme("bnb-nf4"), folder, None, [])
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert [path.name for path in folder.iterdir()] == ["old"]


def test_what_a_killed_run_left_is_removed(study, tiny_checkpoint, tmp_path, monkeypatch):
    (tmp_path / ".made.abc.tmp").mkdir()
    (tmp_path / ".made.abc.tmp" / "model.safetensors").touch()
    (tmp_path / ".other.abc.tmp").mkdir()

    def quick(_base, _scheme, target, **_options):
        (target / "new").touch()
        return Made()

    monkeypatch.setattr(bitsandbytes, "quantize", quick)
    make(study, tiny_checkpoint, get_scheme("bnb-nf4"), tmp_path / "made", None, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.abc.tmp", "made"]


def test_a_calibrated_scheme_without_text_is_refused(study, tiny_checkpoint, tmp_path):
    with pytest.raises(InputError, match="awq-w4g128 needs calibration text"):
        make(study, tiny_checkpoint, get_scheme("awq-w4g128"), tmp_path / "made", None, [])


def test_a_dense_scheme_is_refused(study, tiny_checkpoint, tmp_path):
    with pytest.raises(InputError, match="bf16 is not quantized"):
        make(study, tiny_checkpoint, get_scheme("bf16"), tmp_path / "made", None, [])
    assert list(tmp_path.iterdir()) == []

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from bitsandbytes import functional
from pyarrow import parquet

from gainwatt.errors import InputError
from gainwatt.weights.measure import BASE_COLUMNS, Measured, Plan
from gainwatt.weights.run import diagnose, write_rows
from gainwatt.weights.summary import null_reasons, summarize

from .naive import TYPES, checkpoint, codes_w4, heavy, statistics

BOTH = ("symmetric-w4", "bnb-nf4")
NAMES = ("model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj")


def weights(dtype: torch.dtype, nudge: float = 0.0) -> dict[str, torch.Tensor]:
    shapes = ((48, 200), (40, 96))
    made = {}
    for seed, (name, shape) in enumerate(zip(NAMES, shapes, strict=True)):
        values = heavy(shape, seed)
        values[7, :128] = 0
        values += nudge * heavy(shape, 100 + seed)
        made[f"{name}.weight"] = values.to(dtype)
    return made


def nf4_codes(w: torch.Tensor) -> torch.Tensor:
    packed, _ = functional.quantize_4bit(w, blocksize=64, quant_type="nf4")
    return torch.stack((packed.view(-1) >> 4, packed.view(-1) & 15), 1).view(-1)[: w.numel()]


@pytest.mark.parametrize("name", TYPES)
def test_every_column_against_float64(tmp_path: Path, name: str) -> None:
    stored = weights(TYPES[name])
    plan = Plan(group_size=128, outlier_multiplier=5.0, schemes=BOTH, block_elements=1000)
    found = diagnose(checkpoint(tmp_path, stored), None, plan, label="base")
    for module, entry in zip(NAMES, found, strict=True):
        tensor = stored[f"{module}.weight"]
        expected = statistics(tensor, group=128, multiplier=5.0)
        assert {key: entry.row[key] for key in expected} == pytest.approx(expected, rel=1e-5)
        words = {"model": "base", "module_name": module, "module_type": "Linear", "ndim": 2, "dtype": name}
        assert words.items() <= entry.row.items()
        assert entry.row["shape"] == "x".join(map(str, tensor.shape))
        assert entry.row["relative_mse_symmetric_w4"] == entry.row["w4_relative_mse"]
        assert entry.row["weights_changed_frac"] is None


@pytest.mark.parametrize("name", TYPES)
def test_blocks_do_not_change_the_numbers(tmp_path: Path, name: str) -> None:
    folder = checkpoint(tmp_path / "t", weights(TYPES[name], 0.01))
    base = checkpoint(tmp_path / "b", weights(TYPES[name]))
    whole, cut = (diagnose(folder, base, Plan(schemes=BOTH, block_elements=size), label="x") for size in (1 << 20, 64))
    for one, other in zip(whole, cut, strict=True):
        words = {key: value for key, value in one.row.items() if isinstance(value, str | None)}
        assert words.items() <= other.row.items()
        numbers = {key: value for key, value in one.row.items() if key not in words}
        assert {key: other.row[key] for key in numbers} == pytest.approx(numbers, rel=1e-5)
        for exact in ("median_abs", "abs_outlier_frac", "code_flip_frac_bnb_nf4", "code_flip_frac_symmetric_w4"):
            assert one.row[exact] == other.row[exact]


@pytest.mark.parametrize("name", TYPES)
def test_changes_against_counting(tmp_path: Path, name: str) -> None:
    base, trained = weights(TYPES[name]), weights(TYPES[name], 0.02)
    folders = checkpoint(tmp_path / "t", trained), checkpoint(tmp_path / "b", base)
    plan = Plan(group_size=32, schemes=BOTH, block_elements=1000)
    for module, entry in zip(NAMES, diagnose(*folders, plan, label="grpo-s0"), strict=True):
        one, two = base[f"{module}.weight"], trained[f"{module}.weight"]
        a, b = one.double().numpy(), two.double().numpy()
        codes, scales = codes_w4(one.float().numpy(), 32)
        steps = np.repeat(scales.astype(float), 32, 1)[:, : a.shape[1]]
        padded = np.pad(np.abs(a).ravel(), (0, -a.size % 64)).reshape(-1, 64)
        nf4_steps = np.repeat(padded.max(1) * 2 / 15, 64)[: a.size]
        rms = np.sqrt(((b - a) ** 2).mean())
        expected = {
            "weights_changed_frac": (a != b).mean(),
            "relative_update_norm": np.linalg.norm(b - a) / np.linalg.norm(a),
            "code_flip_frac_symmetric_w4": (codes != codes_w4(two.float().numpy(), 32)[0]).mean(),
            "code_flip_frac_bnb_nf4": float((nf4_codes(one) != nf4_codes(two)).double().mean()),
            "update_rms_over_step_symmetric_w4": rms / np.sqrt((steps**2).mean()),
            "update_rms_over_step_bnb_nf4": rms / np.sqrt((nf4_steps**2).mean()),
        }
        assert 0 < expected["code_flip_frac_symmetric_w4"] < 1
        assert {key: entry.row[key] for key in expected} == pytest.approx(expected, rel=1e-5)


def test_an_unchanged_checkpoint_has_no_flips(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, weights(torch.bfloat16))
    plan = Plan(schemes=BOTH)
    found = summarize(diagnose(folder, folder, plan, label="x"), plan)
    changes = {key: value for key, value in found.items() if "flip" in key or "update" in key or "changed" in key}
    assert len(changes) == 8
    assert set(changes.values()) == {0.0, None}  # the control is off


@pytest.mark.parametrize(("dtype", "change"), [("float32", 3e-4), ("bfloat16", 3e-4), ("bfloat16", 2e-5)])
def test_random_noise_of_the_same_size(tmp_path: Path, dtype: str, change: float) -> None:
    """Training that is itself such noise flips as many codes, also where the stored type swallows most of it."""
    generator = torch.Generator().manual_seed(5)
    base = (0.02 * torch.randn((512, 512), generator=generator)).to(TYPES[dtype])
    trained = (base.float() + change * torch.randn(base.shape, generator=generator)).to(TYPES[dtype])
    folders = [checkpoint(tmp_path / name, {"a.weight": w}) for name, w in (("t", trained), ("b", base))]
    plan = Plan(schemes=BOTH, random_control=True)
    (found,) = diagnose(*folders, plan, label="x")
    assert found.row["random_norm_ratio"] == pytest.approx(1, abs=0.01)
    for key in ("symmetric_w4", "bnb_nf4"):
        flips = found.row[f"code_flip_frac_{key}"]
        assert flips > 5e-4
        assert found.row[f"random_code_flip_frac_{key}"] == pytest.approx(flips, rel=0.1)
    assert diagnose(*folders, plan, label="x")[0].row == found.row
    (still,) = diagnose(folders[1], folders[1], plan, label="x")
    assert still.row["random_code_flip_frac_symmetric_w4"] == 0.0
    assert still.row["random_norm_ratio"] is None
    off = summarize(diagnose(*folders, Plan(), label="x"), Plan())
    assert off["random_code_flip_frac_symmetric_w4"] is None
    assert "diagnose.random_control" in null_reasons(off, Plan(), trained=True)["random_code_flip_frac_symmetric_w4"]


def test_an_all_zero_weight_has_nulls(tmp_path: Path) -> None:
    (entry,) = diagnose(checkpoint(tmp_path, {"a.weight": torch.zeros(4, 8)}), None, Plan(schemes=BOTH), label="x")
    undefined = {"kurtosis", "w4_relative_mse", "w4_snr_db", "relative_mse_symmetric_w4", "relative_mse_bnb_nf4"}
    assert {key for key, value in entry.row.items() if value is None} >= undefined
    assert entry.row["w4_mse"] == 0.0


@pytest.mark.parametrize("name", TYPES)
def test_a_weight_that_is_no_number_is_named(tmp_path: Path, name: str) -> None:
    bad = heavy((4, 8), 1, TYPES[name])
    bad[2, 3] = math.nan
    with pytest.raises(InputError, match=r"tensor a\.weight .*not a number"):
        diagnose(checkpoint(tmp_path, {"a.weight": bad}), None, Plan(schemes=BOTH), label="x")


def test_an_unknown_stored_type_is_named(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, {"a.weight": torch.ones(4, 8, dtype=torch.uint8)})
    with pytest.raises(InputError, match=r"a\.weight .*stored as U8"):
        diagnose(folder, None, Plan(), label="x")


def row(name: str, numel: int, **values: object) -> Measured:
    columns = dict.fromkeys(Plan().columns(), 1.0) | {"module_name": name, "numel": numel} | values
    sums = {"numel": float(numel), "weight_sq": 2.0 * numel, "error_sq.symmetric-w4": float(values["error_sq"])}
    return Measured(columns, sums)


def test_summary_by_hand() -> None:
    plan = Plan()
    found = summarize(
        [
            row("a", 100, kurtosis=3.0, max_abs=1.0, w4_snr_db=20.0, w4_relative_mse=0.01, error_sq=2.0),
            row("b", 300, kurtosis=7.0, max_abs=2.0, w4_snr_db=10.0, w4_relative_mse=0.1, error_sq=60.0),
            row("c", 100, kurtosis=None, max_abs=0.0, w4_snr_db=None, w4_relative_mse=None, error_sq=0.0),
        ],
        plan,
    )
    assert (found["tensors"], found["weights"], found["max_abs_max"]) == (3, 500, 2.0)
    assert found["kurtosis_weighted"] == 6.0
    assert found["w4_snr_db_mean"] == 15.0
    assert found["relative_mse_symmetric_w4_pooled"] == pytest.approx(62 / 1000)
    assert found["w4_snr_db_pooled"] == pytest.approx(-10 * math.log10(0.062))
    assert found["top_relative_mse"] == [{"module": "b", "value": 0.1}, {"module": "a", "value": 0.01}]
    reasons = null_reasons(found, plan, trained=False)
    assert set(reasons) == {key for key, value in found.items() if value is None}
    assert "base" in reasons["code_flip_frac_symmetric_w4"]


def test_rows_as_parquet(tmp_path: Path) -> None:
    plan = Plan(schemes=BOTH)
    found = diagnose(checkpoint(tmp_path / "c", weights(torch.bfloat16)), None, plan, label="base")
    write_rows(tmp_path / "rows.parquet", found, plan)
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert table.column_names[: len(BASE_COLUMNS)] == list(BASE_COLUMNS)
    assert table.to_pylist() == [entry.row for entry in found]
    assert str(table.schema.field("relative_update_norm").type) == "double"

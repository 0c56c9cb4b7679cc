"""A manifest finds every change of the files that decide what a checkpoint computes."""

from __future__ import annotations

import json

import pytest

from gainwatt.checkpoint import hash_folder, identity, read_manifest, write_manifest, write_missing
from gainwatt.errors import InputError, UnavailableError


@pytest.fixture
def manifest(tmp_path):
    folder = tmp_path / "dense"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model-00001.safetensors").write_bytes(b"12345678")
    (folder / "model-00002.safetensors").write_bytes(b"1234")
    path = folder / "manifest.json"
    write_manifest(path, variant="base", scheme="dense", about={"source": "here"})
    return path


def test_round_trip(manifest):
    found = read_manifest(manifest)
    assert (found.variant, found.scheme, found.folder) == ("base", "dense", manifest.parent)
    assert found.weight_bytes == 12
    assert found.about == {"source": "here"}
    assert found.sha256 == identity(hash_folder(manifest.parent))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json"),
        (lambda folder: (folder / "model-00002.safetensors").write_bytes(b"4321"), "model-00002.safetensors"),
        (lambda folder: (folder / "model-00002.safetensors").unlink(), "model-00002.safetensors"),
        (lambda folder: (folder / "chat_template.jinja").write_text("x"), "chat_template.jinja"),
    ],
)
def test_changed_missing_and_extra_files_are_named(manifest, change, name):
    change(manifest.parent)
    with pytest.raises(InputError, match=f"{name} changed, appeared or went missing"):
        read_manifest(manifest)
    assert read_manifest(manifest, verify=False).variant == "base"


def test_files_that_decide_nothing_are_ignored(manifest):
    before = read_manifest(manifest).sha256
    for name in ("README.md", "training_args.bin", ".gitattributes"):
        (manifest.parent / name).write_text("x")
    assert read_manifest(manifest).sha256 == before


def test_identity_is_of_names_and_contents(manifest, tmp_path):
    files = hash_folder(manifest.parent)
    assert identity(dict(reversed(files.items()))) == identity(files)
    renamed = {"other" if name == "config.json" else name: entry for name, entry in files.items()}
    assert identity(renamed) != identity(files)


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match="is not a checkpoint") as caught:
        write_manifest(tmp_path / "manifest.json", variant="base", scheme="dense")
    assert "pickled" in caught.value.hint
    assert not (tmp_path / "manifest.json").exists()


def test_a_folder_elsewhere(manifest, tmp_path):
    made = write_manifest(tmp_path / "m" / "manifest.json", variant="base", scheme="dense", folder=manifest.parent)
    assert read_manifest(tmp_path / "m" / "manifest.json").folder == made.folder == manifest.parent
    manifest.parent.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="which is not there"):
        read_manifest(tmp_path / "m" / "manifest.json")


def test_a_checkpoint_may_be_moved_with_its_manifest(manifest, tmp_path):
    moved = manifest.parent.rename(tmp_path / "moved")
    assert read_manifest(moved / "manifest.json").folder == moved


@pytest.mark.parametrize("status", ["oom", "unavailable"])
def test_a_checkpoint_that_could_not_be_made_is_unavailable(tmp_path, status):
    path = tmp_path / "manifest.json"
    write_missing(path, variant="grpo-s0", scheme="awq-w4g128", status=status, reason="too large")
    with pytest.raises(UnavailableError, match=f"no awq-w4g128 checkpoint of grpo-s0: {status}, too large"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read the checkpoint manifest"),
        ('{"kind": "gainwatt-ch', "cannot read the checkpoint manifest"),
        ("[]", "is not a checkpoint manifest of this version"),
        ('{"kind": "gainwatt-checkpoint", "schema_version": 0}', "is not a checkpoint manifest of this version"),
        ('{"kind": "gainwatt-checkpoint", "schema_version": 1}', "lacks status, reason, variant, scheme"),
        ('{"kind": "gainwatt-checkpoint", "schema_version": 1, "status": "ok"}', "lacks variant, scheme, folder"),
    ],
)
def test_truncated_foreign_and_incomplete_manifests(tmp_path, text, message):
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_manifest(path)
    assert str(path) in caught.value.what


def test_no_manifest(tmp_path):
    with pytest.raises(InputError, match="there is no checkpoint manifest"):
        read_manifest(tmp_path / "manifest.json")


def test_the_parent_is_kept(manifest):
    write_manifest(manifest, variant="base", scheme="bnb-nf4", parent_sha256="p" * 64)
    assert read_manifest(manifest).parent_sha256 == "p" * 64
    assert json.loads(manifest.read_text())["folder"] == "."

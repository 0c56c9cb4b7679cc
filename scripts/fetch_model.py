"""Bring the base model of a study into place and write its manifest.

hub:ORG/NAME  downloads the pinned revision (safetensors, configuration and tokenizer only)
a folder      is used where it lies; only its manifest is written

With model.thinking the chat template is changed: of a folder that is used where it lies, in a copy made of links.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from gainwatt import cli, hub
from gainwatt.atomic import atomic_folder
from gainwatt.checkpoint import write_manifest
from gainwatt.errors import InputError
from gainwatt.job import Job
from gainwatt.study import BASE, DENSE, Study, hub_id, is_hub
from gainwatt.thinking import linked_copy, set_thinking


def download(study: Study, folder: Path) -> None:
    """Download the pinned revision of a hub model into `folder`, whole or not at all."""
    unreachable = hub.go_offline_if_unreachable()
    from huggingface_hub import snapshot_download

    name = hub_id(study.model.source)
    with atomic_folder(folder) as temporary:
        try:
            snapshot_download(
                name, revision=study.model.revision, local_dir=temporary, allow_patterns=[*hub.MODEL_FILES]
            )
        except Exception as error:
            why = unreachable or f"{type(error).__name__}: {error}"
            raise InputError(
                f"cannot download {name} at revision {study.model.revision}: {why}",
                hub.model_hint(name, study.model.revision, study.study),
            ) from error
        shutil.rmtree(temporary / ".cache", ignore_errors=True)
        if study.model.thinking is not None:
            set_thinking(temporary, on=study.model.thinking)


def link(source: Path, folder: Path, *, thinking: bool) -> None:
    """A copy of the model in `source` that differs in its chat template alone, whole or not at all."""
    with atomic_folder(folder) as temporary:
        linked_copy(source, temporary)
        set_thinking(temporary, on=thinking)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="manifest to write (default: from the study)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record to write (default: from the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    source = study.model.source
    if source == "embedded":
        raise InputError("the study's model is embedded: there is nothing to fetch", "run scripts/warm_start.py")
    manifest = args.manifest or layout.manifest(BASE)
    record = args.record or layout.record("fetch_model", BASE)
    with Job(stage="fetch_model", cell={"variant": BASE, "source": source}, study=study, record=record) as job:
        local = None if is_hub(source) else Path(source)
        if local is None:
            with job.phase("download"):
                download(study, manifest.parent)
        elif study.model.thinking is not None:
            link(local, manifest.parent, thinking=study.model.thinking)
            local = None
        with job.phase("hash"):
            made = write_manifest(
                manifest,
                variant=BASE,
                scheme=DENSE,
                folder=local,
                about={"source": source, "revision": study.model.revision},
            )
        job.outputs["checkpoint"] = {"sha256": made.sha256, "bytes": made.weight_bytes}
        job.metrics["weight_bytes"] = made.weight_bytes
    return 0


if __name__ == "__main__":
    cli.run(main)

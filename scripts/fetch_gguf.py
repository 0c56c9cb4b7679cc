"""Bring the GGUF file of every quantization type that the study's section `llamacpp` names.

base            the study's base model, converted and quantized by llama.cpp
hub:ORG/NAME    downloads the files of the pinned revision, those of the named types only
a folder        uses the files that are in it; one .gguf file is used as it is

A type without a file of its own is made from the type llamacpp.make_from, or noted with the reason. Writes files.json,
the list of files, and the record. Runs in the environment llamacpp (make env NAME=llamacpp).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from gainwatt import cli
from gainwatt.checkpoint import Checkpoint, read_manifest
from gainwatt.errors import InputError, UnavailableError
from gainwatt.job import Job
from gainwatt.llamacpp.arms import FILES
from gainwatt.llamacpp.files import bring, write_files
from gainwatt.llamacpp.suites import prompts_of
from gainwatt.study import BASE, Study
from gainwatt.study.llamacpp import LlamaCpp


def section_of(study: Study) -> LlamaCpp:
    """The study's section. Raises InputError where it has none."""
    if study.llamacpp is None:
        raise InputError(
            f"the study {study.study!r} has no section llamacpp", "name one, e.g. --set 'llamacpp={source: FOLDER}'"
        )
    return study.llamacpp


def check_packages() -> None:
    """Raise UnavailableError where this environment cannot read or make GGUF files."""
    try:
        import gguf  # noqa: F401
        import llama_cpp  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        raise UnavailableError(
            f"GGUF files need llama-cpp-python and gguf: {error}",
            "run in the environment 'llamacpp' (make env NAME=llamacpp)",
        ) from error


def measure(job: Job, section: LlamaCpp, base: Checkpoint | None, out: Path) -> None:
    """Bring the files and fill the record."""
    texts = [prompt.text for prompt in prompts_of(section)]
    with job.phase("files"):
        files = bring(section, out.parent, base, texts)
    if all(entry.path is None for entry in files.values()):
        raise InputError(
            "no type has a file: " + "; ".join(f"{name}: {entry.reason}" for name, entry in files.items()),
            "check llamacpp.source, llamacpp.file and llamacpp.quant_types",
        )
    job.settings["files"] = {name: asdict(entry) for name, entry in files.items()}
    for name, entry in files.items():
        if entry.path is None:
            job.null(f"{name}_bytes", str(entry.reason))
        else:
            job.metrics[f"{name}_bytes"] = entry.bytes
            job.metrics[f"{name}_bits_per_weight"] = entry.bits_per_weight
    write_files(out, files)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="manifest of the base model (source: base)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="list of files to write (default: from the study)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record to write (default: from the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    section = section_of(study)
    check_packages()
    out = args.out or layout.gguf / "files.json"
    record = args.record or layout.record("fetch_gguf", FILES)
    with Job(stage="fetch_gguf", cell={"source": section.source}, study=study, record=record) as job:
        base = None
        if section.source == "base":
            base = read_manifest(args.checkpoint or layout.manifest(BASE))
            job.add_input("checkpoint", base.sha256, variant=base.variant, scheme=base.scheme)
        measure(job, section, base, out)
    return 0


if __name__ == "__main__":
    cli.run(main)

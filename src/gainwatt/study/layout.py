"""Where each file of a study lies. Scripts and Snakemake rules ask here, so that both always agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gainwatt.schemes import get_scheme
from gainwatt.study.model import Study

DENSE = "dense"


@dataclass(frozen=True)
class Layout:
    """Paths of one study. `results` holds what is kept, `scratch` what is large or unfinished."""

    results: Path
    scratch: Path

    @classmethod
    def of(cls, study: Study) -> Layout:
        """The layout that the study's `paths` section asks for."""
        results = Path(study.paths.results) / study.study
        return cls(results, Path(study.paths.scratch) / study.study if study.paths.scratch else results)

    def data(self, split: str) -> Path:
        """JSON lines of one split (sft, train, validation, test)."""
        return self.results / "data" / f"{split}.jsonl"

    def record(self, stage: str, cell: str) -> Path:
        """The record of one cell of one stage."""
        return self.results / "records" / stage / f"{cell}.json"

    def sidecar(self, stage: str, cell: str, kind: str) -> Path:
        """A parquet file beside a record: `trace` (power), `items` (per question), `steps` (per training step)."""
        return self.results / "records" / stage / f"{cell}.{kind}.parquet"

    def checkpoint(self, variant: str, scheme: str = DENSE) -> Path:
        """Folder of a checkpoint; unquantized schemes share the variant's `dense` folder."""
        folder = DENSE if scheme == DENSE or get_scheme(scheme).dense else scheme
        return self.scratch / "checkpoints" / variant / folder

    def manifest(self, variant: str, scheme: str = DENSE) -> Path:
        """The file that names the parts of a checkpoint and their hashes; written last."""
        return self.checkpoint(variant, scheme) / "manifest.json"

    def work(self, stage: str, cell: str) -> Path:
        """Folder for what a killed job needs to go on."""
        return self.scratch / "work" / stage / cell

    def log(self, stage: str, cell: str) -> Path:
        """The log of one job."""
        return self.results / "logs" / stage / f"{cell}.log"

    def benchmark(self, stage: str, cell: str) -> Path:
        """Snakemake's own time and memory record of one job."""
        return self.results / "benchmarks" / stage / f"{cell}.tsv"

    @property
    def gguf(self) -> Path:
        """Folder of GGUF files that were downloaded or made, and of their list."""
        return self.scratch / "gguf"

    @property
    def tables(self) -> Path:
        """Folder of the tables."""
        return self.results / "tables"

    @property
    def figures(self) -> Path:
        """Folder of the figures."""
        return self.results / "figures"

"""What `snakemake --report` shows: every caption is there, and every caption belongs to something."""

from __future__ import annotations

import re

from factories import ROOT


def test_captions_and_rules_agree():
    rules = "".join(path.read_text("utf-8") for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
    named = set(re.findall(r'"\.\./report/([\w.]+)"', rules))
    there = {path.name for path in (ROOT / "workflow" / "report").iterdir()}
    assert named == there
    assert len(named) >= 9


def test_captions_are_sentences_within_the_line():
    for path in (ROOT / "workflow" / "report").iterdir():
        text = path.read_text("utf-8")
        assert text.rstrip().endswith("."), path
        assert max(map(len, text.splitlines())) <= 130, path

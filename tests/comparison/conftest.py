"""Two runs of one small study, the same item by item until a test changes one of them."""

from __future__ import annotations

import pytest

from validation.records import make_study, write_clean


@pytest.fixture
def pair(tmp_path):
    """Studies A and B: the same study under two results folders."""
    made = []
    for name in ("a", "b"):
        study = make_study(tmp_path / name)
        write_clean(study)
        made.append(study)
    return made

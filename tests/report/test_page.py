"""Both pages as text: well formed, complete, escaped, closed to the network, the same bytes each time."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys

import pytest

from factories import ROOT, run_script
from gainwatt.report.page import content_security_policy, embedded_json
from gainwatt.report.registry import BRANCH_SECTIONS, SECTIONS
from report.html import Page
from report.rich import HOSTILE


@pytest.fixture(scope="module", params=["report", "items"])
def page(request, pages):
    return Page(getattr(pages, request.param))


@pytest.fixture(scope="module")
def report(pages):
    return Page(pages.report)


def test_it_is_well_formed_and_no_id_comes_twice(page):
    assert page.wrong == []
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    assert page.all("html")[0].attributes["lang"] == "en"
    assert [element.tag for element in page.elements].count("h1") == 1


def test_links_inside_the_page_lead_somewhere(page):
    ids = {element.attributes.get("id") for element in page.elements}
    links = [element.attributes["href"] for element in page.all("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    assert not [link for link in links if ":" in link.split("#")[0]], "no link leaves the folder"


def test_nothing_comes_from_elsewhere(page):
    for element in page.elements:
        for name in ("src", "srcset", "data", "action", "xlink:href"):
            assert element.attributes.get(name, "data:").startswith("data:"), element
        assert not [name for name in element.attributes if name.startswith("on")], element
        assert "style" not in element.attributes, "the policy would refuse it"
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {e.tag for e in page.elements} - {"form"}


def test_the_policy_names_exactly_this_script_and_style(page):
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0].attributes["content"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    scripts = [s for s in page.all("script") if "type" not in s.attributes]
    assert len(scripts) == 1
    for element in (*scripts, *page.all("style")):
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_what_people_wrote_is_text(page):
    assert not [s for s in page.all("script") if "owned" in s.text and "type" not in s.attributes]
    assert not [image for image in page.all("img") if image.attributes.get("src") == "x"]
    assert page.all("title")[0].text.startswith("rich: ")


def test_hostile_texts_arrive_whole(report):
    text = report.root.all_text()
    assert text.count(HOSTILE.replace("\u2028", "")) + text.count(HOSTILE) >= 3  # description, reason, finding
    assert "<b>x</b>" in text


def test_every_section_has_its_heading_and_something_below(report):
    parts = report.all("section", **{"class": "part"})
    assert [part.attributes["id"] for part in parts] == [key for key in SECTIONS if key not in BRANCH_SECTIONS]
    for part in parts:
        heading, *rest = [child for child in part.children if child.tag != "#text"]
        assert heading.tag == "h2"
        assert heading.all_text() == SECTIONS[part.attributes["id"]][0]
        assert any(element.all_text().strip() for element in rest)
    listed = [link.attributes["href"] for link in report.all("nav")[0].children[0].children[1].children[0].children]
    assert listed == ["#verdict"]


def test_the_answer_stands_first(report):
    header = report.id("verdict").all_text()
    assert "It depends on the scheme" in header or "Undecided" in header or "Yes" in header
    assert re.search(r"points \[[−+]?\d+\.\d, [−+]?\d+\.\d\]", header)
    assert "There is no verdict on gptq-w4g128" in header
    assert "1 error and 1 warning of the validator" in header
    assert "1 file could not be used" in header
    assert "records are not there yet" in header


def test_statuses_reasons_and_unknown_tables_are_shown(report):
    matrix = report.id("matrix").all_text()
    assert "out of memory" in matrix
    assert "tried to allocate 2.00 GiB" in matrix
    assert "unavailable" in matrix
    assert "not measured yet" in matrix
    appendix = report.id("table-surprise").all_text()
    assert "latency ms" in " ".join(appendix.split())
    assert "25.0" in appendix
    assert "secret.svg cannot be read" in report.id("appendix").all_text()


def test_every_figure_and_table_names_its_records(report):
    sources = {element.attributes["id"]: element for element in report.all("li") if "id" in element.attributes}
    for kind in ("figure", "table"):
        shown = [e.attributes["id"] for e in report.elements if e.attributes.get("id", "").startswith(f"{kind}-")]
        for name in shown:
            if name not in ("table-records", "table-problems", "table-missing", "table-stale"):
                assert "records/" in sources[f"from-{name}"].all_text(), name
    power = sources["from-figure-power_trace"].all_text()
    assert power.count("records/") == 1
    records = report.id("t-records").all_text()
    assert "records/evaluate_gsm8k/base.fp32.json" in records


def test_the_same_bytes_again_and_without_heavy_imports(pages, tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['make_report.py', '--study', {str(pages.file)!r}, '--out', {str(tmp_path / 'report.html')!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'scripts' / 'make_report.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "heavy = ('torch', 'transformers', 'pandas', 'matplotlib')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": "11"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().endswith("[]")
    assert (tmp_path / "report.html").read_bytes() == pages.report_file.read_bytes()
    assert (tmp_path / "items.html").read_bytes() == pages.items_file.read_bytes()


def test_a_study_without_any_record_gets_its_page(tmp_path):
    from factories import study_content, write_study

    done = run_script("make_report", "--study", write_study(tmp_path, study_content(tmp_path)))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "tiny"
    text = Page((folder / "report.html").read_text("utf-8")).root.all_text()
    assert "Not answered: no cell has been measured." in text
    assert "There is no record under" in text
    assert "tables/accuracy_matrix.csv is not there; run make_tables" in text
    assert "The validator has not run" in text
    items = Page((folder / "items.html").read_text("utf-8"))
    assert items.wrong == []
    assert "There are no two cells to compare yet: no cell has items." in items.root.all_text()


def test_tables_of_other_records_are_named(pages, tmp_path):
    import shutil

    shutil.copytree(pages.layout.results, tmp_path / "results" / "rich")
    path = tmp_path / "results" / "rich" / "tables" / "accuracy_matrix.csv"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join([lines[0], *lines[2:]]), "utf-8")
    done = run_script("make_report", "--study", pages.file, "--set", f"paths.results={tmp_path / 'results'}")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "results" / "rich" / "report.html").read_text("utf-8")
    assert "The tables are not made from these records (base.fp32)" in text
    assert "--set paths.results=" in text


def test_json_inside_a_script_element_cannot_end_it():
    import json

    value = {"text": "</script><!--\u2028\u2029&amp;", "n": [1, None, 0.5]}
    text = str(embedded_json(value))
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)
    with pytest.raises(ValueError, match="Out of range float"):
        embedded_json(float("nan"))


def test_the_policy_changes_with_the_script():
    assert content_security_policy("a", "b") != content_security_policy("a", "c")

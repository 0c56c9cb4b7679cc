"""Both pages in a real headless Chromium: no error, no request, and every control does what it says."""

from __future__ import annotations

import pytest

from gainwatt.report.registry import BRANCH_SECTIONS, SECTIONS

PHONE = {"width": 390, "height": 844}
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
TEXTS = "[...document.querySelectorAll('#t-gain_survival tbody tr')].map(row => row.cells[4].dataset.v)"


@pytest.fixture
def report(chromium, pages):
    chromium.open(pages.report_file)
    yield chromium
    assert chromium.problems() == []
    assert chromium.requests() == []


@pytest.fixture
def items(chromium, pages):
    chromium.open(pages.items_file)
    ready(chromium)
    yield chromium
    assert chromium.problems() == []
    assert chromium.requests() == []


def ready(browser):
    browser.until("/\\d+ of \\d+ items/.test(document.getElementById('status').textContent)")


def test_every_section_is_there_after_the_scripts_ran(report):
    ids = report.value("[...document.querySelectorAll('main section.part')].map(part => part.id)")
    assert ids == [key for key in SECTIONS if key not in BRANCH_SECTIONS]
    assert report.value("document.title").startswith("rich: Does the accuracy that GRPO gained")


def test_tables_sort_by_click_and_by_key_as_numbers(report):
    head = "document.querySelectorAll('#t-gain_survival th')[4]"
    before = [float(text) for text in report.value(TEXTS)]
    report.value(f"{head}.querySelector('button').click()")
    assert [float(text) for text in report.value(TEXTS)] == sorted(before)
    assert report.value(f"{head}.getAttribute('aria-sort')") == "ascending"
    report.value(f"{head}.querySelector('button').focus()")
    report.key("Enter", "\r")
    assert [float(text) for text in report.value(TEXTS)] == sorted(before, reverse=True)
    assert report.value(f"{head}.getAttribute('aria-sort')") == "descending"
    others = "document.querySelectorAll('#t-gain_survival th[aria-sort=none]').length"
    assert report.value(others) == report.value("document.querySelectorAll('#t-gain_survival th').length") - 1


def test_nulls_stay_last_either_way(report):
    values = "[...document.querySelectorAll('#t-accuracy_matrix tbody tr')].map(row => row.cells[2].dataset.v)"
    for _ in range(2):
        report.value("document.querySelectorAll('#t-accuracy_matrix th')[2].querySelector('button').click()")
        found = report.value(values)
        empty = [place for place, text in enumerate(found) if text == ""]
        assert len(empty) == 5
        assert empty == list(range(len(found) - 5, len(found)))


def test_more_columns_on_demand(report):
    shown = "[...document.querySelectorAll('#t-accuracy_matrix th')].filter(head => head.offsetParent).length"
    button = "document.querySelector('button[data-table=t-accuracy_matrix]')"
    few = report.value(shown)
    report.value(f"{button}.click()")
    assert report.value(shown) == report.value("document.querySelectorAll('#t-accuracy_matrix th').length") > few
    assert report.value(f"{button}.getAttribute('aria-pressed')") == "true"


def test_marks_tell_their_numbers_to_mouse_and_keyboard(report):
    tip = "document.getElementById('tip').hidden ? null : document.getElementById('tip').textContent"
    mark = "document.querySelector('#figure-accuracy svg.wide .mark')"
    report.value(f"{mark}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    report.frames()
    box = report.value(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({mark}.getBoundingClientRect())")
    report.mouse(*box)
    report.until(f"({tip}) !== null")
    assert report.value(tip).startswith("base, fp32: ")
    assert report.value(tip).endswith("of 60 items")
    report.mouse(1, 1)
    report.until(f"({tip}) === null")
    report.value("document.querySelectorAll('#figure-gain_survival svg.wide .mark')[1].focus()")
    report.until(f"({tip}) !== null")
    assert "points [" in report.value(tip)
    report.key("Escape")
    assert report.value(tip) is None
    report.value("document.querySelector('#figure-training_reward svg.lines').focus()")
    report.key("ArrowRight")
    report.until(f"({tip}) !== null")
    assert report.value(tip).splitlines()[0] == "optimizer step 1"
    assert [line.split(":")[0] for line in report.value(tip).splitlines()[1:]] == ["grpo-s0", "grpo-s1", "grpo-s2"]


def test_dark_mode_follows_the_system_and_the_button(chromium, pages):
    background = "getComputedStyle(document.body).backgroundColor"
    chromium.open(pages.report_file)
    light = chromium.value(background)
    chromium.open(pages.report_file, dark=True)
    dark = chromium.value(background)
    assert brightness(light) > 600
    assert brightness(dark) < 150
    assert brightness(chromium.value("getComputedStyle(document.body).color")) > 500
    chromium.value("document.getElementById('theme').click()")
    assert chromium.value(background) == light
    chromium.open(pages.report_file, dark=True)
    assert chromium.value(background) == light, "the choice is kept"
    chromium.value("localStorage.clear()")
    assert chromium.problems() == []


def brightness(colour: str) -> int:
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


@pytest.mark.parametrize("name", ["report_file", "items_file"])
def test_a_phone_scrolls_in_one_direction_only(chromium, pages, name):
    chromium.open(getattr(pages, name), **PHONE)
    assert chromium.value("innerWidth") == 390
    if name == "items_file":
        ready(chromium)
    else:
        chromium.value("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        chromium.value("document.querySelectorAll('button.more').forEach(button => button.click())")
        assert chromium.value("getComputedStyle(document.querySelector('.chart.wide')).display") == "none"
        assert chromium.value("document.querySelector('.chart.narrow').getBoundingClientRect().width") > 250
    assert chromium.value(OVERFLOW) == 0
    assert chromium.problems() == []


def test_items_are_filtered_and_searched(items):
    counts = items.value("[...document.querySelectorAll('.kind b')].map(count => Number(count.textContent))")
    assert sum(counts) == 60
    cards = "[...document.querySelectorAll('.item')].map(card => card.querySelector('.badge').textContent)"
    assert "both right" not in items.value(cards)
    items.value("document.querySelector('.kind[data-kind=improved]').click()")
    items.value("document.querySelector('.kind[data-kind=other]').click()")
    assert set(items.value(cards)) <= {"worsened"}
    items.value("document.querySelector('.kind[data-kind=right]').click()")
    assert "both right" in items.value(cards)
    items.value("document.getElementById('search').value = 'what is 41'")
    items.value("document.getElementById('search').dispatchEvent(new Event('input'))")
    items.until("document.getElementById('status').textContent.includes('what is 41')")
    assert items.value("document.querySelectorAll('.item').length") <= 1


def test_a_deep_link_opens_its_pair_and_its_item(chromium, pages):
    chromium.open(pages.items_file, "#pair=grpo-s0.fp32..grpo-s0.bnb-nf4&item=7")
    ready(chromium)
    assert chromium.value("document.getElementById('pair').value") == "grpo-s0.fp32..grpo-s0.bnb-nf4"
    assert chromium.value("document.querySelector('.item.target').id") == "item-7"
    chromium.open(pages.items_file, "#pair=nobody..nothing&item=99999")
    ready(chromium)
    assert "There is no item 99999" in chromium.value("document.getElementById('status').textContent")
    assert chromium.problems() == []


def test_hostile_answers_are_shown_and_not_run(chromium, pages):
    chromium.open(pages.items_file, "#item=0")
    ready(chromium)
    shown = chromium.value("document.querySelector('.item.target').textContent")
    assert shown.count("</script><script>document.title='owned'</script><img src=x onerror") == 3
    assert chromium.value("document.title") == "rich: items that changed"
    assert chromium.value("document.querySelectorAll('main img, main script').length") == 0
    assert chromium.problems() == []


def test_both_ways_of_embedding_are_read(chromium, pages, tmp_path):
    import gzip
    import re
    from base64 import b64encode

    def packed(match):
        text = b64encode(gzip.compress(match[1].encode(), mtime=0)).decode()
        return f'<script type="application/octet-stream" class="cell" data-encoding="gzip">{text}</script>'

    text, found = re.subn(
        r'<script type="application/json" class="cell" data-encoding="json">(.*?)</script>', packed, pages.items
    )
    assert found == 15
    (tmp_path / "items.html").write_text(text, "utf-8")
    chromium.open(tmp_path / "items.html")
    ready(chromium)
    assert chromium.value("document.querySelectorAll('.item').length") > 5
    assert chromium.problems() == []


def test_paper_shows_what_is_folded(report):
    report.value("dispatchEvent(new Event('beforeprint'))")
    assert report.value("document.querySelectorAll('main details:not([open])').length") == 0

"""Prompts of suites: own ones, files, combinations drawn from templates."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.errors import InputError
from gainwatt.llamacpp.suites import draw, prompts_of, prompts_sha256, read_prompts
from gainwatt.study.llamacpp import LlamaCpp, PromptTemplate


def test_each_suite_has_three_prompts_of_its_own():
    found = prompts_of(LlamaCpp())
    assert [prompt.id for prompt in found] == [f"{s}-{n}" for s in ("sd", "ar", "ng") for n in (1, 2, 3)]
    assert len({prompt.text for prompt in found}) == 9
    assert {prompt.template for prompt in found} == {"manual"}


def test_both_sources_together():
    found = prompts_of(LlamaCpp(suites=("ar",), prompt_source="both"))
    assert [prompt.template for prompt in found] == ["manual"] * 3 + ["ar-auto"] * 3
    assert all("{" not in prompt.text for prompt in found)


@given(st.integers(0, 99), st.integers(1, 12))
def test_a_draw_is_of_the_product_without_repetition_and_repeats(seed, count):
    variables = {"a": ("x", "y", "z"), "b": ("1", "{a}")}
    template = PromptTemplate(name="t", suite="sd", text="{a}-{b}-{c}", count=count, variables=variables)
    texts = [prompt.text for prompt in draw(template, seed)]
    assert len(texts) == min(count, 6) == len(set(texts))
    assert set(texts) <= {f"{a}-{b}-{{c}}" for a in "xyz" for b in ("1", "{a}")}
    assert texts == [prompt.text for prompt in draw(template, seed)]


def test_another_seed_draws_others():
    variables = {"a": tuple(map(str, range(50)))}
    template = PromptTemplate(name="t", suite="sd", text="{a}", count=3, variables=variables)
    assert draw(template, 1) != draw(template, 2)


def test_a_file_of_prompts(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"id": "a", "text": "Hello?"}\n\n{"id": "b", "text": "Why?", "template": "t"}\n')
    found = prompts_of(LlamaCpp(suites=(str(path), "sd")))
    assert [(prompt.suite, prompt.id, prompt.template) for prompt in found[:2]] == [
        ("mine", "a", "manual"), ("mine", "b", "t"),
    ]  # fmt: skip
    assert prompts_sha256(found) != prompts_sha256(found[1:])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no prompt"),
        ("{", "line 1 is not JSON"),
        ('{"id": "a"}', "line 1 is no prompt"),
        ('["a"]', "line 1 is no prompt"),
        (json.dumps({"id": "a", "text": " "}), "line 1 is no prompt"),
        (json.dumps({"id": "a", "text": "b", "answer": "c"}), "line 1 is no prompt"),
    ],
)
def test_a_bad_file_is_refused_by_line(tmp_path, text, said):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_prompts(path)


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="cannot read the prompts"):
        read_prompts(tmp_path / "none.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not a UTF-8"):
        read_prompts(tmp_path / "bytes.jsonl")
    template = PromptTemplate(name="t", suite="sd", file=str(tmp_path / "t.txt"), variables={"a": ("1",)})
    with pytest.raises(InputError, match="cannot read the template"):
        draw(template, 0)
    (tmp_path / "t.txt").write_text("nothing to fill")
    with pytest.raises(InputError, match=r"does not hold \{a\}"):
        draw(template, 0)


def test_two_prompts_of_one_id_and_a_suite_without_any(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "sd-1", "text": "Hello?"}\n')
    with pytest.raises(InputError, match="two prompts are called 'sd-1'"):
        prompts_of(LlamaCpp(suites=("sd", str(path))))
    with pytest.raises(InputError, match="the suite 'x' has no prompts"):
        prompts_of(LlamaCpp(suites=(str(path),), prompt_source="auto"))

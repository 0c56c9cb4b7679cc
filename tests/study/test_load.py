"""Every mistake in a study file is named before anything runs."""

from __future__ import annotations

import pytest

from factories import ROOT
from gainwatt.errors import InputError
from gainwatt.study import load_study

BASE = "study: tiny\ndata: {source: embedded}\nmodel: {source: embedded}\n"


@pytest.fixture
def load(tmp_path):
    def call(text: str = BASE, *overrides: str, **options):
        path = tmp_path / "my-study.yaml"
        path.write_text(text, "utf-8")
        return load_study(path, overrides, **options)

    return call


def refused(load, *args, **options) -> str:
    with pytest.raises(InputError) as caught:
        load(*args, **options)
    return str(caught.value)


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_committed_studies_load(path):
    assert load_study(path).study == path.stem.removeprefix("reference-")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("evaluate: {batchsize: 4}", "evaluate.batchsize: there is no such key; did you mean 'batch_size'?"),
        ("evaluat: {batch_size: 4}", "evaluat: there is no such key; did you mean 'evaluate'?"),
        ("learning_rate: 1", "learning_rate: there is no such key; 'learning_rate' is a key of the section 'train'"),
        ("train: {batch_size: 4}", "train.batch_size: there is no such key; 'batch_size' is a key of the section"),
        ("train: {lora: {rank_: 4}}", "train.lora.rank_: there is no such key"),
        ("resources: {train: {gpu: 1}}", "resources.train.gpu: there is no such key; did you mean 'gpus'?"),
        ("zzzz: 1", "zzzz: there is no such key; valid keys here: study, description, data"),
    ],
)
def test_an_unknown_key_names_the_closest_and_the_file(load, text, said):
    message = refused(load, BASE + text)
    assert said in message
    assert "my-study.yaml" in message
    assert "config/README.md" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("evaluate: {batch_size: many}", "evaluate.batch_size: Input should be a valid integer"),
        ("evaluate: {batch_size: true}", "evaluate.batch_size: Input should be a valid integer"),
        ("evaluate: {batch_size: 0}", "evaluate.batch_size: Input should be greater than or equal to 1"),
        ("evaluate: {batch_size: 1.5}", "evaluate.batch_size: Input should be a valid integer"),
        ("train: {learning_rate: .inf}", "train.learning_rate: Input should be a finite number"),
        ("train: {learning_rate: fast}", "train.learning_rate: Input should be a valid number"),
        ("train: {seeds: 3}", "train.seeds: Input should be a valid tuple"),
        ("train: {seeds: []}", "train.seeds: Tuple should have at least 1 item"),
        ("train: {seeds: [1, 1]}", "seeds [1, 1] names a seed twice"),
        ("evaluate:", "evaluate: Input should be a valid dictionary"),
        ("cost: {pue: 0.5}", "cost.pue: Input should be greater than or equal to 1 (given: 0.5)"),
    ],
)
def test_a_wrong_type_or_value_is_named(load, text, said):
    message = refused(load, BASE + text)
    assert said in message
    assert "my-study.yaml" in message


def test_every_error_is_listed_at_once(load):
    message = refused(load, BASE + "train: {beta: x}\ncost: {pue: 9}\n")
    assert "has 2 error(s)" in message
    assert "train.beta" in message
    assert "cost.pue" in message


def test_numbers_as_yaml_writes_them(load):
    assert load(BASE + "train: {learning_rate: 1e-6}").train.learning_rate == 1e-6
    assert load(BASE + "train: {beta: 1}").train.beta == 1.0


def test_an_impossible_group_size_is_explained(load):
    message = refused(load, BASE + "train: {num_generations: 3}")
    assert "= 8 completions per step cannot be split into groups of num_generations = 3" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quantize: {schemes: [bnb-nf]}", "there is no quantization scheme 'bnb-nf'; did you mean 'bnb-nf4'?"),
        ("quantize: {reference: bf61}", "there is no quantization scheme 'bf61'; did you mean 'bf16'?"),
        ("quantize: {reference: bnb-nf4, schemes: []}", "'bnb-nf4' is quantized; name an unquantized scheme"),
        ("quantize: {schemes: [fp16, bf16]}", "a scheme is named twice in ['bf16', 'fp16', 'bf16']"),
    ],
)
def test_schemes_are_checked(load, text, said):
    assert said in refused(load, BASE + text)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (BASE + "train: {beta: 0.1}\ntrain: {beta: 0.2}\n", "'train' stands in line 4 and again in line 5"),
        (BASE + "train:\n  beta: 0.1\n  epsilon: 0.2\n  beta: 0.3\n", "'beta' stands in line 5 and again in line 7"),
    ],
)
def test_a_key_given_twice_names_both_lines(load, text, lines):
    message = refused(load, text)
    assert lines in message
    assert "my-study.yaml" in message


def test_merge_keys_work(load):
    study = load("study: tiny\ndata: &here {source: embedded}\nmodel: {<<: *here, dtype: fp32}\n")
    assert (study.model.source, study.model.dtype) == ("embedded", "fp32")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not hold a mapping"),
        ("- a\n", "does not hold a mapping"),
        ("study: [\n", "is not valid YAML"),
        (BASE + "? [a, b]\n: 1\n", "the key in line 4 is no plain word"),
        (BASE + "description: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    ],
)
def test_broken_yaml_is_named_and_nothing_is_run(load, text, said):
    message = refused(load, text)
    assert said in message
    assert "my-study.yaml" in message


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the study .*absent\.yaml: No such file"):
        load_study(tmp_path / "absent.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not a UTF-8 text file"):
        load_study(tmp_path / "b.yaml")


def test_missing_folders_and_interpreters_are_named(load, tmp_path):
    data = f"study: tiny\ndata: {{source: {tmp_path}/no}}\nmodel: {{source: embedded}}\n"
    message = refused(load, data)
    assert f"names data.source: {tmp_path}/no, and there is no such folder" in message
    assert "train.jsonl" in message
    model = f"study: tiny\ndata: {{source: embedded}}\nmodel: {{source: {tmp_path}/no}}\n"
    assert "names model.source:" in refused(load, model)
    assert load(model, check_paths=False).model.source == f"{tmp_path}/no"
    message = refused(load, BASE + "environments: {vllm: /no/python}")
    assert "environments.vllm: /no/python" in message
    assert "make env NAME=vllm" in message


def test_hub_sources(load):
    bad = "study: tiny\ndata: {source: embedded}\nmodel: {source: 'hub:x', revision: abc}\n"
    message = refused(load, bad)
    assert "my-study.yaml names model.source: 'hub:x' is not a hub source" in message
    assert "needs `revision`" in refused(load, bad.replace(", revision: abc", ""))
    assert load(bad.replace("hub:x", "hub:org/name")).model.source == "hub:org/name"


def test_overrides_are_applied_and_typed(load):
    study = load(BASE, "evaluate.batch_size=4", "train.lora.r=8", "quantize.schemes=[fp16]", "description=a=b")
    assert study.evaluate.batch_size == 4
    assert study.train.lora.r == 8
    assert study.quantize.schemes == ("fp16",)
    assert study.description == "a=b"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluate.batch_size", "cannot read the override"),
        ("=4", "cannot read the override"),
        ("study.x=4", "goes through 'study', which is not a section"),
        ("evaluate.batch_size=[1", "is not valid YAML"),
        ("evaluate.batchsize=4", "did you mean 'batch_size'?"),
        ("evaluate.batch_size=four", "evaluate.batch_size: Input should be a valid integer"),
    ],
)
def test_bad_overrides_are_named(load, override, said):
    assert said in refused(load, BASE, override)


def test_embedded_sizes_must_suffice(load):
    message = refused(load, BASE + "embedded: {problems: {test_items: 5}}\n", "data.test_limit=6")
    assert "data.test_limit asks for 6 items, but embedded.problems makes only 5" in message

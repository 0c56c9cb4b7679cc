"""From the shape of lm-eval's results to rows and metrics."""

from __future__ import annotations

import math

from gainwatt.tasks.results import keep, metrics_of


def sample(doc_id, value, filtered="none", **more):
    return {
        "doc_id": doc_id, "doc": {"question": f"q{doc_id}"}, "target": 1, "filtered_resps": [["-1.5", "False"]],
        "filter": filtered, "metrics": ["acc"], "doc_hash": f"d{doc_id}", "prompt_hash": f"p{doc_id}", "acc": value,
    } | more  # fmt: skip


def results(samples, values):
    return {
        "samples": {"toy": samples},
        "results": {"toy": {"name": "toy", "alias": "toy", "sample_len": 2, **values}},
        "configs": {"toy": {"output_type": "multiple_choice", "dataset_path": "o/n", "validation_split": "validation"}},
        "n-samples": {"toy": {"original": 9, "effective": 2}},
        "versions": {"toy": 1.0},
        "n-shot": {"toy": 0},
        "higher_is_better": {"toy": {"acc": True}},
    }


def test_values_keep_metric_and_filter():
    found = keep(results([sample(0, 1.0)], {"acc,none": 0.5, "acc_stderr,none": "N/A", "em,strict-match": 0.25}))
    assert found["values"] == {"toy": {"acc": 0.5, "acc_stderr": None, "em.strict-match": 0.25}}
    metrics, reasons = metrics_of([found])
    assert metrics == {"toy.items": 2, "toy.acc": 0.5, "toy.acc_stderr": None, "toy.em.strict-match": 0.25}
    assert list(reasons) == ["toy.acc_stderr"]


def test_samples_are_rows_in_the_order_of_the_items():
    pair = sample(5, None, metrics=["acc", "word_perplexity"], word_perplexity=(-3.0, 2))
    found = keep(results([sample(3, 0.0), pair, sample(1, 1)], {}))
    rows = found["samples"]
    assert [(row["doc_id"], row["metric"], row["value"]) for row in rows] == [
        (1, "acc", 1.0), (3, "acc", 0.0), (5, "acc", None), (5, "word_perplexity", None),
    ]  # fmt: skip
    assert rows[0]["doc"] == '{"question": "q1"}'
    assert rows[0]["response"] == '[["-1.5", "False"]]'
    assert keep(results([sample(0, math.nan)], {}))["samples"][0]["value"] is None


def test_the_hash_of_the_items_is_that_of_questions_and_prompts():
    def hash_of(samples):
        return keep(results(samples, {}))["tasks"]["toy"]["items_sha256"]

    both = [sample(0, 1.0), sample(1, 0.0)]
    assert hash_of(both) == hash_of([sample(1, 1.0), sample(0, 1.0)])
    assert hash_of(both) != hash_of([sample(0, 1.0), sample(1, 0.0, prompt_hash="other")])
    about = keep(results(both, {}))["tasks"]["toy"]
    assert (about["version"], about["items"], about["items_in_task"], about["split"]) == (1.0, 2, 9, "validation")

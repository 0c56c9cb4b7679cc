"""The loss against a plain computation, against batches of one, and with a machine that runs out of memory."""

from __future__ import annotations

import math

import pytest

from gainwatt.modeling import load_tokenizer
from gainwatt.perplexity.measure import Scorer
from gainwatt.perplexity.partial import WindowSums
from gainwatt.perplexity.summary import summarize, window_rows
from gainwatt.perplexity.windows import encode

torch = pytest.importorskip("torch")
TEXTS = ["Anna has 3 apples and buys 5 more. How many apples?", "Ben has 2.", "x" * 60]


@pytest.fixture(scope="module")
def model(tiny_folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return load_tokenizer(tiny_folder)


def encoded(tokenizer, **changed):
    settings = {"window": 12, "stride": 5, "prefix": "auto", "max_tokens": None} | changed
    return encode(tokenizer, TEXTS, **settings)


def scores(model, tokenizer, found, batch_size=4):
    scorer = Scorer(model, found, batch_size=batch_size, pad_token_id=tokenizer.pad_token_id)
    return {index: nll for sums, _ in scorer.score(found.windows) for index, nll in sums.items()}


def test_sums_are_those_of_one_window_at_a_time(model, tokenizer):
    found = encoded(tokenizer)
    got = scores(model, tokenizer, found)
    for window in found.windows:
        ids = torch.tensor([found.sequences[window.document][window.begin : window.end]])
        logs = model(ids).logits[0].log_softmax(-1)
        expected = -sum(
            logs[i - 1, ids[0, i]].item() for i in range(window.first - window.begin, window.end - window.begin)
        )
        assert got[window.index] == pytest.approx(expected, rel=1e-4)


def test_the_size_of_a_batch_changes_nothing(model, tokenizer):
    found = encoded(tokenizer)
    assert scores(model, tokenizer, found, 16) == pytest.approx(scores(model, tokenizer, found, 1), rel=1e-5)


def test_a_window_that_holds_the_document_is_the_models_own_loss(model, tokenizer):
    found = encoded(tokenizer, window=512, stride=256, prefix="none")
    got = scores(model, tokenizer, found)
    for window in found.windows:
        ids = torch.tensor([found.sequences[window.document]])
        assert got[window.index] / window.tokens == pytest.approx(model(ids, labels=ids).loss.item(), rel=1e-5)


def test_the_documented_recipe_of_transformers_agrees(model, tokenizer):
    """Windows, targets and masks as on its page about perplexity of fixed-length models, the losses summed exactly."""
    found = encoded(tokenizer, prefix="none")
    (sequence,) = [s for s in found.sequences if len(s) > 40][:1]
    total, previous = 0.0, 0
    for begin in range(0, len(sequence), 5):
        end = min(begin + 12, len(sequence))
        ids = torch.tensor([sequence[begin:end]])
        labels = ids.clone()
        labels[:, : -(end - previous)] = -100
        valid = int((labels[:, 1:] != -100).sum())
        total += model(ids, labels=labels).loss.item() * valid
        previous = end
        if end == len(sequence):
            break
    document = found.sequences.index(sequence)
    got = scores(model, tokenizer, found)
    ours = sum(nll for index, nll in got.items() if found.windows[index].document == document)
    assert ours == pytest.approx(total, rel=1e-5)


class Small:
    """A model on a machine whose memory holds `fits` windows at once."""

    def __init__(self, model, fits):
        self.model, self.fits, self.device = model, fits, model.device

    def __call__(self, input_ids, **options):
        if len(input_ids) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.model(input_ids=input_ids, **options)


def test_a_batch_that_does_not_fit_is_halved(model, tokenizer):
    found = encoded(tokenizer)
    scorer = Scorer(Small(model, 3), found, batch_size=8, pad_token_id=tokenizer.pad_token_id)
    got = {index: nll for sums, _ in scorer.score(found.windows) for index, nll in sums.items()}
    assert got == pytest.approx(scores(model, tokenizer, found), rel=1e-5)
    assert scorer.events == ["out of memory at batch size 8: halved to 4", "out of memory at batch size 4: halved to 2"]
    with pytest.raises(torch.OutOfMemoryError):
        list(Scorer(Small(model, 0), found, batch_size=2, pad_token_id=0).score(found.windows))


def test_warm_up_takes_the_shapes_of_the_first_and_the_last_batch_and_changes_nothing(model, tokenizer, monkeypatch):
    found = encoded(tokenizer)
    scorer = Scorer(model, found, batch_size=4, pad_token_id=tokenizer.pad_token_id)
    sizes: list[int] = []
    whole = Scorer._batch

    def watched(self, windows):
        sizes.append(len(windows))
        return whole(self, windows)

    monkeypatch.setattr(Scorer, "_batch", watched)
    scorer.warm_up(found.windows)
    assert len(found.windows) % 4
    assert sizes == [4, len(found.windows) % 4]
    got = {index: nll for sums, _ in scorer.score(found.windows) for index, nll in sums.items()}
    assert got == scores(model, tokenizer, found)


def test_warm_up_leaves_a_lack_of_memory_to_the_measurement(model, tokenizer):
    found = encoded(tokenizer)
    scorer = Scorer(Small(model, 3), found, batch_size=8, pad_token_id=tokenizer.pad_token_id)
    scorer.warm_up(found.windows)
    assert (scorer.events, scorer.batch_size) == ([], 8)


def test_other_errors_are_not_taken_for_a_lack_of_memory(tokenizer):
    class Broken:
        device = "cpu"

        def __call__(self, **options):
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        list(Scorer(Broken(), encoded(tokenizer), batch_size=2, pad_token_id=0).score(encoded(tokenizer).windows))


def test_metrics_by_hand(tokenizer):
    found = encoded(tokenizer)
    sums = {window.index: 2.0 * window.tokens for window in found.windows}
    metrics, reasons = summarize(found, sums)
    assert reasons == {}
    assert metrics["nll_per_token"] == pytest.approx(2)
    assert metrics["perplexity"] == pytest.approx(math.e**2)
    assert metrics["bits_per_byte"] == pytest.approx(2 * found.tokens / math.log(2) / sum(len(t) for t in TEXTS))
    assert metrics["word_perplexity"] == pytest.approx(math.exp(2 * found.tokens / sum(len(t.split()) for t in TEXTS)))
    rows = window_rows(found, sums)
    assert sum(row["tokens"] for row in rows) == metrics["tokens_scored"] == found.tokens


def test_what_is_no_number_is_null_with_its_reason(tokenizer):
    found = encoded(tokenizer)
    sums = {window.index: 1.0 for window in found.windows} | {3: math.nan}
    metrics, reasons = summarize(found, sums)
    assert metrics["perplexity"] is None
    assert "1 of" in reasons["perplexity"]
    bare = encoded(tokenizer, prefix="none")
    metrics, reasons = summarize(bare, {window.index: 1.0 for window in bare.windows})
    assert metrics["bits_per_byte"] is None
    assert "first token" in reasons["bits_per_byte"]
    assert metrics["perplexity"] > 1


def test_sums_survive_a_kill(tmp_path):
    path = tmp_path / "w" / "windows.jsonl"
    first = WindowSums(path, "a")
    first.add({0: 1.5, 1: 2.5}, seconds=0.5)
    first.add({2: 0.1}, seconds=0.25)
    with path.open("a") as handle:
        handle.write('{"sums": [[3, 1.0')
    again = WindowSums(path, "a")
    assert (again.done, again.seconds) == ({0: 1.5, 1: 2.5, 2: 0.1}, 0.75)
    again.add({3: 4.0}, seconds=1.0)
    assert WindowSums(path, "a").done[3] == 4.0
    assert WindowSums(path, "other").done == {}
    again.remove()
    assert not path.exists()

"""Greedy decoding: batches change nothing, stop tokens cut, the checkpoint's own sampling fields stay out."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from gainwatt.checkpoint import write_manifest
from gainwatt.engines.base import EngineError, Request, Solved
from gainwatt.engines.transformers import TransformersEngine
from gainwatt.modeling import load_model
from gainwatt.schemes import get_scheme

from .greedy import engine, texts


class ScriptedModel:
    """Returns the given tokens after each prompt, and runs out of memory above a batch size."""

    def __init__(self, answers=(), largest=100, error=None):
        self.answers = list(answers)
        self.largest = largest
        self.error = error or torch.OutOfMemoryError("CUDA out of memory")
        self.device = "cpu"
        self.config = SimpleNamespace()
        self.sizes: list[int] = []
        self.masks: list[list[list[int]]] = []

    def modules(self):
        return []

    def generate(self, input_ids, attention_mask, **_):
        self.sizes.append(len(input_ids))
        self.masks.append(attention_mask.tolist())
        if len(input_ids) > self.largest:
            raise self.error
        answers = torch.tensor((self.answers * len(input_ids))[: len(input_ids)])
        return torch.cat([input_ids, answers], dim=1)


def test_batched_is_one_by_one(model, tokenizer, requests):
    batched = texts(engine(model, tokenizer).generate(requests))
    single = texts(engine(model, tokenizer, batch_size=1).generate(requests))
    assert batched == single
    assert set(batched) == set(range(len(requests)))


def test_stopping_inside_a_batch_changes_no_answer(model, tokenizer, requests):
    made = engine(model, tokenizer)
    free = {c.index: c for batch in made.generate(requests) for c in batch}
    ids = tokenizer(free[0].text, add_special_tokens=False)["input_ids"]
    stop = max(set(ids[2:]), key=ids.index)
    stopped = []
    for size in (1, 4):
        made = engine(model, tokenizer, batch_size=size)
        made.stop_ids = [stop]
        model.generation_config.eos_token_id = [stop]
        stopped.append(texts(made.generate(requests)))
    assert stopped[0] == stopped[1]
    text, tokens, reason = stopped[0][0]
    assert reason == "stop"
    assert tokens <= len(ids)
    assert free[0].text.startswith(text)


def test_longest_prompts_come_first(tokenizer, requests):
    made = engine(ScriptedModel([[1, 2]]), tokenizer, batch_size=3)
    order = [c.index for batch in made.generate(requests) for c in batch]
    lengths = [len(requests[i].token_ids) for i in order]
    assert lengths == sorted(lengths, reverse=True)
    assert sorted(order) == list(range(7))


def test_padding_is_on_the_left_and_masked(tokenizer):
    scripted = ScriptedModel([[1]])
    list(engine(scripted, tokenizer).generate([Request(0, (7,)), Request(1, (7, 8, 9))]))
    assert scripted.masks == [[[1, 1, 1], [0, 0, 1]]]


def test_text_is_cut_at_the_first_stop_token_which_is_counted(tokenizer):
    stop, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    words = tokenizer(" apples", add_special_tokens=False)["input_ids"][:1]
    scripted = ScriptedModel([[*words, stop, pad, pad], [*words, *words, *words, *words]])
    (batch,) = engine(scripted, tokenizer).generate([Request(0, (7, 7)), Request(1, (7,))])
    first, second = batch
    assert (first.tokens, first.finish_reason, first.text) == (2, "stop", tokenizer.decode(words))
    assert (second.tokens, second.finish_reason) == (4, "length")
    assert first.batch_size == 2
    assert first.latency_s == second.latency_s >= 0


def test_an_immediate_stop_is_an_empty_answer_of_one_token(tokenizer):
    (batch,) = engine(ScriptedModel([[tokenizer.eos_token_id]]), tokenizer).generate([Request(0, (7,))])
    assert (batch[0].text, batch[0].tokens, batch[0].finish_reason) == ("", 1, "stop")


def test_out_of_memory_halves_the_batch_and_says_so(tokenizer, requests):
    scripted = ScriptedModel([[1, 2]], largest=2)
    made = engine(scripted, tokenizer, batch_size=7)
    found = texts(made.generate(requests))
    assert set(found) == set(range(7))
    assert scripted.sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert made.events == [
        "generation: out of memory at batch size 7, halved to 3",
        "generation: out of memory at batch size 3, halved to 1",
    ]
    assert (made.settings["batch_size"], made.batch_size) == (7, 1)


CPU_OUT_OF_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4000000000000 bytes. Error code 12 (Cannot allocate memory)"
)


def test_a_lack_of_main_memory_halves_the_batch_too(tokenizer, requests):
    made = engine(ScriptedModel([[1]], largest=4, error=RuntimeError(CPU_OUT_OF_MEMORY)), tokenizer, batch_size=7)
    assert set(texts(made.generate(requests))) == set(range(7))
    assert made.batch_size == 3


def test_what_finished_before_the_gpu_failed_has_been_handed_out(tokenizer, requests):
    class Failing(ScriptedModel):
        def generate(self, input_ids, attention_mask, **options):
            if len(self.sizes) == 2:
                raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might")
            return super().generate(input_ids, attention_mask, **options)

    batches = engine(Failing([[1]]), tokenizer, batch_size=2).generate(requests)
    assert len([*next(batches), *next(batches)]) == 4
    with pytest.raises(EngineError, match="the GPU failed: CUDA error: an illegal memory access"):
        next(batches)


def test_any_other_error_is_not_hidden(tokenizer, requests):
    made = engine(ScriptedModel(largest=0, error=RuntimeError("a bug")), tokenizer, batch_size=4)
    with pytest.raises(RuntimeError, match="a bug"):
        list(made.generate(requests))
    assert made.events == []


def test_out_of_memory_with_one_prompt_is_raised(tokenizer, requests):
    made = engine(ScriptedModel(largest=0), tokenizer, batch_size=2)
    with pytest.raises(torch.OutOfMemoryError):
        list(made.generate(requests))


def test_the_checkpoints_own_sampling_fields_stay_out(model, tokenizer, requests, tiny_folder, tmp_path):
    folder = tmp_path / "dense"
    shutil.copytree(tiny_folder, folder)
    path = folder / "generation_config.json"
    own = json.loads(path.read_text()) | {"repetition_penalty": 1.1, "do_sample": True, "top_k": 20, "temperature": 0.7}
    path.write_text(json.dumps(own))
    checkpoint = write_manifest(folder / "manifest.json", variant="base", scheme="dense")
    other = load_model(checkpoint, get_scheme("fp32"), "fp32")
    assert other.generation_config.repetition_penalty == 1.1
    plain = texts(engine(model, tokenizer, max_new_tokens=24).generate(requests))
    assert texts(engine(other, tokenizer, max_new_tokens=24).generate(requests)) == plain
    # The study's own penalty does apply: the comparison above could have failed.
    penalized = texts(engine(other, tokenizer, max_new_tokens=24, repetition_penalty=1.8).generate(requests))
    assert penalized != plain


def test_settings_show_every_sampling_field(model, tokenizer):
    settings = engine(model, tokenizer, repetition_penalty=1.2).settings
    assert settings["do_sample"] is False
    assert settings["repetition_penalty"] == 1.2
    assert settings["max_new_tokens"] == 12
    assert settings["stop_token_ids"] == [tokenizer.eos_token_id]
    json.dumps(settings)


def test_a_fixed_length_is_kept_whatever_the_model_says_and_can_be_lifted_again(model, tokenizer, requests):
    model.generation_config.eos_token_id = None
    made = engine(model, tokenizer)
    natural = texts(made.generate(requests))
    made.set_length(30, fixed=True)
    model.lm_head.weight.data.mul_(-1)  # other tokens come first now, among them stop tokens
    assert {tokens for _, tokens, _ in texts(made.generate(requests)).values()} == {30}
    assert made.settings["stop_token_ids"] == []
    model.lm_head.weight.data.mul_(-1)
    made.set_length(12, fixed=False)
    assert texts(made.generate(requests)) == natural
    assert made.settings["stop_token_ids"]


def test_nothing_to_do(model, tokenizer):
    assert list(engine(model, tokenizer).generate([])) == []


def naive_loss(model, solved):
    total = 0.0
    for text in solved:
        for place in range(text.prompt_tokens, len(text.token_ids)):
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([text.token_ids[:place]])).logits[0, -1].double()
            total -= float(torch.log_softmax(logits, 0)[text.token_ids[place]])
    return total


SOLVED = [Solved(i, 3 + i, tuple(range(5, 9 + 3 * i))) for i in range(4)]


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_the_loss_is_that_of_a_loop_over_single_tokens(model, tokenizer, batch_size):
    parts = list(engine(model, tokenizer, batch_size=batch_size).score(SOLVED))
    assert sum(count for _, count in parts) == sum(len(text.token_ids) - text.prompt_tokens for text in SOLVED)
    assert sum(loss for loss, _ in parts) == pytest.approx(naive_loss(model, SOLVED), rel=1e-5)


def test_only_the_solutions_logits_are_computed_and_few_at_once(model, tokenizer, monkeypatch):
    shapes = []
    plain = model.lm_head.forward
    monkeypatch.setattr(model.lm_head, "forward", lambda hidden: shapes.append(tuple(hidden.shape)) or plain(hidden))
    vocabulary = model.config.vocab_size
    monkeypatch.setattr("gainwatt.engines.transformers.LOGITS_BYTES", 2 * 15 * vocabulary * 4)
    whole = list(engine(model, tokenizer, batch_size=4).score(SOLVED))
    assert len(whole) == 2
    assert [rows for rows, *_ in shapes] == [2, 2]
    widest = [max(len(t.token_ids) for t in SOLVED[2:]) - 5, max(len(t.token_ids) for t in SOLVED[:2]) - 3]
    assert [positions for _, positions, _ in shapes] == widest


def test_a_model_without_logits_to_keep_gives_the_same_loss(model, tokenizer, monkeypatch):
    expected = list(engine(model, tokenizer).score(SOLVED))
    monkeypatch.setattr(TransformersEngine, "_keeps_some_logits", lambda self: False)
    ((loss, count),) = engine(model, tokenizer).score(SOLVED)
    assert (loss, count) == (pytest.approx(expected[0][0], rel=1e-5), expected[0][1])


def test_out_of_memory_halves_the_batch_of_the_loss_and_leaves_that_of_generation(model, tokenizer, monkeypatch):
    made = engine(model, tokenizer, batch_size=4)
    expected = sum(loss for loss, _ in made.score(SOLVED))
    plain = TransformersEngine._loss

    def small(self, batch):
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, batch)

    monkeypatch.setattr(TransformersEngine, "_loss", small)
    assert sum(loss for loss, _ in made.score(SOLVED)) == pytest.approx(expected, rel=1e-5)
    assert made.events[0] == "reference loss: out of memory at batch size 4, halved to 2"
    assert made.batch_size == 4


def test_nothing_to_score(model, tokenizer):
    assert list(engine(model, tokenizer).score([])) == []


def test_memory_without_a_gpu_is_null_with_a_reason(model, tokenizer):
    memory = engine(model, tokenizer).memory()
    assert memory.metrics["parameter_bytes"] > 0
    assert set(memory.null_reasons) == {"allocated_after_load_mib", "peak_allocated_mib"}


def test_closing_twice_is_harmless(model, tokenizer):
    made = engine(model, tokenizer)
    made.close()
    made.close()
    assert made.model is None

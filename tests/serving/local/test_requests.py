"""Every field of a request is checked; what greedy decoding cannot do is refused by name."""

from __future__ import annotations

import pytest

from gainwatt.modeling import load_tokenizer
from gainwatt.serving.local.requests import DEFAULT_TOKENS, BadRequestError, read

STOPS = frozenset({2})


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return load_tokenizer(tiny_folder)


def asked(tokenizer, chat=False, context=100, **body):
    return read(body, chat=chat, model="m", tokenizer=tokenizer, stop_ids=STOPS, context=context)


def test_a_completion(tokenizer):
    found = asked(tokenizer, prompt=[5, 6], model="m")
    assert (found.prompt, found.max_tokens, found.stop_ids) == ((5, 6), DEFAULT_TOKENS, STOPS)
    assert (found.stream, found.include_usage, found.return_token_ids) == (False, False, False)
    text = asked(tokenizer, prompt="Anna has 3")
    assert list(text.prompt) == tokenizer("Anna has 3")["input_ids"]
    assert asked(tokenizer, prompt=["Anna has 3"]).prompt == text.prompt


def test_what_ends_an_answer(tokenizer):
    assert asked(tokenizer, prompt=[5], ignore_eos=True).stop_ids == frozenset()
    assert asked(tokenizer, prompt=[5], stop_token_ids=[9]).stop_ids == {2, 9}
    assert asked(tokenizer, prompt=[5], stop="x").stops == ("x",)
    assert asked(tokenizer, prompt=[5], stop=["x", ""]).stops == ("x",)


def test_a_chat(tokenizer):
    messages = [{"role": "user", "content": "Anna has 3"}]
    found = asked(tokenizer, chat=True, messages=messages)
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert list(found.prompt) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert found.max_tokens == 100 - len(found.prompt)
    parts = [{"role": "user", "content": [{"type": "text", "text": "Anna "}, {"type": "text", "text": "has 3"}]}]
    assert asked(tokenizer, chat=True, messages=parts, max_completion_tokens=3).prompt == found.prompt


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"prompt": [5], "temperature": 0.7}, "temperature"),
        ({"prompt": [5], "n": 2}, "n = 2"),
        ({"prompt": [5], "repetition_penalty": 1.1}, "repetition_penalty"),
        ({"prompt": [5], "logprobs": 1}, "logprobs"),
        ({"prompt": [5], "model": "other"}, "no model 'other'"),
        ({"prompt": []}, "prompt: it is empty"),
        ({"prompt": [[5], [6]]}, "prompt: give one"),
        ({"prompt": [5, -1]}, "prompt: give a list of token ids"),
        ({"prompt": [10**9]}, "no token 1000000000"),
        ({"prompt": "half a letter \ud800"}, "prompt: it holds half"),
        ({"prompt": [5], "stop_token_ids": [10**9], "min_tokens": 1}, "stop_token_ids: the tokenizer has no token"),
        ({"prompt": [True]}, "prompt: give a list of token ids"),
        ({}, "prompt"),
        ({"prompt": [5] * 100}, "100 tokens"),
        ({"prompt": [5], "max_tokens": 100}, "do not fit into 100"),
        ({"prompt": [5], "max_tokens": 0}, "max_tokens = 0"),
        ({"prompt": [5], "max_tokens": "9"}, "max_tokens = '9'"),
        ({"prompt": [5], "min_tokens": 9, "max_tokens": 3}, "min_tokens = 9"),
        ({"prompt": [5], "stop": 3}, "stop"),
    ],
)
def test_bad_completions(tokenizer, body, said):
    with pytest.raises(BadRequestError, match=said):
        asked(tokenizer, **body)


@pytest.mark.parametrize(
    "messages", [None, [], ["hello"], [{"role": "user", "content": [{"type": "image_url"}]}], [{"role": "user"}]]
)
def test_bad_chats(tokenizer, messages):
    with pytest.raises(BadRequestError, match="messages"):
        asked(tokenizer, chat=True, messages=messages)


def test_a_body_that_is_no_object(tokenizer):
    with pytest.raises(BadRequestError, match="not a JSON object"):
        read([1], chat=False, model="m", tokenizer=tokenizer, stop_ids=STOPS, context=9)

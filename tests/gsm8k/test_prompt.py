"""The prompt's wording and its way through a chat template."""

from __future__ import annotations

import pytest

from gainwatt.errors import InputError
from gainwatt.gsm8k.prompt import chat_prompt, user_turn

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def make_tokenizer():
    """A real tokenizer of one word, with a chat template of choice."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")

    def make(template):
        core = tokenizers.Tokenizer(tokenizers.models.WordLevel({"word": 0}))
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core)
        tokenizer.name_or_path = "local/tiny"
        tokenizer.chat_template = template
        return tokenizer

    return make


def test_wording():
    assert user_turn("What is 9 * 2?") == (
        "Solve the math problem. Show the reasoning briefly. End with exactly one final line in the form "
        "#### <answer>, then stop. Do not write another problem or dialogue after the answer.\n\n"
        "Problem: What is 9 * 2?"
    )


def test_one_user_turn_with_generation_prompt(make_tokenizer):
    prompt = chat_prompt(make_tokenizer(TEMPLATE), "Q?")
    assert prompt == f"<user>{user_turn('Q?')}</user><assistant>"


def test_system_turn(make_tokenizer):
    prompt = chat_prompt(make_tokenizer(TEMPLATE), "Q?", system="Be brief.")
    assert prompt == f"<system>Be brief.</system><user>{user_turn('Q?')}</user><assistant>"


def test_no_chat_template(make_tokenizer):
    with pytest.raises(InputError, match="local/tiny has no chat template"):
        chat_prompt(make_tokenizer(None), "Q?")


def test_template_that_refuses_the_system_turn(make_tokenizer):
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    with pytest.raises(InputError, match="local/tiny refused the turns: no system role"):
        chat_prompt(make_tokenizer(template), "Q?", system="Be brief.")

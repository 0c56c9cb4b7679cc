from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gainwatt.embedded import tokenizer, warm_start
from gainwatt.errors import InputError


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(text=st.text(st.characters(exclude_categories=("Cs",)), max_size=60))
def test_any_text_survives_encoding(small_tokenizer, text):
    ids = small_tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert small_tokenizer.decode(ids) == text


def test_digits_are_single_tokens(small_tokenizer):
    assert small_tokenizer.tokenize("1048*7=") == ["1", "0", "4", "8", "*", "7", "="]
    digits = [entry for entry in small_tokenizer.get_vocab() if any(c.isdigit() for c in entry)]
    assert all(len(entry) == 1 for entry in digits)


def test_a_frequent_word_is_one_token(small_tokenizer):
    assert len(small_tokenizer.tokenize(" many")) == 1


def test_the_chat_prompt_ends_where_the_answer_begins(small_tokenizer):
    message = {"role": "user", "content": "How many?"}
    prompt = small_tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
    full = small_tokenizer.apply_chat_template([message, {"role": "assistant", "content": "#### 4"}], tokenize=False)
    assert full == prompt + "#### 4<|im_end|>\n"


def test_the_end_token_closes_the_training_text(small_tokenizer):
    ((prompt, answer),) = tokenizer.encode_examples(small_tokenizer, [("How many?", "#### 4")])
    assert answer[-1] == small_tokenizer.eos_token_id != small_tokenizer.pad_token_id
    assert small_tokenizer.decode(prompt + answer).endswith("assistant\n#### 4<|im_end|>")


def test_the_template_masks_what_the_assistant_says(small_tokenizer):
    messages = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "#### 4"}]
    made = small_tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    said = [i for i, mask in zip(made["input_ids"], made["assistant_masks"], strict=True) if mask]
    assert small_tokenizer.decode(said) == "#### 4<|im_end|>"


def test_training_is_repeatable_and_survives_saving(small_tokenizer, rows, tmp_path):
    from transformers import AutoTokenizer

    again = tokenizer.train_tokenizer(warm_start.texts(rows), 640)
    assert again.get_vocab() == small_tokenizer.get_vocab()
    small_tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = rows[0]["question"]
    assert loaded(text)["input_ids"] == small_tokenizer(text)["input_ids"]
    assert loaded.chat_template == tokenizer.CHAT_TEMPLATE
    assert (loaded.pad_token, loaded.eos_token, loaded.padding_side) == ("<|endoftext|>", "<|im_end|>", "left")


def test_a_vocabulary_smaller_than_the_bytes_is_refused():
    with pytest.raises(InputError, match="no room for 256 bytes"):
        tokenizer.train_tokenizer(["a"], 200)

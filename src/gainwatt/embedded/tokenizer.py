"""A small byte-level BPE tokenizer with a ChatML template, learned from the warm start's own text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gainwatt.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

# One digit, one word with its leading space, one sign, one line break: as in the tokenizer of Qwen2.5, digits stay
# single, so that the model can learn arithmetic by position.
_PIECES = r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]|\n|\s+"

# The generation blocks mark what the assistant says, for trainers that ask the template for a mask.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + '<|im_end|>' -}}{%- endgeneration -%}"
    "{%- else -%}{{- message['content'] + '<|im_end|>' -}}{%- endif -%}"
    "{{- '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)

_ROLES = ("system", "user", "assistant")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn a tokenizer of at most `vocab_size` entries from `texts`; the same texts give the same tokenizer.

    Every byte has an entry, so that any text can be encoded and decoded. `pad_token` is <|endoftext|>, `eos_token` is
    <|im_end|>, padding is on the left (generation). Raises InputError when `vocab_size` has no room for the 256
    bytes and the three special tokens.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [PAD, START, END]
    if vocab_size < len(alphabet) + len(special):
        raise InputError(
            f"a vocabulary of {vocab_size} has no room for {len(alphabet)} bytes and {len(special)} special tokens",
            f"set it to {len(alphabet) + len(special)} or more",
        )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False
    )
    bpe.train_from_iterator([*texts, *_ROLES], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def encode_examples(
    tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[str, str]]
) -> list[tuple[list[int], list[int]]]:
    """Return the token ids of the chat prompt and of the answer with its end token, for each (question, answer).

    Prompt + answer is one training text. The pairs are encoded together: the tokenizer then uses every core.
    """
    messages = [[{"role": "user", "content": question}] for question, _ in pairs]
    if not messages:
        return []
    prompts = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    answers = [answer + END for _, answer in pairs]
    ids = [tokenizer(texts, add_special_tokens=False)["input_ids"] for texts in (prompts, answers)]
    return list(zip(*ids, strict=True))

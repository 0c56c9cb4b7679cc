"""From the JSON of a request to what the batcher is asked: every field is checked, none is silently ignored.

Greedy decoding is the only one: a request that asks for sampling, several answers or penalties is refused by name, and
fields that do not change a greedy answer (top_p, top_k, seed, …) are accepted. `min_tokens`, `ignore_eos`,
`stop_token_ids`, `return_token_ids` and `add_special_tokens` are those of vLLM's server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DEFAULT_TOKENS = 16
"""Length of a completion that says none, as in OpenAI's own API; a chat answer may fill the context."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (0, 0.0), "n": (1,), "best_of": (1,), "presence_penalty": (0,), "frequency_penalty": (0,),
    "repetition_penalty": (1,), "echo": (False,), "suffix": (None, ""),
    "logit_bias": (None, {}), "logprobs": (None, False),
    "top_logprobs": (None, 0), "tools": (None, []), "prompt_logprobs": (None,), "use_beam_search": (False,),
}  # fmt: skip


class BadRequestError(Exception):
    """What is wrong with a request, for the one who sent it."""


@dataclass(frozen=True)
class Asked:
    """A request in tokens."""

    prompt: tuple[int, ...]
    max_tokens: int
    min_tokens: int
    stop_ids: frozenset[int]
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool
    return_token_ids: bool
    chat: bool


def read(body: Any, *, chat: bool, model: str, tokenizer: Any, stop_ids: frozenset[int], context: int) -> Asked:
    """Check the request `body`. Raises BadRequestError naming the field."""
    if not isinstance(body, dict):
        raise BadRequestError("the body is not a JSON object")
    if body.get("model", model) != model:
        raise BadRequestError(f"there is no model {body['model']!r}; this server has {model!r}")
    for name, neutral in _NEUTRAL.items():
        if body.get(name) is not None and body[name] not in neutral:
            raise BadRequestError(f"{name} = {body[name]!r}: this server decodes greedily, one answer, no penalties")
    prompt = _chat_ids(body, tokenizer) if chat else _prompt_ids(body, tokenizer)
    room = context - len(prompt)
    if room < 1:
        raise BadRequestError(f"the prompt has {len(prompt)} tokens, and the model holds {context} with the answer")
    wanted = body.get("max_completion_tokens") if chat else None
    wanted = wanted if wanted is not None else body.get("max_tokens")
    limit = _count("max_tokens", wanted, room if chat else min(DEFAULT_TOKENS, room), least=1)
    if limit > room:
        raise BadRequestError(f"max_tokens = {limit} and a prompt of {len(prompt)} tokens do not fit into {context}")
    least = _count("min_tokens", body.get("min_tokens"), 0, least=0)
    if least > limit:
        raise BadRequestError(f"min_tokens = {least} is more than max_tokens = {limit}")
    options = body.get("stream_options") or {}
    ends = frozenset(_known("stop_token_ids", body.get("stop_token_ids") or [], tokenizer))
    return Asked(
        prompt=prompt, max_tokens=limit, min_tokens=least,
        stop_ids=ends if body.get("ignore_eos") else ends | stop_ids, stops=_stops(body.get("stop")),
        stream=bool(body.get("stream")), include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        return_token_ids=bool(body.get("return_token_ids")), chat=chat,
    )  # fmt: skip


def _prompt_ids(body: dict[str, Any], tokenizer: Any) -> tuple[int, ...]:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        add = bool(body.get("add_special_tokens", True))
        ids = tokenizer(_whole("prompt", prompt), add_special_tokens=add)["input_ids"]
    elif isinstance(prompt, list) and not any(isinstance(part, str | list) for part in prompt):
        ids = _known("prompt", prompt, tokenizer)
    else:
        raise BadRequestError("prompt: give one text or one list of token ids")
    if not ids:
        raise BadRequestError("prompt: it is empty")
    return tuple(ids)


def _chat_ids(body: dict[str, Any], tokenizer: Any) -> tuple[int, ...]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(entry, dict) for entry in messages):
        raise BadRequestError("messages: give a list of {role, content}")
    plain = [{"role": str(entry.get("role")), "content": _content(entry.get("content"))} for entry in messages]
    try:
        text = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # the template is the checkpoint's own code and may raise anything
        raise BadRequestError(f"messages: the chat template refuses them: {error}") from error
    return tuple(tokenizer(_whole("messages", text), add_special_tokens=False)["input_ids"])


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [str(part.get("text", "")) for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    if len(texts) != len(parts):
        raise BadRequestError("messages: content must be text")
    return "".join(texts)


def _stops(stop: Any) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or not all(isinstance(text, str) for text in stops) or len(stops) > 16:
        raise BadRequestError("stop: give a text or a list of at most 16")
    return tuple(text for text in stops if text)


def _whole(name: str, text: str) -> str:
    """JSON can spell half of a surrogate pair, which is no letter and which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequestError(f"{name}: it holds half of a surrogate pair, which is no text") from None
    return text


def _known(name: str, value: Any, tokenizer: Any) -> list[int]:
    """Ids of tokens that there are: another one would fail the whole batch, and with CUDA the process."""
    if not isinstance(value, list) or not all(type(token) is int and token >= 0 for token in value):
        raise BadRequestError(f"{name}: give a list of token ids")
    if any(token >= len(tokenizer) for token in value):
        raise BadRequestError(f"{name}: the tokenizer has no token {max(value)}")
    return value


def _count(name: str, value: Any, default: int, *, least: int) -> int:
    if value is None:
        return default
    if type(value) is not int or value < least:
        raise BadRequestError(f"{name} = {value!r}: give a whole number of at least {least}")
    return value

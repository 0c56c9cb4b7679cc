"""The JSON of answers, whole and in pieces, in the words of OpenAI's API."""

from __future__ import annotations

import time
import uuid
from typing import Any

from gainwatt.serving.local.requests import Asked


class Answer:
    """Builds what is sent for one request."""

    def __init__(self, asked: Asked, model: str) -> None:
        self.asked = asked
        prefix = "chatcmpl" if asked.chat else "cmpl"
        self._common = {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def piece(self, text: str, token_ids: list[int], *, first: bool, reason: str | None = None) -> dict[str, Any]:
        """One chunk of a stream: the text that a token completed, and at last the reason of the end."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        if self.asked.chat:
            choice["delta"] = ({"role": "assistant"} if first else {}) | {"content": text}
        else:
            choice["text"] = text
        if self.asked.return_token_ids:
            choice["token_ids"] = token_ids
        return {**self._common, "object": self._kind(chunk=True), "choices": [choice]}

    def last(self, tokens: int) -> dict[str, Any]:
        """The chunk with the counts, sent on request."""
        return {**self._common, "object": self._kind(chunk=True), "choices": [], "usage": self._usage(tokens)}

    def whole(self, text: str, token_ids: list[int], reason: str) -> dict[str, Any]:
        """The answer in one."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
        if self.asked.chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        if self.asked.return_token_ids:
            choice["token_ids"] = token_ids
        usage = self._usage(len(token_ids))
        return {**self._common, "object": self._kind(chunk=False), "choices": [choice], "usage": usage}

    def _kind(self, *, chunk: bool) -> str:
        if self.asked.chat:
            return "chat.completion.chunk" if chunk else "chat.completion"
        return "text_completion"

    def _usage(self, tokens: int) -> dict[str, int]:
        prompt = len(self.asked.prompt)
        return {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}


def error(message: str, kind: str, code: int) -> dict[str, Any]:
    """What a client is told when a request is refused or fails."""
    return {"error": {"message": message, "type": kind, "code": code}}

"""Small questions to a server over HTTP: is it there, what does it serve, what do its counters say."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it would take the API key to another host, and make a POST a GET without its body."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the answer is handed out as it is."""


# A proxy of the environment has no business between a script and its own server.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)
_LONGEST = 64 * 2**20


def ask(
    url: str, headers: Mapping[str, str] | None = None, *, body: Any = None, method: str | None = None,
    timeout_s: float = 5.0,
) -> tuple[int, bytes]:  # fmt: skip
    """(status, body) of one request; a `body` is sent as JSON. Raises OSError where nothing answers in HTTP.

    A redirection is an answer like others.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)  # noqa: S310 - the caller's own server
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    if data is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with _OPENER.open(request, timeout=timeout_s) as answer:
            return answer.status, answer.read(_LONGEST)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(_LONGEST)
    except http.client.HTTPException as error:
        raise ConnectionError(f"no HTTP answer: {error!r}"[:200]) from error


def ask_json(url: str, headers: Mapping[str, str] | None = None, *, timeout_s: float = 5.0) -> Any:
    """The JSON at `url`; None where nothing answers, or something else than 200 and JSON."""
    try:
        status, text = ask(url, headers, timeout_s=timeout_s)
        return json.loads(text) if status == 200 else None
    except (OSError, ValueError):
        return None


def is_healthy(url: str) -> bool:
    """Whether the health page at `url` answers 200."""
    try:
        return ask(url, timeout_s=2.0)[0] == 200
    except OSError:
        return False


def counters(text: str) -> dict[str, float]:
    """Sums over all labels of a page in Prometheus' text format, by metric name."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition("{") if "{" in line else line.partition(" ")
            value = rest.rpartition("}")[2].split()
            try:
                found[name.strip()] = found.get(name.strip(), 0.0) + float(value[0])
            except (ValueError, IndexError):
                continue
    return found

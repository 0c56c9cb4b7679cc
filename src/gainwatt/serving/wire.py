"""A request as the bytes that go over the wire, made before the clock runs."""

from __future__ import annotations

import json
import socket
from urllib.parse import SplitResult, urlsplit

from gainwatt.errors import InputError, UnavailableError
from gainwatt.serving.connection import Address
from gainwatt.serving.requests import Request, Target

_TRIAL_S = 2.0


def encode(target: Target, requests: list[Request]) -> dict[int, bytes]:
    """The HTTP request of each by its id. Raises InputError for an address or header that cannot be used."""
    url = _split(target)
    headers = {
        "Host": url.netloc.rpartition("@")[2],
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        **target.headers,
    }
    if any(sign in text for pair in headers.items() for text in pair for sign in "\r\n"):
        raise InputError("a header holds a line break", "look at the headers of the target, e.g. at the API key")
    lines = [
        f"POST {url.path.rstrip('/')}/completions HTTP/1.1",
        *(f"{name}: {text}" for name, text in headers.items()),
    ]
    head = "\r\n".join(lines).encode("latin-1")
    return {request.id: _message(head, target, request) for request in requests}


def resolve(target: Target) -> Address:
    """The address of the server: of several (localhost is often ::1 and 127.0.0.1) the first where somebody listens.

    Raises InputError where it cannot be used, UnavailableError where nobody knows it.
    """
    url = _split(target)
    try:
        port = url.port or 80
        found = socket.getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)
    except ValueError as error:
        raise InputError(f"{target.base_url}: {error}", "give e.g. http://127.0.0.1:8000/v1") from None
    except OSError as error:
        raise UnavailableError(f"{target.base_url}: {error}", "is the name of the host right?") from None
    addresses: list[Address] = [(family, place) for family, _, _, _, place in found]
    return next(filter(_listens, addresses), addresses[0]) if len(addresses) > 1 else addresses[0]


def _listens(address: Address) -> bool:
    family, place = address
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.settimeout(_TRIAL_S)
            trial.connect(place)
    except OSError:
        return False
    return True


def _split(target: Target) -> SplitResult:
    url = urlsplit(target.base_url)
    if url.scheme != "http" or not url.hostname:
        raise InputError(
            f"{target.base_url!r} is not an address that the load client can use",
            "give e.g. http://127.0.0.1:8000/v1; encryption costs the client time and is not spoken: use a tunnel",
        )
    return url


def _message(head: bytes, target: Target, request: Request) -> bytes:
    """Greedy, streamed, with the usage at the end."""
    content = {
        "model": target.model,
        "prompt": request.prompt if isinstance(request.prompt, str) else list(request.prompt),
        "max_tokens": request.max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.min_tokens is not None:
        content["min_tokens"] = request.min_tokens
    if request.ignore_eos:
        content["ignore_eos"] = True
    body = json.dumps(content | dict(target.extra), separators=(",", ":")).encode()
    return b"%s\r\nContent-Length: %d\r\n\r\n%s" % (head, len(body), body)

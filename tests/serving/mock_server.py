"""An OpenAI-like completions server whose delays and faults are scripted; a process of its own, standard library only.

    python mock_server.py [--ttft-ms 50] [--itl-ms 10] [--tokens-per-chunk 1] [--usage end|running|last|none]

prints {"port": N} and serves on 127.0.0.1 until its standard input is closed. A prompt of words key=value scripts its
own request and wins over the options (one request of three tokens, after 20 ms, cut after the second chunk:
"ttft_ms=20 max_tokens=3 cut=2"):

    ttft_ms itl_ms          delays before the first chunk and between chunks; lists go round: ttft_ms (of the options)
                            from request to request, itl_ms from chunk to chunk: 10,10,500
    per_chunk usage ids     tokens in a chunk; usage as above; ids=1: token ids in each chunk
    split                   write in pieces of so many bytes
    status                  answer with this HTTP status
    close=1 stall=K cut=K   close before answering; say nothing more, or cut the connection, after K chunks
    garbage=K error=K       after K chunks: an event that is no JSON; an event that tells an error
    die=K                   the whole server dies (SIGKILL) after K chunks
    plain=1                 a body that is no event stream; chunked=0: no chunked coding, the end is the closing

GET /log tells for each request when it arrived and when each of its chunks was written, in ns of the monotonic clock.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import os
import resource
import select
import selectors
import signal
import socket
import sys
import time


class Answer:
    """One request and the state of its answer."""

    def __init__(self, number: int, body: dict, options: dict) -> None:
        script = dict(options)
        prompt = body.get("prompt", "")
        if isinstance(prompt, str):
            script |= dict(word.split("=", 1) for word in prompt.split() if "=" in word)
        self.script = script
        self.left = int(script.get("max_tokens") or body.get("max_tokens") or 16)
        self.prompt_tokens = len(prompt.split()) if isinstance(prompt, str) else len(prompt)
        self.made = self.chunks = 0
        waits = str(script["ttft_ms"]).split(",")
        self.ttft = float(waits[number % len(waits)])
        self.itl = [float(part) for part in str(script["itl_ms"]).split(",")]
        self.row = {"number": number, "prompt": prompt, "received_ns": time.monotonic_ns(), "chunk_ns": []}

    def number(self, key: str, default: int) -> int:
        return int(self.script.get(key, default))

    def delay_ns(self) -> int:
        ms = self.ttft if not self.chunks else self.itl[(self.chunks - 1) % len(self.itl)]
        return round(ms * 1e6)

    def chunk(self) -> bytes:
        """The next event(s): tokens, at the end usage and [DONE]."""
        size = min(self.number("per_chunk", 1), self.left)
        self.left -= size
        self.made += size
        self.chunks += 1
        last = self.left == 0
        choice = {"index": 0, "text": " w" * size, "logprobs": None, "finish_reason": "length" if last else None}
        if self.number("ids", 0):
            choice["token_ids"] = [7] * size
        usage = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.made}
        usage["total_tokens"] = self.prompt_tokens + self.made
        head = {"id": f"cmpl-{self.row['number']}", "object": "text_completion", "created": 0, "model": "mock"}
        how = self.script["usage"]
        with_usage = how == "running" or (how == "last" and last)
        data = event(head | {"choices": [choice], "usage": usage if with_usage else None})
        if last:
            if how in ("end", "running"):
                data += event(head | {"choices": [], "usage": usage})
            data += b"data: [DONE]\n\n"
        return data


def event(content: dict) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


class Server:
    def __init__(self, options: dict) -> None:
        self.options = options
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ, None)
        self.selector.register(sys.stdin, selectors.EVENT_READ, None)
        self.buffers: dict[socket.socket, bytes] = {}
        self.answers: dict[socket.socket, Answer] = {}
        self.due: list[tuple[int, int, socket.socket, Answer]] = []
        self.numbers = itertools.count()
        self.log: list[dict] = []

    def run(self) -> None:
        while True:
            for key, _ in self.wait():
                if key.fileobj is sys.stdin:
                    if not os.read(0, 4096):
                        return
                elif key.fileobj is self.listener:
                    self.accept()
                else:
                    self.read(key.fileobj)
            while self.due and self.due[0][0] <= time.monotonic_ns():
                at, _, connection, answer = heapq.heappop(self.due)
                if self.answers.get(connection) is answer:
                    self.step(connection, answer, at)

    def wait(self):
        """select(2) on the epoll object: epoll itself counts milliseconds."""
        left_s = (self.due[0][0] - time.monotonic_ns()) / 1e9 if self.due else None
        select.select((self.selector.fileno(),), (), (), left_s if left_s is None else max(0.0, left_s))
        return self.selector.select(0)

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.buffers[connection] = b""
            self.selector.register(connection, selectors.EVENT_READ, None)

    def drop(self, connection: socket.socket) -> None:
        self.answers.pop(connection, None)
        if self.buffers.pop(connection, None) is not None:
            self.selector.unregister(connection)
            connection.close()

    def read(self, connection: socket.socket) -> None:
        if connection not in self.buffers:
            return
        try:
            data = connection.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self.drop(connection)
            return
        self.buffers[connection] += data
        head, found, rest = self.buffers[connection].partition(b"\r\n\r\n")
        if not found:
            return
        method, path = head.split(b" ", 2)[:2]
        fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", 0))
        if len(rest) < length:
            return
        self.buffers[connection] = rest[length:]
        if method == b"POST" and path.split(b"?")[0].endswith(b"/completions"):
            self.begin(connection, json.loads(rest[:length]))
        else:
            self.get(connection, path)

    def get(self, connection: socket.socket, path: bytes) -> None:
        known = {
            b"/health": {"status": "ok"},
            b"/v1/models": {"object": "list", "data": [{"id": "mock", "object": "model", "root": "mock"}]},
            b"/log": self.log,
        }
        body = known.get(path.split(b"?")[0])
        self.whole(connection, 404 if body is None else 200, json.dumps(body).encode())

    def whole(self, connection: socket.socket, status: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d Told\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.write(connection, head % (status, len(body)) + body, 0)

    def begin(self, connection: socket.socket, body: dict) -> None:
        answer = Answer(len(self.log), body, self.options)
        self.log.append(answer.row)
        self.answers[connection] = answer
        self.plan(connection, answer, answer.row["received_ns"])

    def plan(self, connection: socket.socket, answer: Answer, from_ns: int) -> None:
        heapq.heappush(self.due, (from_ns + answer.delay_ns(), next(self.numbers), connection, answer))

    def step(self, connection: socket.socket, answer: Answer, at_ns: int) -> None:
        """One chunk, or the fault that stands in its place."""
        if self.fault(connection, answer):
            return
        chunked = answer.number("chunked", 1)
        data = answer.chunk()
        out = (b"%x\r\n%s\r\n" % (len(data), data)) if chunked else data
        if answer.chunks == 1:
            coding = b"Transfer-Encoding: chunked" if chunked else b"Connection: close"
            out = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + coding + b"\r\n\r\n" + out
        if answer.left == 0 and chunked:
            out += b"0\r\n\r\n"
        answer.row["chunk_ns"].append(time.monotonic_ns())
        self.write(connection, out, answer.number("split", 0))
        if answer.left:
            self.plan(connection, answer, at_ns)
        elif chunked:
            self.answers.pop(connection, None)
        else:
            self.drop(connection)

    def fault(self, connection: socket.socket, answer: Answer) -> bool:
        """Whether the request ends here, badly."""
        here = {key for key in ("die", "cut", "stall", "garbage", "error") if answer.number(key, -1) == answer.chunks}
        if "die" in here:
            os.kill(os.getpid(), signal.SIGKILL)
        if answer.number("close", 0) or "cut" in here:
            self.drop(connection)
        elif answer.number("status", 200) != 200:
            self.whole(connection, answer.number("status", 200), b'{"error": {"message": "as scripted"}}')
            self.answers.pop(connection, None)
        elif answer.number("plain", 0):
            self.whole(connection, 200, b'{"choices": [{"text": "all at once"}]}')
            self.answers.pop(connection, None)
        elif here & {"garbage", "error"}:
            data = b"data: {not json\n\n" if "garbage" in here else event({"error": {"message": "as scripted"}})
            self.write(connection, b"%x\r\n%s\r\n" % (len(data), data), 0)
            self.answers.pop(connection, None)
        else:
            return "stall" in here
        return True

    def write(self, connection: socket.socket, data: bytes, split: int) -> None:
        connection.setblocking(True)
        try:
            for at in range(0, len(data), split or len(data)):
                connection.sendall(data[at : at + (split or len(data))])
        except OSError:
            self.drop(connection)
            return
        connection.setblocking(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ttft-ms", default="0")
    parser.add_argument("--itl-ms", default="0")
    parser.add_argument("--tokens-per-chunk", type=int, default=1)
    parser.add_argument("--usage", choices=("end", "running", "last", "none"), default="end")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = Server(
        {"ttft_ms": args.ttft_ms, "itl_ms": args.itl_ms, "per_chunk": args.tokens_per_chunk, "usage": args.usage}
    )
    print(json.dumps({"port": server.listener.getsockname()[1]}), flush=True)
    server.run()


if __name__ == "__main__":
    main()

"""A worker that speaks the protocol without llama.cpp; the text of a prompt says how it misbehaves."""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def groups(spec: dict, suite: str, kind: str) -> list[dict]:
    decoded = spec["max_new_tokens"] - 1 if kind == "generate" else 0
    return [
        {"requests": 1, "prompt_tokens": 10, "prefill_s": 0.001, "ttft_s": 0.001, "decoded_tokens": decoded,
         "generated_tokens": decoded + 1 if decoded else 0, "decode_s": 0.002 if decoded else 0.0, "latency_s": 0.004}
        for _ in spec["prompts"][suite]
    ]  # fmt: skip


def misbehave(text: str) -> None:
    if "DIE" in text:
        os.kill(os.getpid(), signal.SIGKILL)
    if "ABORT" in text:
        print("GGML_ASSERT: it broke", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGABRT)
    if "ALLOC" in text:
        print("ggml_backend: failed to allocate buffer of size 99", file=sys.stderr, flush=True)
        os._exit(1)
    if "HANG" in text:
        time.sleep(60)


def main() -> None:
    spec: dict = {}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "load":
            spec = request
            misbehave(" ".join(text for texts in spec["prompts"].values() for text in texts))
            if spec["backend"] == "gpu":
                print(json.dumps({"error": "unavailable", "reason": "no GPU"}), flush=True)
                continue
            time.sleep(0.01)
            facts = {"weight_bytes": 1000, "layers": 2, "parameters": 2000}
            print(json.dumps({"load_s": 0.01, "facts": facts, "peak_rss_mib": 5.0}), flush=True)
        elif request["do"] == "bandwidth":
            print(json.dumps({"gb_s": 10.0}), flush=True)
        else:
            stop = os.environ.get("STOP_AT")
            if stop and len(open(stop).read()) >= 6:  # noqa: SIM115
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(5)
            if stop:
                with open(stop, "a") as marks:
                    marks.write("x")
            found = groups(spec, request["suite"], request["kind"])
            time.sleep(sum(group["latency_s"] for group in found))
            print(json.dumps({"groups": found, "peak_rss_mib": 6.0}), flush=True)


if __name__ == "__main__":
    main()

"""A server's life: found ready, found dead, ended with everything below it, however the script ends.

A stand-in takes the place of the engines: a few lines of the standard library that answer health and models.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from factories import ROOT
from gainwatt.engines.processes import PROC
from gainwatt.errors import InputError, UnavailableError
from gainwatt.serving import gpu_memory, server
from gainwatt.serving.adapters.base import Start
from gainwatt.serving.server import ServerError, serve
from gainwatt.serving.spec import ServerSpec

CODE = """
import http.server, json, os, signal, subprocess, sys, time
name, port, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
print("key:", os.environ.get("STAND_IN_KEY"), "inherited:", os.environ.get("VLLM_API_KEY"), flush=True)
if mode == "dies":
    print("RuntimeError: no such tensor", flush=True)
    sys.exit(3)
if mode == "taken" and not os.path.exists(sys.argv[4]):
    open(sys.argv[4], "w").close()
    print("OSError: [Errno 98] Address already in use", flush=True)
    sys.exit(1)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        there = self.path == "/health" and mode != "silent" or self.path == "/v1/models"
        self.send_response(200 if there else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"data": [{"id": name}]}).encode())
    def log_message(self, *args):
        pass
def end(*_):
    child.kill()
    sys.exit(0)
if mode != "stubborn":
    signal.signal(signal.SIGTERM, end)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


class StandIn:
    """An adapter whose server is CODE."""

    mode = "well"
    name: str | None = None

    def start(self, spec, port, work):
        command = [sys.executable, "-c", CODE, self.name or spec.model, str(port), self.mode, str(work / "once")]
        return Start(command, {"STAND_IN_KEY": spec.api_key or ""})

    def facts(self, spec, lines, address):
        return {
            "engine_version": "1",
            "max_num_seqs": 3,
            "null_reasons": {"cuda_graphs": "no GPU", "other": "not asked"},
        }

    def failure(self, lines):
        return (
            InputError("no such tensor") if self.mode == "dies" and any("no such tensor" in x for x in lines) else None
        )

    def prefix_hits(self, address):
        return None

    def reset_prefix_cache(self, spec, address):
        return False


@pytest.fixture
def stand_in(monkeypatch):
    made = StandIn()
    monkeypatch.setattr(server, "adapter_for", lambda engine: made)
    monkeypatch.setattr(server, "STOP_S", 2.0)
    monkeypatch.setattr(server, "GRACE_S", 0.5)
    return made


@pytest.fixture
def spec(tiny_folder):
    def make(**changes):
        return ServerSpec(tiny_folder, "fp32", "transformers", name="m", **changes)

    return make


def exists(pid):
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ready_and_ended(stand_in, spec, tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "of somebody else")
    with serve(spec(api_key="sesame"), log=tmp_path / "log", ready_s=60) as found:
        assert found.base_url.startswith("http://127.0.0.1:")
        assert found.headers == {"Authorization": "Bearer sesame"}
        assert found.alive()
        assert found.startup_s > 0
        assert len(found.pids) == 2
        assert found.log_tail() == "key: [API key] inherited: None"
        facts = found.facts
    assert not found.alive()
    assert not any(exists(pid) for pid in found.pids)
    stopped = found.stopped
    assert (stopped["clean"], stopped["killed"], stopped["exit_code"], stopped["processes_left"]) == (
        True,
        False,
        0,
        [],
    )
    assert (facts["engine_version"], facts["max_num_seqs"], facts["cuda_graphs"]) == ("1", 3, None)
    assert facts["null_reasons"]["cuda_graphs"] == "no GPU"
    assert facts["null_reasons"]["memory_mib.weights"] == "transformers does not tell"
    assert "other" not in facts["null_reasons"]


def test_one_that_will_not_end_is_killed_with_its_children(stand_in, spec, tmp_path):
    stand_in.mode = "stubborn"
    with serve(spec(), log=tmp_path / "log", ready_s=60) as found:
        assert len(found.pids) == 2
    assert (found.stopped["clean"], found.stopped["killed"], found.stopped["processes_left"]) == (False, True, [])
    assert not any(exists(pid) for pid in found.pids)


def test_an_error_in_the_block_ends_the_server_too(stand_in, spec, tmp_path):
    with pytest.raises(ZeroDivisionError), serve(spec(), log=tmp_path / "log", ready_s=60) as found:
        raise ZeroDivisionError
    assert found.stopped["clean"]


def test_one_that_dies_later_is_told_apart(stand_in, spec, tmp_path):
    with serve(spec(), log=tmp_path / "log", ready_s=60) as found:
        os.kill(min(found.pids), signal.SIGKILL)
        while found.running():
            time.sleep(0.02)
        assert not found.alive()
    assert found.stopped["ended_by_itself"]
    assert not found.stopped["clean"]
    assert found.stopped["exit_code"] == 128 + signal.SIGKILL
    assert not any(exists(pid) for pid in found.pids)


def test_the_reason_that_the_log_names(stand_in, spec, tmp_path):
    stand_in.mode = "dies"
    with pytest.raises(InputError, match="no such tensor"), serve(spec(), log=tmp_path / "log", ready_s=60):
        pass


def test_without_a_reason_the_end_of_the_log(stand_in, spec, tmp_path, monkeypatch):
    stand_in.mode = "dies"
    monkeypatch.setattr(stand_in, "failure", lambda lines: None)
    said = r"ended with code 3 before it was ready; the end of .*\n.*key: \[API key\].*\n *RuntimeError: no such tensor"
    with pytest.raises(ServerError, match=said), serve(spec(api_key="sesame"), log=tmp_path / "log", ready_s=60):
        pass


@pytest.mark.parametrize("what", ["silent", "other name"])
def test_the_time_limit(stand_in, spec, tmp_path, what):
    stand_in.mode, stand_in.name = ("silent", None) if what == "silent" else ("well", "somebody else's")
    with pytest.raises(ServerError, match=r"was not ready after 1 s"), serve(spec(), log=tmp_path / "log", ready_s=1):
        pass


def test_another_port_where_somebody_was_faster(stand_in, spec, tmp_path):
    stand_in.mode = "taken"
    with serve(spec(), log=tmp_path / "log", ready_s=60) as found:
        assert found.alive()


def test_a_port_that_is_taken(stand_in, spec, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        opened = serve(spec(port=port), log=tmp_path / "log", ready_s=5)
        with pytest.raises(InputError, match=f"cannot bind 127.0.0.1:{port}"), opened:
            pass


PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from gainwatt.serving import server
from serving.test_server import StandIn
from gainwatt.serving.spec import ServerSpec
server.adapter_for = lambda engine: StandIn()
with server.serve(ServerSpec(Path({folder!r}), "fp32", "transformers"), log=Path({log!r}), ready_s=60) as found:
    print(*found.pids, flush=True)
    sys.stdin.read()
"""


def test_a_script_that_is_killed_takes_its_server_along(tiny_folder, tmp_path):
    code = PARENT.format(tests=str(ROOT / "tests"), folder=str(tiny_folder), log=str(tmp_path / "log"))
    script = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    pids = [int(word) for word in script.stdout.readline().split()]
    assert len(pids) == 2
    script.kill()
    script.wait(10)
    deadline = time.monotonic() + 30
    while any(exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(exists(pid) for pid in pids)


def used(**mib):
    return gpu_memory.GpuMemory({f"gpu:{index[1:]}": float(value) for index, value in mib.items()})


@pytest.mark.parametrize(
    ("readings", "returned", "said"),
    [
        ([used(g0=500)], True, None),
        ([used(g0=80_000), used(g0=9_000), used(g0=520)], True, None),
        ([used(g0=9_000)] * 99, False, "gpu:0 holds 8500 MiB more"),
        ([gpu_memory.GpuMemory(reason="the driver went away")], None, "the driver went away"),
    ],
)
def test_gpu_memory_that_comes_back(monkeypatch, readings, returned, said):
    waiting = iter(readings)
    monkeypatch.setattr(gpu_memory, "in_use", lambda: next(waiting))
    monkeypatch.setattr(gpu_memory.time, "sleep", lambda seconds: None)
    patience = 30.0 if returned else 0.0
    found = gpu_memory.came_back(used(g0=500), used(g0=80_000), patience_s=patience)
    assert (found["gpu_memory_returned"], found["gpu_memory_reason"]) == (returned, said)
    if returned is not None:
        assert found["gpu_memory_mib"]["gpu:0"]["serving"] == 80_000


def test_without_a_gpu_nothing_is_claimed():
    before = gpu_memory.GpuMemory(reason="no GPU is visible")
    assert gpu_memory.came_back(before, gpu_memory.GpuMemory()) == {
        "gpu_memory_returned": None, "gpu_memory_reason": "no GPU is visible", "gpu_memory_mib": {},
    }  # fmt: skip


def test_what_a_spec_may_not_say(tiny_folder):
    def spec(scheme="fp32", engine="transformers", **changes):
        return ServerSpec(tiny_folder, scheme, engine, **changes)

    for changes, said in (
        ({"host": "0.0.0.0"}, "everybody who reaches 0.0.0.0"),  # noqa: S104
        ({"host": "::"}, "everybody who reaches ::"),
        ({"host": "node7"}, "everybody who reaches node7"),
        ({"api_key": ""}, "API key is empty"),
        ({"api_key": "two words"}, "white space"),
        ({"api_key": "schlüssel"}, "HTTP headers cannot carry"),
        ({"port": 70_000}, "70000 is not a port"),
        ({"dtype": "int3"}, "no type 'int3'"),
        ({"max_num_seqs": 0}, "max_num_seqs = 0"),
        ({"memory_fraction": 1.0}, "memory_fraction = 1.0"),
        ({"tensor_parallel": 2}, "serves from one GPU"),
        ({"quantization": "awq"}, "quantization = 'awq'"),
        ({"engine": "triton"}, "no serving engine 'triton'"),
        ({"scheme": "bf17"}, "no quantization scheme 'bf17'"),
    ):
        with pytest.raises(InputError, match=said):
            spec(**changes)
    with pytest.raises(UnavailableError, match="vllm cannot load the scheme bnb-int8"):
        spec("bnb-int8", "vllm")
    with pytest.raises(InputError, match=r"no config\.json"):
        ServerSpec(Path("/nowhere"), "fp32", "transformers")


def test_a_key_opens_other_hosts_and_is_not_shown(tiny_folder):
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert ServerSpec(tiny_folder, "fp32", "transformers", host=host).host == host
    spec = ServerSpec(tiny_folder, "fp32", "transformers", host="0.0.0.0", api_key="sesame")  # noqa: S104
    assert "sesame" not in repr(spec)
    assert spec.model == f"{tiny_folder.parent.name}.fp32"
    assert json.dumps(spec.compute_dtype) == '"fp32"'

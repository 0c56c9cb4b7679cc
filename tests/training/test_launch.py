"""What is started for a training on several GPUs: GPUs, accelerate's configuration, command lines, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from factories import ROOT, write_study
from gainwatt.engines.base import EngineError
from gainwatt.errors import InputError, UnavailableError
from gainwatt.study import load_study
from gainwatt.training import launch, rollout_server
from gainwatt.training.children import Child

GPUS = {"GAINWATT_GPUS": "0,1,2,3", "PATH": os.environ["PATH"]}
SERVING = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


@pytest.fixture
def study_of(tmp_path):
    def make(gpus: int = 2, parallel: dict | None = None, train: dict | None = None):
        sections = {
            "resources": {"train": {"gpus": gpus}}, "parallel": parallel or {},
            "train": {"seeds": [0], "gradient_accumulation_steps": 24, **(train or {})},
        }  # fmt: skip
        return load_study(write_study(tmp_path, sections))

    return make


def test_one_gpu_and_a_launched_process_train_themselves(study_of):
    assert launch.plan(study_of(1), GPUS) is None
    assert launch.plan(study_of(2), GPUS | {"WORLD_SIZE": "2"}) is None
    assert launch.plan(study_of(2), GPUS | {launch.LAUNCHED_VARIABLE: "1"}) is None


def test_every_gpu_trains_or_serves(study_of):
    assert launch.plan(study_of(3), GPUS) == launch.Plan(["0", "1", "2"], [])
    study = study_of(4, {"rollouts": "server", "server_gpus": 2}, {"rollout_engine": "vllm"})
    assert launch.plan(study, GPUS) == launch.Plan(["0", "1"], ["2", "3"])
    with pytest.raises(InputError, match=r"resources.train.gpus = 6, and this process may use 4 GPUs"):
        launch.plan(study_of(6), GPUS)


def test_a_machine_without_driver_says_so(study_of):
    with pytest.raises(UnavailableError, match="no working NVIDIA driver"):
        launch.plan(study_of(2), {})


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_accelerate_reads_the_configuration(study_of, tmp_path, sharding):
    """By accelerate's own code, as far as it goes without starting anything."""
    from accelerate.commands import launch as accelerate_launch

    study = study_of(2, {"sharding": sharding}, {"precision": "bf16"})
    path = tmp_path / "accelerate.json"
    path.write_text(json.dumps(launch.accelerate_config(study, 2)))
    words = launch.training_command(study, path, ["script.py", "--study", "x.yaml"], 2)
    assert words[1:3] == ["-m", "accelerate.commands.launch"]
    parser = accelerate_launch.launch_command_parser()
    args, _, _ = accelerate_launch._validate_launch_command(parser.parse_args(words[3:]))
    assert (args.training_script, args.training_script_args) == ("script.py", ["--study", "x.yaml"])
    assert (args.num_processes, args.num_machines, args.mixed_precision) == (2, 1, "bf16")
    assert args.main_process_port == 0
    assert args.use_fsdp == (sharding == "fsdp")
    assert bool(args.multi_gpu) == (sharding == "none")
    if sharding == "fsdp":
        assert int(args.fsdp_version) == 2
        assert args.fsdp_state_dict_type == "SHARDED_STATE_DICT"
        assert args.fsdp_auto_wrap_policy == "TRANSFORMER_BASED_WRAP"


def test_one_training_process_beside_a_server_needs_no_launcher(study_of, tmp_path):
    study = study_of(2, {"rollouts": "server"}, {"rollout_engine": "vllm"})
    assert launch.training_command(study, tmp_path / "a.json", ["script.py"], 1) == [sys.executable, "script.py"]
    environment = launch.training_environment(launch.Plan(["4"], ["7"]), {"A": "b"})
    assert environment["CUDA_VISIBLE_DEVICES"] == "4"
    assert environment[launch.METERED_VARIABLE] == "4,7"
    assert environment["A"] == "b"


def test_the_servers_command_line(study_of):
    study = study_of(
        4, {"rollouts": "server", "server_gpus": 2},
        {"rollout_engine": "vllm", "max_prompt_tokens": 100, "max_completion_tokens": 28},
    )  # fmt: skip
    words = rollout_server.command(study, "python", Path("base"), 1234)
    assert words[:5] == ["python", "-m", "vllm.entrypoints.cli.main", "serve", "base"]
    given = dict(zip(words[5::2], words[6::2], strict=True))
    assert given == {
        "--host": "127.0.0.1", "--port": "1234", "--tensor-parallel-size": "2", "--gpu-memory-utilization": "0.9",
        "--max-model-len": "128", "--uvicorn-log-level": "warning", "--weight-transfer-config": '{"backend": "nccl"}',
        "--logprobs-mode": "processed_logprobs", "--max-logprobs": "-1",
    }  # fmt: skip
    environment = rollout_server.environment(["2", "3"], {"CUDA_VISIBLE_DEVICES": "0,1,2,3"})
    assert environment["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert environment["VLLM_SERVER_DEV_MODE"] == "1"


def server(tmp_path, program: str, port: int = 0) -> rollout_server.RolloutServer:
    words = [sys.executable, "-c", program, str(port)]
    return rollout_server.RolloutServer(words, os.environ, tmp_path / "server.log", port=port)


def test_a_server_is_waited_for_and_ended(tmp_path):
    port = rollout_server.free_ports(1)[0]
    with server(tmp_path, SERVING, port) as running:
        running.wait_until_healthy(60)
        running.check()
        assert running.child.status() is None
    assert running.child.status() is not None


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", MemoryError, "too little memory"),
        ("python: No module named vllm", UnavailableError, "make env NAME=vllm"),
        ("ValueError: unknown model", EngineError, "ended with status 3: ValueError: unknown model"),
    ],
)
def test_a_server_that_ends_says_why(tmp_path, said, error, text):
    program = f"import sys; print({said!r}, file=sys.stderr); sys.exit(3)"
    with server(tmp_path, program) as running, pytest.raises(error) as raised:
        running.wait_until_healthy(60)
    assert text in str(raised.value)


def test_a_server_that_does_not_answer_in_time(tmp_path):
    with server(tmp_path, "import time; time.sleep(600)") as running, pytest.raises(EngineError, match="not answered"):
        running.wait_until_healthy(0)
    assert running.child.status() == 143


def test_a_child_takes_its_own_children_with_it(tmp_path):
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)"
    )
    child = Child([sys.executable, "-c", program], os.environ)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.end()
    assert child.status() == 143
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]


@pytest.fixture
def scripted(study_of, tmp_path, monkeypatch):
    """Run the launcher with a program instead of the training script and one instead of the server."""

    def run(training: str, serving: str = SERVING) -> int:
        study = study_of(2, {"rollouts": "server"}, {"rollout_engine": "vllm"})
        script = tmp_path / "script.py"
        script.write_text(training)
        monkeypatch.setattr(sys, "argv", [str(script)])
        monkeypatch.setattr(
            rollout_server, "command", lambda study, python, folder, port: [python, "-c", serving, str(port)]
        )
        found = launch.Plan(["0"], ["1"])
        return launch.run(study, found, model=tmp_path, log=tmp_path / "logs" / "grpo-s0.log", environ=os.environ)

    return run


def test_training_starts_when_the_server_answers_and_both_end(scripted, tmp_path):
    training = (
        "import os, urllib.request\n"
        "url = os.environ['GAINWATT_ROLLOUT_SERVER']\n"
        "assert urllib.request.urlopen(url + '/health').status == 200\n"
        "assert os.environ['CUDA_VISIBLE_DEVICES'] == '0'\n"
        "assert os.environ['GAINWATT_METERED_GPUS'] == '0,1'\n"
        f"open({str(tmp_path / 'seen')!r}, 'w').write(url)\n"
        "raise SystemExit(7)"
    )
    assert scripted(training) == 7
    port = int((tmp_path / "seen").read_text().rpartition(":")[2])
    assert port not in rollout_server.free_ports(1)
    assert json.loads((tmp_path / "logs" / "grpo-s0.accelerate.json").read_text())["num_processes"] == 1


def test_a_server_that_dies_ends_the_training(scripted):
    dies = SERVING.replace(".serve_forever()", ".handle_request()") + "raise RuntimeError('gone')\n"
    with pytest.raises(EngineError, match="ended with status 1: RuntimeError: gone"):
        scripted("import time; time.sleep(600)", dies)


def test_numbers_of_gpus_are_the_drivers(scripted, monkeypatch):
    training = "import os; raise SystemExit(7 if os.environ.get('CUDA_DEVICE_ORDER') == 'PCI_BUS_ID' else 1)"
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert scripted(training) == 1  # whoever named them knows the order
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert scripted(training) == 7


@pytest.mark.processes
def test_two_processes_are_launched_by_the_script_itself(tmp_path, tiny_folder):
    """The whole way on a CPU: the script starts accelerate, which starts the script twice."""
    data = tmp_path / "data"
    data.mkdir()
    for split, n in (("train", 12), ("test", 4)):
        lines = [json.dumps({"question": f"{split} {i}: what is {i} + 2?", "answer": "#### 7"}) for i in range(n)]
        (data / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    sections = {
        "data": {"source": str(data), "prompt_template": "{question}"},
        "model": {"source": str(tiny_folder), "dtype": "fp32"}, "resources": {"train": {"gpus": 2}},
        "train": {
            "seeds": [0], "max_steps": 2, "precision": "fp32", "gradient_checkpointing": False,
            "max_completion_tokens": 8, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2,
            "zero_variance_patience_steps": 5,
        },
    }  # fmt: skip
    study = write_study(tmp_path, sections)
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true",
        "GAINWATT_GPUS": "0,1", "PYTHONPATH": str(ROOT / "src"),
    }  # fmt: skip
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    for name, options in (("prepare_data", []), ("fetch_model", []), ("train_grpo", ["--variant", "grpo-s0"])):
        command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), "--study", str(study), *options]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
    record = json.loads((tmp_path / "results/tiny/records/train_grpo/grpo-s0.json").read_text())
    assert record["settings"]["processes"] == 2
    assert record["metrics"]["steps"] == 2
    assert record["metrics"]["prompts_per_step"] == 2
    assert done.stderr.count("command: ") == 1


def test_sigterm_ends_server_and_training(study_of, tmp_path):
    program = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from gainwatt.cli import run\n"
        "from gainwatt.training.children import Child\n"
        "def main(argv):\n"
        "    child = Child([sys.executable, '-c', 'import time; time.sleep(600)'], os.environ)\n"
        "    try:\n"
        f"        Path({str(tmp_path / 'pid')!r}).write_text(str(child.process.pid))\n"
        "        time.sleep(600)\n"
        "    finally:\n"
        "        child.end()\n"
        "run(main)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    running = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=60) == 143
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()

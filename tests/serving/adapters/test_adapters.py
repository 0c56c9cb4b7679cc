"""What each engine's server is started with, and what is read from its log; lines as the engines write them."""

from __future__ import annotations

import importlib.metadata
import json
import stat
import sys
from types import ModuleType, SimpleNamespace

import pytest

from gainwatt.errors import InputError, UnavailableError
from gainwatt.serving.adapters import adapter_for, base, llamacpp, vllm, vllm_memory, vllm_plain_awq
from gainwatt.serving.adapters.base import Address
from gainwatt.serving.ask import counters
from gainwatt.serving.facts import complete
from gainwatt.serving.local.__main__ import ERROR_MARK
from gainwatt.serving.spec import ServerSpec

WORKER = "(EngineCore_0 pid=31) "
V25 = [
    "INFO 11-21 12:51:50 [core.py:109] Initializing a V1 LLM engine (v0.25.1) with config: model='/m', "
    "dtype=torch.float16, quantization=auto_awq, enforce_eager=False, compilation_config={'cudagraph_mode': "
    "<CUDAGraphMode.FULL_AND_PIECEWISE: (2, 1)>, 'cudagraph_copy_inputs': False}",
    f"{WORKER}INFO 11-21 12:51:55 [cuda.py:477] Using FLASH_ATTN attention backend out of potential backends: [...].",
    f"{WORKER}INFO 11-21 12:51:55 [auto_awq.py:473] Using MacheteLinearKernel for AutoAWQMarlinLinearMethod",
    f"{WORKER}INFO 11-21 12:51:56 [gpu_model_runner.py:5307] Model loading took 1.07 GiB memory and 1.512345 seconds",
    f"{WORKER}INFO 11-21 12:52:07 [gpu_worker.py:541] Available KV cache memory: 121.62 GiB",
    f"{WORKER}INFO 11-21 12:52:07 [kv_cache_utils.py:2146] GPU KV cache size: 4,554,576 tokens",
    f"{WORKER}INFO 11-21 12:52:07 [kv_cache_utils.py:2147] Maximum concurrency for 2,048 tokens per request: 2223.91x",
    f"{WORKER}INFO 11-21 12:52:15 [gpu_model_runner.py:6001] Graph capturing finished in 4 secs, took 0.41 GiB",
    f"{WORKER}DEBUG 11-21 12:52:15 [gpu_worker.py:835] Free memory on device (139.1/139.8 GiB) on startup. Desired GPU "
    "memory utilization is (0.9, 125.82 GiB). Actual usage is 1.07 GiB for weight, 2.51 GiB for peak activation, 0.12 "
    "GiB for non-torch memory, and 0.44 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with "
    "`--kv-cache-memory=1` (1.0 GiB) to fit. Current kv cache memory in use is 121.6 GiB.",
]
V32 = [
    "INFO 11-21 15:52:01 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='/m', "
    "quantization=None, enforce_eager=True, compilation_config={'cudagraph_mode': <CUDAGraphMode.NONE: 0>, 'x': 1}",
    "INFO 11-21 15:52:12 [kv_cache_utils.py:2330] CPU KV cache size: 1,048,576 tokens, Maximum concurrency for 512 "
    "tokens per request: 2048.00x",
]


@pytest.fixture
def spec(tiny_folder, monkeypatch):
    for module in (vllm, llamacpp):
        monkeypatch.setattr(module, "interpreter_with", lambda package, spec, environment: f"/{environment}/python")

    def make(scheme, engine, **changes):
        return ServerSpec(tiny_folder, scheme, engine, name="m", **changes)

    return make


def words(command):
    return " ".join(command)


def test_vllm_is_started_closed_and_neutral(spec, tmp_path):
    asked = spec("bf16", "vllm", api_key="sesame", max_model_len=512, max_num_seqs=16, memory_fraction=0.8, seed=3)
    start = adapter_for("vllm").start(asked, 8123, tmp_path)
    said = words(start.command)
    assert start.command[:3] == ["/vllm/python", "-m", "vllm.entrypoints.openai.api_server"]
    for part in (
        "--host 127.0.0.1 --port 8123", "--dtype bfloat16", "--generation-config vllm", "--no-enable-prefix-caching",
        "--allowed-origins []", "--max-model-len 512", "--max-num-seqs 16", "--gpu-memory-utilization 0.8", "--seed 3",
    ):  # fmt: skip
        assert part in said
    assert "sesame" not in said
    assert start.environment["VLLM_API_KEY"] == "sesame"
    assert "VLLM_SERVER_DEV_MODE" not in start.environment
    assert "--quantization" not in said
    logging = json.loads((tmp_path / "logging.json").read_text("utf-8"))
    assert logging["loggers"]["vllm"]["level"] == "INFO"


def test_a_prefix_cache_can_be_reset_on_this_machine_only(spec, tmp_path):
    start = adapter_for("vllm").start(spec("bf16", "vllm", prefix_cache=True), 1, tmp_path)
    assert start.environment["VLLM_SERVER_DEV_MODE"] == "1"
    assert "--enable-prefix-caching" in start.command
    far = adapter_for("vllm").start(spec("bf16", "vllm", prefix_cache=True, host="10.0.0.1", api_key="k"), 1, tmp_path)
    assert "VLLM_SERVER_DEV_MODE" not in far.environment


def test_the_forced_kernels(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_DISABLED_KERNELS", "ExllamaLinearKernel")
    marlin = adapter_for("vllm").start(spec("awq-w4g128-autoawq", "vllm", quantization="awq_marlin"), 1, tmp_path)
    assert marlin.environment["VLLM_DISABLED_KERNELS"] == f"ExllamaLinearKernel,{vllm.NOT_MARLIN}"
    assert "--quantization awq_marlin" in words(marlin.command)
    assert not marlin.python_path
    plain = adapter_for("vllm").start(spec("awq-w4g128-autoawq", "vllm", quantization="awq"), 1, tmp_path)
    # vLLM names what it has compiled after its variables: the three ways must not find each other's.
    names = {(start.environment or {}).get("VLLM_DISABLED_KERNELS") for start in (plain, marlin)}
    assert len(names) == 2
    assert all(name.startswith("ExllamaLinearKernel,") for name in names)
    (folder,) = plain.python_path
    (found,) = importlib.metadata.distributions(path=[folder])
    (entry,) = found.entry_points
    assert entry.group == "vllm.general_plugins"
    assert entry.load() is vllm_plain_awq.register


def test_the_plain_kernel_replaces_marlin_and_says_so(monkeypatch):
    class Method:
        def create_weights(self, layer):
            return layer

    said = []
    module = ModuleType("auto_awq")
    module.AutoAWQLinearMethod = Method
    module.check_marlin_supported = lambda *args: True
    module.logger = SimpleNamespace(info=said.append)
    monkeypatch.setattr(vllm_plain_awq.importlib, "import_module", lambda name: module)
    vllm_plain_awq.register()
    vllm_plain_awq.register()
    assert module.check_marlin_supported(1, group=2) is False
    assert [Method().create_weights(7), Method().create_weights(8)] == [7, 8]
    assert said == ["Using AwqGemmKernel for AutoAWQLinearMethod"]
    monkeypatch.setattr(vllm_plain_awq.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError))
    vllm_plain_awq.register()


def test_memory_of_a_gpu_in_parts():
    found = vllm_memory.memory(V25)
    parts = {name: round(value / 1024, 2) for name, value in found["memory_mib"].items()}
    assert parts == {
        "weights": 1.07, "kv_cache": 121.6, "activations": 2.51, "reserved": 125.82, "non_torch": 0.12,
        "cuda_graphs": 0.44,
    }  # fmt: skip
    assert (found["kv_cache_tokens"], found["max_model_len"], found["max_concurrency"]) == (4_554_576, 2048, 2223.91)
    assert found["null_reasons"] == {}
    assert vllm_memory.graphs(V25, eager=False) == {"cuda_graphs": "FULL_AND_PIECEWISE"}
    assert vllm_memory.graphs(V25, eager=True) == {"cuda_graphs": False}
    assert vllm_memory.quantization(V25) == "auto_awq"


def test_what_the_log_does_not_say_is_null_with_the_reason():
    found = vllm_memory.memory(V32)
    assert (found["kv_cache_tokens"], found["max_concurrency"]) == (1_048_576, 2048.0)
    assert found["memory_mib"]["weights"] is None
    assert found["null_reasons"]["memory_mib.weights"] == "vLLM's log does not say"
    assert vllm_memory.graphs(V32, eager=False) == {"cuda_graphs": False}
    assert vllm_memory.graphs([], eager=False) == {"cuda_graphs": None}
    assert vllm_memory.quantization(V32) is None


def test_facts_of_vllm(spec, monkeypatch):
    monkeypatch.setattr(vllm, "ask_json", lambda url: {"version": "0.25.1"})
    asked = spec("awq-w4g128-autoawq", "vllm", quantization="awq_marlin")
    facts = adapter_for("vllm").facts(asked, V25, Address("http://x", {}))
    assert facts["quantization_kernel"] == {"AutoAWQMarlinLinearMethod": "MacheteLinearKernel"}
    assert facts["quantization_as_asked"] is False
    assert (facts["attention_backend"], facts["engine_version"]) == ("FLASH_ATTN", "0.25.1")
    dense = adapter_for("vllm").facts(spec("fp32", "vllm"), V32, Address("http://x", {}))
    # 2 (keys, values) x 2 layers x 2 heads x 32 x 4 bytes a token
    assert dense["memory_mib"]["kv_cache"] == 1_048_576 * 2 * 2 * 2 * 32 * 4 / 2**20
    assert dense["null_reasons"]["quantization_kernel"] == "the scheme is not quantized"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.", MemoryError),
        ("ValueError: There is no module or parameter named 'x'", InputError),
        ("ModuleNotFoundError: No module named 'vllm._C'", UnavailableError),
    ],
)
def test_why_vllm_did_not_start(line, kind):
    assert type(adapter_for("vllm").failure([*V25, f"{WORKER}ERROR 11-21 12:00:00 [core.py:999] {line}"])) is kind
    assert adapter_for("vllm").failure(V25) is None
    assert adapter_for("vllm").failure(["OSError: [Errno 98] Address already in use"]) is None


def test_why_the_transformers_server_did_not_start():
    adapter = adapter_for("transformers")

    def said(kind):
        return adapter.failure(["noise", ERROR_MARK + json.dumps({"kind": kind, "what": "w", "hint": "h"})])

    for kind in (InputError, UnavailableError, MemoryError):
        assert type(said(kind.__name__)) is kind
    assert adapter.failure(["noise"]) is None
    assert adapter.failure([ERROR_MARK + "{"]) is None


def test_the_key_of_llama_server_is_in_a_private_file(spec, tmp_path, monkeypatch, tiny_folder):
    monkeypatch.setattr(llamacpp, "_gguf", lambda spec, work: tmp_path / "model.gguf")
    monkeypatch.setattr(llamacpp.shutil, "which", lambda name: "/usr/bin/llama-server")
    asked = spec("gguf-q4_0", "llamacpp", api_key="sesame", max_model_len=300, max_num_seqs=4)
    start = adapter_for("llamacpp").start(asked, 8123, tmp_path)
    assert "--ctx-size 1200 --parallel 4" in words(start.command)
    assert "sesame" not in words(start.command)
    file = tmp_path / "key"
    assert file.read_text("utf-8") == "sesame\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_server_of_llama_cpp_python(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(llamacpp, "_gguf", lambda spec, work: tmp_path / "model.gguf")
    monkeypatch.setattr(llamacpp.shutil, "which", lambda name: None)
    monkeypatch.setattr(llamacpp, "has_package", lambda python, package: True)
    start = adapter_for("llamacpp").start(spec("gguf-q4_0", "llamacpp", api_key="sesame"), 8123, tmp_path)
    assert "sesame" not in words(start.command)
    config = json.loads((tmp_path / "llama.json").read_text("utf-8"))
    assert (config["host"], config["port"], config["api_key"]) == ("127.0.0.1", 8123, "sesame")
    assert stat.S_IMODE((tmp_path / "llama.json").stat().st_mode) == 0o600
    monkeypatch.setattr(llamacpp, "has_package", lambda python, package: package != "uvicorn")
    with pytest.raises(UnavailableError, match=r"no llama-server on the PATH, and /llamacpp/python lacks uvicorn"):
        adapter_for("llamacpp").start(spec("gguf-q4_0", "llamacpp"), 8123, tmp_path)


def test_llama_cpp_serves_gguf_files_only(spec, tmp_path):
    with pytest.raises(InputError, match=r"holds no model\.gguf"):
        llamacpp._gguf(spec("gguf-q4_0", "llamacpp"), tmp_path)


def test_the_buffers_of_llama_cpp(spec, monkeypatch):
    monkeypatch.setattr(llamacpp, "ask_json", lambda url, headers: {"build_info": "b7000-abc"})
    lines = [
        "load_tensors:   CPU_Mapped model buffer size =     2.50 MiB",
        "llama_kv_cache:        CPU KV buffer size =     0.50 MiB",
        "sched_reserve:        CPU compute buffer size =     6.00 MiB",
    ]
    facts = adapter_for("llamacpp").facts(spec("gguf-q4_0", "llamacpp"), lines, Address("http://x", {}))
    assert facts["memory_mib"] == {"weights": 2.5, "kv_cache": 0.5, "activations": 6.0, "reserved": 9.0}
    assert (facts["engine_version"], facts["quantization"], facts["prefix_cache"]) == ("b7000-abc", "Q4_0", False)
    python = [*lines, "INFO:     Uvicorn running on http://127.0.0.1:8123 (Press CTRL+C to quit)"]
    asked = spec("gguf-q4_0", "llamacpp", max_num_seqs=4, max_model_len=300)
    told = adapter_for("llamacpp").facts(asked, python, Address("http://x", {}))
    assert adapter_for("llamacpp").reset_prefix_cache(asked, Address("http://x", {}))
    monkeypatch.setattr(llamacpp, "ask_json", lambda url, headers: None)
    assert not adapter_for("llamacpp").reset_prefix_cache(asked, Address("http://x", {}))
    assert (told["max_num_seqs"], told["max_concurrency"], told["kv_cache_tokens"]) == (1, 1.0, 300)
    assert (
        complete(asked, adapter_for("llamacpp").facts(asked, python, Address("http://x", {})))["prefix_cache"] is True
    )
    told = adapter_for("llamacpp").facts(spec("gguf-q4_0", "llamacpp"), lines[:1], Address("http://x", {}))
    assert told["memory_mib"]["reserved"] is None


def test_an_interpreter_with_the_package_or_none(tiny_folder):
    spec = ServerSpec(tiny_folder, "fp32", "transformers")
    assert base.interpreter_with("json", spec, "core") == sys.executable
    with pytest.raises(
        UnavailableError, match=r"no interpreter with no_such_package: tried .* and \.envs/x/bin/python"
    ):
        base.interpreter_with("no_such_package", spec, "x")
    chosen = ServerSpec(tiny_folder, "fp32", "transformers", python="/nowhere/python")
    with pytest.raises(UnavailableError, match="tried /nowhere/python"):
        base.interpreter_with("json", chosen, "core")


def test_counters_of_a_prometheus_page():
    page = (
        '# HELP x y\nx_total{engine="0",name="a b"} 3.0\nx_total{engine="1"} 4\nplain 7.5\nbroken\nnan_one{} nothing\n'
    )
    assert counters(page) == {"x_total": 7.0, "plain": 7.5}


@pytest.mark.parametrize(
    ("page", "hits"),
    [
        ('vllm:prefix_cache_queries_total{e="0"} 56.0\nvllm:prefix_cache_hits_total{e="0"} 16.0\n', (56, 16)),
        ("vllm:other 1\n", None),
    ],
)
def test_prefix_hits(monkeypatch, page, hits):
    monkeypatch.setattr(vllm, "ask", lambda url, headers: (200, page.encode()))
    found = adapter_for("vllm").prefix_hits(Address("http://x", {}))
    assert found == (None if hits is None else {"queries": hits[0], "hits": hits[1]})

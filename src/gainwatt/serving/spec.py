"""What is to be served, and how: checked before anything is started."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from gainwatt.errors import InputError, UnavailableError
from gainwatt.schemes import Scheme, get_scheme

LOOPBACK = "127.0.0.1"
ENGINES = ("vllm", "transformers", "llamacpp")
QUANTIZATIONS = ("awq", "awq_marlin")
DTYPES = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class ServerSpec:
    """One server. `checkpoint` is the folder with config.json, `scheme` says how it is stored.

    `port` 0 takes a free one. `dtype` (fp32, bf16, fp16) is the type of the arithmetic where the scheme does not
    decide it (none: bf16). `max_model_len` bounds prompt and answer together, `max_num_seqs` the answers generated at
    once, `memory_fraction` the share of a GPU's memory that vLLM reserves. `quantization` forces one of vLLM's AWQ
    kernels. `python` is the interpreter of the engine's environment (none: the one that has the engine). `name` is what
    requests call the model. `options` are further words of the engine's own command line.

    Raises InputError for values that contradict each other, UnavailableError where the engine cannot load the scheme.
    """

    checkpoint: Path
    scheme: str
    engine: str
    host: str = LOOPBACK
    port: int = 0
    api_key: str | None = field(default=None, repr=False)
    dtype: str | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    memory_fraction: float | None = None
    quantization: str | None = None
    prefix_cache: bool = False
    tensor_parallel: int = 1
    seed: int = 0
    python: str | None = None
    enforce_eager: bool = False
    trust_remote_code: bool = False
    name: str | None = None
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "checkpoint", Path(self.checkpoint))
        if self.engine not in ENGINES:
            raise InputError(f"there is no serving engine {self.engine!r}", f"the engines are: {', '.join(ENGINES)}")
        if self.stored.loader(self.engine) is None:
            raise UnavailableError(
                f"the engine {self.engine} cannot load the scheme {self.scheme}; {' and '.join(self.stored.engines)} "
                "can",
                "serve it with one of these",
            )
        self._check_access()
        self._check_sizes()
        self._check_quantization()
        if not (self.checkpoint / "config.json").is_file():
            raise InputError(f"{self.checkpoint} holds no config.json", "give the folder of a checkpoint")

    def _check_access(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"{self.port} is not a port", "give a number from 1 to 65535, or 0 for a free one")
        if self.api_key is not None and (not self.api_key or any(letter <= " " for letter in self.api_key)):
            raise InputError(
                "the API key is empty or holds white space", "give one word, e.g. of `openssl rand -hex 16`"
            )
        if self.api_key is not None and not self.api_key.isascii():
            raise InputError("the API key holds letters that HTTP headers cannot carry", "use ASCII letters and digits")
        if self.api_key is None and not is_loopback(self.host):
            raise InputError(
                f"the server would answer everybody who reaches {self.host}",
                "set an API key (GAINWATT_API_KEY or --api-key-file), or leave the host at 127.0.0.1",
            )

    def _check_sizes(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise InputError(f"there is no type {self.dtype!r}", f"the types are: {', '.join(DTYPES)}")
        for name in ("max_model_len", "max_num_seqs", "tensor_parallel"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} = {value}", "give a number of at least 1")
        if self.memory_fraction is not None and not 0 < self.memory_fraction < 1:
            raise InputError(f"memory_fraction = {self.memory_fraction}", "give a share between 0 and 1")
        if self.tensor_parallel > 1 and self.engine != "vllm":
            raise InputError(f"{self.engine} serves from one GPU", "set tensor_parallel to 1, or serve with vllm")

    def _check_quantization(self) -> None:
        if self.quantization is None:
            return
        if self.quantization not in QUANTIZATIONS or self.engine != "vllm" or self.stored.kind != "autoawq":
            raise InputError(
                f"quantization = {self.quantization!r} with {self.engine} and the scheme {self.scheme}",
                f"{' and '.join(QUANTIZATIONS)} choose between vLLM's kernels for the scheme awq-w4g128-autoawq; leave "
                "it out otherwise",
            )

    @property
    def stored(self) -> Scheme:
        """The scheme's entry in the registry."""
        return get_scheme(self.scheme)

    @property
    def compute_dtype(self) -> str:
        """The type of the arithmetic: the scheme's own, else `dtype`, else bf16."""
        return self.stored.compute_dtype or self.dtype or "bf16"

    @property
    def model(self) -> str:
        """The name that requests send."""
        return self.name or f"{self.checkpoint.resolve().parent.name}.{self.scheme}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server bound to `host`. A name other than localhost counts as reachable."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"

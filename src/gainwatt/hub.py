"""The Hugging Face hub: is it in reach, and how its files come to a machine from which it is not."""

from __future__ import annotations

import os
import socket
import sys
from urllib.parse import urlsplit

CONNECT_TIMEOUT_S = 5.0
MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model", "LICENSE*")
"""What a checkpoint needs of a hub repository; pickled weights and other frameworks' copies stay away."""


def go_offline_if_unreachable() -> str | None:
    """Try one connection to the hub, and where it fails tell the hub's client to use its cache only.

    The client would otherwise try for minutes. Returns the reason, or None where the hub is in reach. To be called
    before huggingface_hub or datasets is imported: both read HF_HUB_OFFLINE once. A hub switched off by HF_HUB_OFFLINE
    is not asked at all.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_HUB_OFFLINE is set"
    host, port = _address()
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        reason = f"{host}:{port} cannot be reached ({error.strerror or error})"
        print(f"{reason}: only what is in the cache of the hub's client is used", file=sys.stderr, flush=True)
        os.environ["HF_HUB_OFFLINE"] = "1"
        return reason
    return None


def model_hint(name: str, revision: str | None, study: str) -> str:
    """How to bring a model by hand."""
    patterns = " ".join(f"--include '{pattern}'" for pattern in MODEL_FILES)
    folder = f"models/{name.partition('/')[2]}"
    return (
        "on a machine with internet run\n"
        f"    hf download {name} --revision {revision} {patterns} --local-dir {folder}\n"
        f"  copy the folder {folder} here and add: --set model.source={folder} (in the workflow: "
        f"--config set=model.source={folder}).\n"
        f"  Where both machines share this folder, `make fetch STUDY={study}` on the other one is enough"
    )


def data_hint(name: str, revision: str | None, study: str) -> str:
    """How to bring a data set by hand."""
    return (
        f"on a machine with internet run scripts/prepare_data.py with the same study, which reads {name} at "
        f"{revision}, and copy\n    results/{study}/data/train.jsonl\n    results/{study}/data/test.jsonl\n"
        "  here into one folder, e.g. data/; then add: --set data.source=data (in the workflow: "
        "--config set=data.source=data).\n"
        "  Any train.jsonl and test.jsonl whose lines hold question and answer will do.\n"
        f"  Where both machines share this folder, `make fetch STUDY={study}` on the other one is enough"
    )


def _address() -> tuple[str, int]:
    """Host and port to try: a proxy where one is set, else the hub, or the mirror that HF_ENDPOINT names."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    scheme = urlsplit(endpoint).scheme
    proxy = os.environ.get(f"{scheme}_proxy") or os.environ.get(f"{scheme.upper()}_PROXY")
    parts = urlsplit(proxy if proxy and "://" in proxy else f"http://{proxy}" if proxy else endpoint)
    return parts.hostname or endpoint, parts.port or (443 if parts.scheme == "https" else 80)

"""A hub out of reach is found out in seconds, and the error says how its files come here."""

from __future__ import annotations

import os
import socket

import pytest

from gainwatt import hub


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")  # so that what the function sets is taken back


@pytest.fixture
def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody can connect
        yield taken.getsockname()[1]


def test_out_of_reach(monkeypatch, capsys, closed_port):
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    reason = hub.go_offline_if_unreachable()
    assert reason == f"127.0.0.1:{closed_port} cannot be reached (Connection refused)"
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert "cache" in capsys.readouterr().err


def test_in_reach(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert hub.go_offline_if_unreachable() is None
    assert os.environ["HF_HUB_OFFLINE"] == ""


def test_switched_off_is_not_asked(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("asked"))
    assert hub.go_offline_if_unreachable() == "HF_HUB_OFFLINE is set"


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, ("huggingface.co", 443)),
        ({"HF_ENDPOINT": "https://mirror.example/hf"}, ("mirror.example", 443)),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, ("proxy.example", 3128)),
        ({"https_proxy": "proxy.example:3128"}, ("proxy.example", 3128)),
    ],
)
def test_what_is_asked(monkeypatch, variables, address):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub._address() == address


def test_hints_hold_the_commands():
    model = hub.model_hint("org/name", "abc", "study")
    assert "hf download org/name --revision abc --include '*.safetensors' --include '*.json'" in model
    assert "--local-dir models/name" in model
    assert "--set model.source=models/name" in model
    assert "make fetch STUDY=study" in model
    data = hub.data_hint("org/set", "abc", "study")
    assert "results/study/data/train.jsonl" in data
    assert "--set data.source=data" in data

"""What reaches the processes of an engine that is started in this one."""

from __future__ import annotations

import multiprocessing
import os
import sys
from importlib import metadata

from gainwatt.serving.adapters.vllm import _plain_awq_plugin
from gainwatt.serving.in_process import _import_path


def plugins(answers):
    """In a spawned process: the plugins that vLLM would find there."""
    answers.put([found.name for found in metadata.entry_points(group="vllm.general_plugins")])


def spawned():
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=plugins, args=(answers,))
    process.start()
    found = answers.get(timeout=60)
    process.join()
    return found


def test_a_plugin_reaches_a_spawned_process_and_nothing_stays_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    folder, before = str(_plain_awq_plugin(tmp_path)), list(sys.path)
    with _import_path([folder]):
        assert os.environ["PYTHONPATH"] == os.pathsep.join([folder, "elsewhere"])
        assert "gainwatt_plain_awq" in spawned()
    assert sys.path == before
    assert os.environ["PYTHONPATH"] == "elsewhere"
    assert "gainwatt_plain_awq" not in spawned()

"""The clock of a training step stops when the GPU has ended its work, not when the work is queued."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("trl")

from gainwatt.training import trainer as module
from gainwatt.training.steplog import StepLog


def test_the_queue_of_the_gpu_is_waited_for_at_both_ends(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0, queued=0.0)

    def synchronize():
        clock.now += clock.queued
        clock.queued = 0.0

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(module, "cuda_synchronize", synchronize)
    log = StepLog(tmp_path, resume_step=0)
    ledger = SimpleNamespace(take=lambda: [0])
    callback = module.StepCallback(log, ledger, train_items=1, patience_steps=9)
    callback.trainer = SimpleNamespace(rollout_s=0.0)
    state = SimpleNamespace(global_step=1, is_world_process_zero=True)
    clock.queued = 5.0  # of the step before
    callback.on_step_begin()
    clock.now += 1.0
    clock.queued = 2.0
    callback.on_step_end()
    callback.on_log(None, state, None, {"reward": 0.5, "frac_reward_zero_std": 0.0})
    state.global_step = 2
    callback.on_log(None, state, None, {"reward": 0.5, "frac_reward_zero_std": 0.0})
    assert [(row["step_s"], row["cold"]) for row in log.rows] == [(3.0, True), (3.0, False)]

"""The whole weights of a sharded model (src/gainwatt/training/sharding.py), with a make-believe accelerator."""

from __future__ import annotations

from types import SimpleNamespace

from gainwatt.training.sharding import whole_model


def test_no_process_leaves_before_the_first_one_has_the_weights(tmp_path):
    calls: list[str] = []

    def gather(model):
        calls.append(f"gather {model}")
        return {}

    accelerator = SimpleNamespace(get_state_dict=gather, wait_for_everyone=lambda: calls.append("wait"))
    trainer = SimpleNamespace(
        is_fsdp_enabled=True, accelerator=accelerator, model="policy", is_world_process_zero=lambda: False
    )
    assert whole_model(trainer, tmp_path) is None
    assert calls == ["gather policy", "wait"]

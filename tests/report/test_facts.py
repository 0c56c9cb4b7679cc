"""Environment and energy: what the records agree on, what they do not, what is not known."""

from __future__ import annotations

from gainwatt.report.energy import energy_facts
from gainwatt.report.environment import environment_facts
from report.rich import environment, metered


def record(stage="evaluate_gsm8k", **changed):
    return {"stage": stage, "environment": environment(), "energy": metered(40.0, 300.0)} | changed


def test_differing_environments_are_told_apart_with_their_stages():
    other = environment(packages={"torch": "2.13.0", "transformers": "5.17.0"})
    facts = {fact.name: fact for fact in environment_facts([record(), record(), record("quantize", environment=other)])}
    assert [fact.name for fact in facts.values() if fact.differs] == ["package torch"]
    assert facts["package torch"].values == [("2.11.0", ["evaluate_gsm8k"], 2), ("2.13.0", ["quantize"], 1)]
    assert facts["GPU power limit (W)"].values == [("700.0", ["evaluate_gsm8k", "quantize"], 3)]
    assert facts["CUDA_VISIBLE_DEVICES"].values[0][0] == "not set"


def test_several_gpus_and_a_reason_instead_of_them():
    two = environment(gpus=[{"name": "A", "driver": "1"}, {"name": "B", "driver": "1"}])
    facts = {fact.name: fact.values[0][0] for fact in environment_facts([record(environment=two)])}
    assert (facts["GPUs"], facts["GPU name"], facts["GPU driver"]) == ("2", "A, B", "1")
    none = environment_facts([record(environment=environment(gpus="NVML: not found"))])
    assert next(fact for fact in none if fact.name == "GPUs").values[0][0] == "NVML: not found"


def test_energy_names_method_boundary_and_what_lies_outside():
    found = energy_facts([record(), record()])
    facts = dict(found.facts)
    assert facts["in total"] == "26.24 kJ gross over 2 of 2 jobs"
    assert facts["method"] == "energy counter of the device (2 jobs)"
    assert facts["boundary"].startswith("the GPU board")
    assert facts["not in it"].startswith("the CPU package; main memory; power supply")
    assert facts["counter against integral"] == "−0.40 %"
    assert facts["idle power before the work"] == "81 W"


def test_marks_are_explained_and_nulls_counted_by_reason():
    dark = {"gross_j": None, "null_reasons": {"gross_j": "no meter"}, "flags": []}
    no_net = metered(40.0, 600.0) | {"net_j": None, "null_reasons": {"net_j": "idle_s is 0"}}
    found = energy_facts([record(energy=dark), record(energy=dark), record(energy=no_net)])
    assert found.reasons == [("no meter", 2), ("net energy: idle_s is 0", 1)]
    assert found.marks == [("power_capped", "the clocks were held down by the power limit", 1)]
    assert dict(found.facts)["net"] == "not known for any job"


def test_without_any_meter_there_is_a_reason_and_no_fact():
    found = energy_facts([record(energy={"gross_j": None})])
    assert (found.measured, found.facts, found.reasons) == (False, [], [("no energy in the record", 1)])

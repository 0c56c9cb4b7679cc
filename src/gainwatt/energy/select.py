"""Which GPUs a process uses, as `CUDA_VISIBLE_DEVICES` says.

Rules of the CUDA programming guide, "Environment variables": unset means every GPU; an empty value means none;
entries are indices or (abbreviated) UUIDs; the first entry that is not valid ends the list, so that `0,2,-1,1`
means 0 and 2; a MIG instance is `MIG-<uuid>` or, in the older form, `MIG-GPU-<uuid>/<gpu instance>/<compute
instance>`. With a repeated entry there is no GPU at all (PyTorch's reading of the variable, `torch/cuda/__init__.py`).
Slurm writes `NoDevFiles` into a job without GPUs.

NVML has no energy reading for a MIG instance: the whole board that carries it is measured, and the record says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

METERED_VARIABLE = "GAINWATT_METERED_GPUS"
"""The GPUs of the whole job, named as in CUDA_VISIBLE_DEVICES, where they are more than this process may use."""


@dataclass(frozen=True)
class GpuEntry:
    """One GPU that the driver lists: NVML index, UUID (`GPU-…`), product name, UUIDs of its MIG instances."""

    index: int
    uuid: str
    name: str = ""
    mig_uuids: tuple[str, ...] = ()


@dataclass
class Selection:
    """GPUs to measure in the order in which CUDA counts them; `reason` says why the list is empty or shortened."""

    indices: list[int] = field(default_factory=list)
    mig_ids: dict[int, list[str]] = field(default_factory=dict)
    reason: str | None = None
    ambiguous_order: bool = False


def resolve(environ: Mapping[str, str], gpus: Sequence[GpuEntry]) -> Selection:
    """GPUs of `gpus` (those that can be opened) that a CUDA program would see with `environ`. Never raises."""
    # A job may use more GPUs than the process that measures: those of its rollout server.
    variable = METERED_VARIABLE if environ.get(METERED_VARIABLE) else "CUDA_VISIBLE_DEVICES"
    value = environ.get(variable)
    if not gpus:
        return Selection(reason="the driver lists no GPU")
    if value is None:
        return Selection(indices=[gpu.index for gpu in gpus])
    selection = Selection()
    numbers_used = False
    named: set[str] = set()
    entries = [entry.strip() for entry in value.split(",")]
    for entry in entries:
        gpu, why = _find(entry, gpus)
        if gpu is None:
            selection.reason = _ending(variable, value, entry, why, bool(selection.indices))
            break
        name = gpu.uuid if not entry.startswith("MIG-") else entry
        if name in named:
            selection = Selection(reason=f'{variable}="{value}" names "{entry}" twice: CUDA then sees no GPU')
            break
        named.add(name)
        numbers_used = numbers_used or _is_number(entry)
        if gpu.index not in selection.indices:
            selection.indices.append(gpu.index)
        if entry.startswith("MIG-"):
            selection.mig_ids.setdefault(gpu.index, []).append(entry)
    selection.ambiguous_order = numbers_used and _order_matters(environ, gpus)
    return selection


def _find(entry: str, gpus: Sequence[GpuEntry]) -> tuple[GpuEntry | None, str]:
    if _is_number(entry):
        # CUDA counts what it may open: behind a board that a cgroup hides it counts one less than NVML.
        number = int(entry)
        return (gpus[number], "") if number < len(gpus) else (None, f"{len(gpus)} GPUs can be opened, counted from 0")
    if entry.startswith("MIG-GPU-"):
        parent = entry.removeprefix("MIG-").split("/")[0]
        return _by_prefix(parent, gpus)
    if entry.startswith("MIG-"):
        owners = [gpu for gpu in gpus if any(_same(mig, entry) for mig in gpu.mig_uuids)]
        if len(owners) == 1:
            return owners[0], ""
        return None, "no GPU carries this MIG instance" if not owners else "several MIG instances begin like this"
    if entry.startswith("GPU-"):
        return _by_prefix(entry, gpus)
    return None, "it is neither an index nor a UUID of a GPU or MIG instance"


def _is_number(entry: str) -> bool:
    # `isdigit` alone takes superscripts, and `int` refuses thousands of digits.
    return entry.isascii() and entry.isdigit() and len(entry) < 10


def _by_prefix(prefix: str, gpus: Sequence[GpuEntry]) -> tuple[GpuEntry | None, str]:
    match = [gpu for gpu in gpus if _same(gpu.uuid, prefix)]
    if len(match) == 1:
        return match[0], ""
    return None, "no GPU has this UUID" if not match else "several GPUs begin like this"


def _same(uuid: str, prefix: str) -> bool:
    return uuid.lower().startswith(prefix.lower())


def _ending(variable: str, value: str, entry: str, why: str, some: bool) -> str:
    setting = f'{variable}="{value}"'
    if some:
        return f'{setting} ends at "{entry}": {why}'
    if not value.strip():
        return f"{variable} is empty: this process may use no GPU"
    if entry == "NoDevFiles":
        return f"{setting}: Slurm gave this job no GPU"
    if entry == "-1":
        return f"{setting}: GPUs are switched off for this process"
    return f'{setting} selects no GPU at "{entry}": {why}'


def _order_matters(environ: Mapping[str, str], gpus: Sequence[GpuEntry]) -> bool:
    # NVML counts by PCI bus, CUDA by speed unless told otherwise: with unequal GPUs an index may mean two devices.
    return environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID" and len({gpu.name for gpu in gpus}) > 1

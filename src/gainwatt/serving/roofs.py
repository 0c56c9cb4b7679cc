"""The machine's limits, measured once for each machine, and the share of its roofs that a cell's speeds reach."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_json
from gainwatt.environment import gpus_of
from gainwatt.errors import GainwattError
from gainwatt.limits import DeviceLimits, ModelShape, decode_roof, decode_roof_tok_s, prefill_roof_tok_s, regime, share
from gainwatt.serving.energy import Numbers

KV_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0}
_TIMEOUT_S = 300
# In a process of its own: a CUDA context in this one would hold memory and power beside the engine's.
_CODE = """
import json, sys
from gainwatt.limits import measure_limits
from gainwatt.modeling import device
print(json.dumps(measure_limits(device(), sys.argv[1]).as_dict()))
"""


def machine_limits(
    dtype: str, kept: Path, machine: str, python: str = sys.executable
) -> tuple[DeviceLimits | None, str | None]:
    """Limits of the device for `dtype`, or None with the reason; measured once for each `machine` and kept in `kept`.

    `machine` names what the limits belong to, so that a folder that moves to another machine measures anew; `python` is
    an interpreter with torch.
    """
    try:
        content = json.loads(kept.read_text(encoding="utf-8"))
        if content["machine"] == machine and content["dtype"] == dtype:
            return DeviceLimits(**content["limits"]), None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        done = subprocess.run(
            [python, "-c", _CODE, dtype], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
        found = DeviceLimits(**json.loads(done.stdout.splitlines()[-1]))
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()
        return None, f"the machine's limits could not be measured: {last[-1] if last else error}"
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, IndexError) as error:
        return None, f"the machine's limits could not be measured: {error}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, {"machine": machine, "dtype": dtype, "limits": found.as_dict()})
    return found, None


@dataclass(frozen=True)
class Roofs:
    """Shape and limits behind the roofs of one checkpoint on one machine; `reason` says why there are none."""

    shape: ModelShape | None
    limits: DeviceLimits | None
    dtype: str
    reason: str | None = None

    @classmethod
    def of(cls, folder: Path, limits: DeviceLimits | None, dtype: str, reason: str | None) -> Roofs:
        """Roofs of the checkpoint in `folder`; a shape that cannot be read is a reason, not an error."""
        try:
            return cls(ModelShape.from_checkpoint(folder), limits, dtype, reason)
        except GainwattError as error:
            return cls(None, limits, dtype, f"the checkpoint's shape is not known: {error.what}")

    def numbers(
        self, *, batch: int, prompt_tokens: float, new_tokens: float, weight_bytes: float | None,
        decode_tok_s: float | None, prefill_tok_s: float | None,
    ) -> Numbers:  # fmt: skip
        """Roofs in tokens/s at this batch, the shares of them that were reached, and what bounds the decode.

        The decode's context is the prompt and half of the answer, its mean while the answer grows.
        """
        found = Numbers()
        names = ("decode_roof_tok_s", "decode_roof_share", "prefill_roof_tok_s", "prefill_roof_share", "decode_bound")
        if self.shape is None or self.limits is None or prompt_tokens < 1:
            known = self.shape is not None and self.limits is not None
            unknown = "the machine's limits were not measured (serve.limits)"
            why = "the number of prompt tokens is not known" if known else unknown
            for name in names:
                found.put(name, None, self.reason or why)
            return found
        context, kv_bytes = prompt_tokens + new_tokens / 2, KV_BYTES[self.dtype]
        roof = decode_roof_tok_s(self.shape, self.limits, batch, context, weight_bytes, kv_bytes)
        prompt_roof = prefill_roof_tok_s(self.shape, self.limits, round(prompt_tokens), batch, weight_bytes)
        slow = "the speed beside it is null"
        found.put("decode_roof_tok_s", roof)
        found.put("decode_roof_share", share(decode_tok_s, roof), slow)
        found.put("prefill_roof_tok_s", prompt_roof)
        found.put("prefill_roof_share", share(prefill_tok_s, prompt_roof), slow)
        step = decode_roof(self.shape, self.limits, batch, context, weight_bytes, kv_bytes)
        found.put("decode_bound", regime(batch / decode_tok_s, step) if decode_tok_s else None, slow)
        return found


def machine_name(environment: dict[str, Any]) -> str:
    """What limits belong to: the GPUs with driver and power limit, else the CPU and its threads."""
    gpus = gpus_of(environment)
    if gpus:
        return json.dumps(
            [
                environment.get("visible_devices"),
                *([g.get("name"), g.get("driver"), g.get("power_limit_w")] for g in gpus),
            ]
        )
    return f"{environment.get('cpu')}, threads {environment.get('threads')}"

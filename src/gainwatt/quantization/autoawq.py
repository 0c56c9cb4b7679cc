"""AWQ as AutoAWQ does it: scales, then a clipping range, then asymmetric 4-bit groups in the GEMM format.

AutoAWQ (https://github.com/casper-hansen/AutoAWQ) was last released for transformers 4.51.3 and has an environment of
its own. Its search has 20 points, whatever quantize.awq_grid_points says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_json
from gainwatt.checkpoint import Checkpoint
from gainwatt.modeling import device, torch_dtype
from gainwatt.older_transformers import readable
from gainwatt.quantization.calibration import Calibration
from gainwatt.quantization.checks import read_config
from gainwatt.quantization.made import Made
from gainwatt.schemes import Scheme

PARALLEL_SAMPLES = 8


def quantize(
    checkpoint: Checkpoint,
    scheme: Scheme,
    folder: Path,
    *,
    dtype: str,
    trust_remote_code: bool,
    calibration: Calibration,
    block_tokens: int,
) -> Made:
    """Quantize `checkpoint` by `scheme` and save it to `folder`, computing in fp16 on a GPU and in `dtype` on a CPU.

    AutoAWQ joins the calibration texts and cuts them into blocks of `block_tokens`; what is left over is not used.
    """
    from gainwatt.quantization.autoawq_errors import KeepingQuantizer

    # AutoAWQ was made for fp16; on a CPU its search there would only be slow.
    compute = str(scheme.compute_dtype) if device() == "cuda" else dtype
    block = min(block_tokens, calibration.tokens)
    model = _load(checkpoint, compute, trust_remote_code)
    model.quantize(
        tokenizer=None,
        quant_config=dict(scheme.options),
        calib_data=calibration.token_ids,
        max_calib_samples=len(calibration.token_ids),
        max_calib_seq_len=block,
        n_parallel_calib_samples=PARALLEL_SAMPLES,
        quantizer_cls=KeepingQuantizer,
    )
    model.model.half()  # the format's scales are 16-bit floats, and so is what stays unquantized
    model.save_quantized(str(folder))
    _describe(checkpoint.folder, folder)
    used = calibration.tokens // block * block
    about: dict[str, Any] = {
        "search_dtype": compute, "block_tokens": block, "tokens_used": used, "grid_points": 20, "clipping": True,
        "n_parallel_calib_samples": PARALLEL_SAMPLES,
    }  # fmt: skip
    return Made(model.quantizer.errors, about)


def _load(checkpoint: Checkpoint, dtype: str, trust_remote_code: bool) -> Any:
    """The model in main memory; AutoAWQ brings one layer after the other to the GPU."""
    from awq import AutoAWQForCausalLM

    with readable(checkpoint.folder) as view:
        return AutoAWQForCausalLM.from_pretrained(
            str(view), torch_dtype=torch_dtype(dtype), trust_remote_code=trust_remote_code, safetensors=True,
            device_map=None, local_files_only=True,
        )  # fmt: skip


def _describe(source: Path, folder: Path) -> None:
    """config.json is the source's own with the quantization added: version 4 would leave out what it does not know."""
    written = read_config(folder)
    config = read_config(source) | {"quantization_config": written["quantization_config"]}
    for key in ("dtype", "torch_dtype"):
        if key in config:
            config[key] = "float16"
    write_json(folder / "config.json", config)
    generation = source / "generation_config.json"
    if generation.exists():  # AutoAWQ switches sampling on in its own
        write_json(folder / "generation_config.json", json.loads(generation.read_text(encoding="utf-8")))
    else:
        (folder / "generation_config.json").unlink(missing_ok=True)

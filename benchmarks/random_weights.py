"""Checkpoints of random weights for a study of speed, memory and energy, which do not depend on what the weights say.

    python benchmarks/random_weights.py --study config/h200/serving.yaml --shape qwen2.5-0.5b
    python benchmarks/random_weights.py --study S --shape qwen2.5-1.5b --outliers

Writes where the study expects them: the base in bf16; a copy for each trained variant, every weight moved by 1.25e-4 up
or down (the bound of 250 Adam steps at a learning rate of 1e-6, linearly decayed); and the checkpoints of the study's
schemes that need neither calibration nor a tool of another environment. For awq-w4g128-autoawq it writes plain rounding
in AutoAWQ's format, which runs like any other AWQ checkpoint. What is there already stays.

With --outliers six channels of every norm are 20 times larger than the others, as in trained models: kernels such as
LLM.int8() treat such channels apart.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from shapes import SHAPES, qwen2_config

from gainwatt.atomic import atomic_folder, write_json
from gainwatt.checkpoint import read_manifest, write_manifest
from gainwatt.embedded.tokenizer import train_tokenizer
from gainwatt.profiling.prompts import TEXT
from gainwatt.quantization.make import make
from gainwatt.schemes import Scheme, get_scheme
from gainwatt.study import Layout, Study, load_study, variants

MOVED = 1.25e-4
OUTLIERS, OUTLIER = 6, 20.0
GROUP = 128
AUTOAWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""The column of each of the eight numbers in a word, low bits first: the order of AutoAWQ's GEMM format."""


def make_dense(study: Study, layout: Layout, shape: str, *, outliers: bool) -> None:
    """The base and the trained variants in bf16."""
    import torch
    from transformers import Qwen2ForCausalLM

    tokenizer = train_tokenizer([TEXT], 400)
    tokens = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = qwen2_config(SHAPES[shape], max_tokens=4096, **tokens)
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        table[len(tokenizer) :] = 0
        table[without_text(tokenizer)] = 0
        if outliers:
            for name, parameter in model.named_parameters():
                if "layernorm" in name:
                    parameter[:OUTLIERS] = OUTLIER
        for variant in variants(study):
            if variant != "base":
                for parameter in model.parameters():
                    parameter.add_(torch.sign(torch.randn_like(parameter)) * MOVED * (parameter != 0))
            save(model, tokenizer, layout.checkpoint(variant), variant)


def without_text(tokenizer: Any) -> list[int]:
    """Ids that are no whole text by themselves. A server would hold them back, so they must never be the likeliest."""
    texts = tokenizer.batch_decode([[number] for number in range(len(tokenizer))], skip_special_tokens=True)
    return [number for number, text in enumerate(texts) if not text or "\ufffd" in text]


def save(model: Any, tokenizer: Any, folder: Path, variant: str) -> None:
    """`model`, rounded to bf16, unless it is there."""
    import copy

    import torch

    if folder.exists():
        return
    with atomic_folder(folder) as temporary:
        copy.deepcopy(model).to(torch.bfloat16).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_manifest(temporary / "manifest.json", variant=variant, scheme="dense")


def make_scheme(study: Study, layout: Layout, variant: str, scheme: Scheme) -> None:
    """The checkpoint of one scheme, or a line that says which script makes it."""
    manifest = layout.manifest(variant, scheme.name)
    if manifest.exists() or scheme.dense:
        return
    if scheme.kind != "autoawq" and (scheme.calibrated or scheme.kind == "llamacpp"):
        print(f"{variant}.{scheme.name}: left to scripts/quantize.py", file=sys.stderr)
        return
    base = read_manifest(layout.manifest(variant), verify=False)
    if scheme.kind == "autoawq":
        with atomic_folder(manifest.parent) as temporary:
            round_autoawq(base.folder, temporary)
    else:
        make(study, base, scheme, manifest.parent, None, [TEXT])
    write_manifest(manifest, variant=variant, scheme=scheme.name, parent_sha256=base.sha256)


def round_autoawq(dense: Path, folder: Path) -> None:
    """The checkpoint in `dense` rounded to the nearest of 16 steps, groups of 128 inputs, in AutoAWQ's GEMM format."""
    import torch
    from safetensors.torch import load_file, save_file

    found = {}
    for name, weight in load_file(dense / "model.safetensors").items():
        if not name.endswith("_proj.weight"):
            found[name] = weight.to(torch.float16)
            continue
        codes, zeros, scales = rounded(weight.float().T)
        stem = name.removesuffix(".weight")
        found |= {f"{stem}.qweight": packed(codes), f"{stem}.qzeros": packed(zeros), f"{stem}.scales": scales}
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    for file in dense.iterdir():
        if file.suffix != ".safetensors" and file.name not in ("manifest.json", "config.json"):
            shutil.copyfile(file, folder / file.name)
    config = json.loads((dense / "config.json").read_text("utf-8"))
    config["quantization_config"] = {
        "quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm",
        "modules_to_not_convert": None,
    }  # fmt: skip
    config["dtype"] = "float16"
    write_json(folder / "config.json", config)


def rounded(weight: Any) -> tuple[Any, Any, Any]:
    """Codes [inputs, outputs], zeros and fp16 scales [groups, outputs] of `weight` [inputs, outputs]."""
    grouped = weight.reshape(weight.shape[0] // GROUP, GROUP, weight.shape[1])
    low, high = grouped.amin(1), grouped.amax(1)
    scales = ((high - low) / 15).clamp(min=1e-6).half()
    zeros = (-low / scales.float()).round().clamp(0, 15)
    codes = ((grouped / scales.float()[:, None]).round() + zeros[:, None]).clamp(0, 15)
    return codes.reshape(weight.shape), zeros, scales.contiguous()


def packed(values: Any) -> Any:
    """Numbers from 0 to 15 [rows, columns] as int32 [rows, columns / 8]."""
    import torch

    eights = values.reshape(values.shape[0], -1, 8)[:, :, list(AUTOAWQ_ORDER)].to(torch.int64)
    words = sum(eights[:, :, place] << (4 * place) for place in range(8))
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32).contiguous()


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--outliers", action="store_true", help="six large channels in every norm")
    args = parser.parse_args()
    study = load_study(args.study, args.overrides)
    layout = Layout.of(study)
    make_dense(study, layout, args.shape, outliers=args.outliers)
    for variant in variants(study):
        for name in study.quantize.schemes:
            make_scheme(study, layout, variant, get_scheme(name))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

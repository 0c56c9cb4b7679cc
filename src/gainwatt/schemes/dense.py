"""Unquantized schemes: the variant's own checkpoint, loaded in one type or another."""

from __future__ import annotations

from gainwatt.schemes.base import Loader, Scheme

_TRANSFORMERS = Loader("transformers", "core", kernel="torch's matrix product")
# vLLM wants a compute capability of 8.0 for bf16; fp16 runs on older ones too.
_VLLM_BF16 = Loader("vllm", "vllm", cpu=False, capability=(8, 0), kernel="torch's matrix product")
_VLLM_FP32 = Loader("vllm", "vllm", cpu=False, capability=(7, 0), kernel="torch's matrix product")
_VLLM_FP16 = Loader("vllm", "vllm", cpu=False, capability=(7, 0), kernel="torch's matrix product")
_LLAMACPP = Loader("llamacpp", "llamacpp", kernel="llama.cpp's matrix product")

SCHEMES = (
    Scheme("fp32", "dense", 32, (_TRANSFORMERS, _VLLM_FP32, _LLAMACPP), bits_per_weight=32, compute_dtype="fp32"),
    Scheme("bf16", "dense", 16, (_TRANSFORMERS, _VLLM_BF16, _LLAMACPP), bits_per_weight=16, compute_dtype="bf16"),
    Scheme("fp16", "dense", 16, (_TRANSFORMERS, _VLLM_FP16, _LLAMACPP), bits_per_weight=16, compute_dtype="fp16"),
)

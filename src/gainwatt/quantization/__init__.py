"""Making quantized checkpoints: one module per tool, one function `quantize` in each."""

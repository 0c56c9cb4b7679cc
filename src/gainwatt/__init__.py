"""gainwatt: does the accuracy that RL post-training gained survive 4-bit quantization, and at what cost?"""

__version__ = "0.1.0"

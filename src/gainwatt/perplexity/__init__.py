"""Sliding-window perplexity: texts, windows, the model's loss on them, and what may be compared."""

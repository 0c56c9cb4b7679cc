"""Checkpoints behind OpenAI-compatible servers: starting them, asking them, and measuring what they do."""

"""The embedded study's data and base model: generated word problems and a small model warm-started from scratch."""

"""Profiles of generation and of training steps: time, memory, energy and kernels of each part of the work."""

"""Timing of kernels and models, and mlx-lm beside them."""

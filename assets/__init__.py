"""Data files that ship with mlx_gemma4: the demo checkpoint in `demo/`."""

"""Several processes that `mlx.launch` starts: the first is the command."""

"""The command `gemma4`. Installs as mlx_gemma4.cli; the library never imports it."""

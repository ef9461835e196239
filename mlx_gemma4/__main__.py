"""`python -m mlx_gemma4` is the command `gemma4`."""

# Found at run time: pyright cannot map it to its folder.
from .cli.main import main  # pyright: ignore[reportMissingImports]

main()

"""What can follow an option, for completion: from what is here, never from the net."""

from ..config.file import Configuration, config_file
from ..errors import UsageError


def models() -> list[str]:
    from mlx_gemma4.hub.here import names_here

    try:
        return names_here()
    except (OSError, ValueError):  # nobody can be told
        return []


def recipes() -> list[str]:
    from mlx_gemma4.convert.recipes import NAMES

    return list(NAMES)


def drafts() -> list[str]:
    from ..drafts import MODES

    return list(MODES)


def kv_bits() -> list[str]:
    return ["8", "0"]


def presets() -> list[str]:
    return _tables("preset")


def servers() -> list[str]:
    return _tables("mcp")


def _tables(name: str) -> list[str]:
    """What is in [NAME.…] of the configuration."""
    try:
        found = Configuration.read(config_file()).table.get(name, {})
    except UsageError:
        return []
    return list(found) if isinstance(found, dict) else []

"""Thoughts that clients carry back and forth without reading them."""

import base64


def seal(thought: str) -> str:
    """A thought for a field whose content only the server understands."""
    return base64.b64encode(thought.encode()).decode("ascii")


def unsealed(sealed: str) -> str | None:
    """What `seal` was given; None for what another server has sealed."""
    try:
        return base64.b64decode(sealed, validate=True).decode()
    except ValueError:
        return None

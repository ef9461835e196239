"""Towers that are said to clip, in files that hold no bounds to clip to.

The reference keeps its initial bounds then, which are infinite: nothing is clipped. A
result that says so computes the same, and loads everywhere.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from mlx_gemma4.checkpoint.names import BOUNDS, place

SECTIONS = {"vision_config": "vision_tower.", "audio_config": "audio_tower."}
KEY = "use_clipped_linears"


def without_bounds(
    sources: Iterable[str], config: Mapping[str, Any]
) -> tuple[str, ...]:
    """Sections of `config` that clip, though no tensor of their tower is a bound."""
    parameters = [place(name).parameter for name in sources]
    found = []
    for section, tower in SECTIONS.items():
        held = [name for name in parameters if name.startswith(tower)]
        clips = (config.get(section) or {}).get(KEY)
        if clips and held and not any(name.endswith(BOUNDS) for name in held):
            found.append(section)
    return tuple(found)


def with_unclipped(
    config: Mapping[str, Any], sections: Iterable[str]
) -> dict[str, Any]:
    """A config.json whose `sections` do not clip."""
    return {**config, **{name: {**config[name], KEY: False} for name in sections}}

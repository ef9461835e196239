"""Loading a drafter, and whether it is one for this model."""

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx

from ..assistant.model import Assistant
from ..config import AssistantConfig, Config, TextConfig
from ..errors import CheckpointError


def load_assistant(folder: Path, dtype: mx.Dtype | None = None) -> Assistant:
    """The drafter of a local folder, in any packing that a model may have.

    dtype: of all weights that are not quantised, and of scales and biases; that of the
        model it drafts for. None chooses as `load` does.
    Raises CheckpointError.
    """
    raise NotImplementedError


def check_pair(
    drafter: AssistantConfig, model: Config, name: object, model_name: object
) -> None:
    """Raises CheckpointError that names both where the drafter, from the folder `name`,
    cannot draft for the model."""
    problems = [
        f"{key} is {own}, there {other}"
        for key, own, other in _compared(drafter, model.text_config)
        if own != other
    ]
    if problems:
        raise CheckpointError(
            f"The drafter {name} was not made for {model_name}: {'; '.join(problems)}. "
            "Take the one of the same name with -assistant behind it, or none (--draft "
            "off)."
        )


def _compared(
    drafter: AssistantConfig, model: TextConfig
) -> Iterator[tuple[str, object, object]]:
    text = drafter.text_config
    yield "backbone_hidden_size", drafter.backbone_hidden_size, model.hidden_size
    yield "vocab_size", text.vocab_size, model.vocab_size
    for kind in sorted(set(text.layer_types)):
        layer = text.layer_types.index(kind)
        if kind not in model.layer_types:
            yield "a kind of layer", kind, "there is none"
            continue
        other = model.layer_types.index(kind)
        rope = text.rope_parameters[kind], model.rope_parameters[kind]
        heads = text.layer_key_value_heads(layer), model.layer_key_value_heads(other)
        yield f"key/value heads of {kind}", *heads
        dims = text.layer_head_dim(layer), model.layer_head_dim(other)
        yield f"the head size of {kind}", *dims
        yield f"rope_parameters of {kind}", *rope
    yield "sliding_window", text.sliding_window, model.sliding_window

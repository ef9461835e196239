"""In the process of one program: the logits of a prompt whose media are given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from child import serve

Arrays = dict[str, mx.array]


class Reader:
    """A program with the checkpoint loaded.

    read(inputs): logits [1, L, vocab] of `tokens` [1, L], with what `pictures`,
        `frames` and `clips` hold, each `.values` and `.marks` padded to one size.
    """

    def __init__(self, read: Callable[[Arrays], mx.array]):
        self.read = read

    def logits(self, file: str, into: str) -> str:
        """Of the inputs in `file`, saved `into` another one; what failed, if any."""
        inputs = {n: mx.array(a) for n, a in np.load(file).items()}
        try:
            found = self.read(inputs)[0].astype(mx.float32)
            np.save(into, np.array(found))
        except Exception as error:  # a program may raise anything
            return f"{type(error).__name__}: {error}"
        return ""


def load_ours(folder: Path) -> Reader:
    from mlx_gemma4.checkpoint.load import load_model
    from mlx_gemma4.media import Media

    model = load_model(folder)

    def pairs(inputs: Arrays, kind: str) -> list[tuple[mx.array, mx.array]]:
        both = inputs.get(f"{kind}.values", []), inputs.get(f"{kind}.marks", [])
        return list(zip(*both, strict=True))

    def read(inputs: Arrays) -> mx.array:
        pictures, frames, clips = (
            pairs(inputs, kind) for kind in ("pictures", "frames", "clips")
        )
        return model(inputs["tokens"], media=Media(pictures, frames, clips))

    return Reader(read)


def load_mlx_lm(folder: Path) -> Reader:
    import json

    from mlx_lm.utils import load_model

    text = json.loads((folder / "config.json").read_text())["text_config"]
    # It takes the vocabulary's size from the top level, where real files lack it.
    model, _ = load_model(folder, model_config={"vocab_size": text["vocab_size"]})
    return Reader(lambda inputs: model(inputs["tokens"]))


def load_mlx_vlm(folder: Path) -> Reader:
    from mlx_vlm.utils import load_model

    model: Any = load_model(folder)
    names = {
        "pictures.values": "pixel_values",
        "pictures.marks": "image_position_ids",
        "frames.values": "pixel_values_videos",
        "frames.marks": "video_position_ids",
        "clips.values": "input_features",
        "clips.marks": "input_features_mask",
        "types": "mm_token_type_ids",
    }

    def read(inputs: Arrays) -> mx.array:
        given = {names[n]: array for n, array in inputs.items() if n in names}
        return model(inputs["tokens"], **given).logits

    return Reader(read)


LOADERS = {"mlx-gemma4": load_ours, "mlx-lm": load_mlx_lm, "mlx-vlm": load_mlx_vlm}


def run(answer: Callable[[object], None], name: str, folder: str) -> None:
    reader = LOADERS[name](Path(folder))
    answer("ready")
    serve(reader, answer)

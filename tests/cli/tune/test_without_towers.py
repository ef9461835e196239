"""`gemma4 tune` on 12B by commands: text, pictures and sound; export; chat."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_media
from command import GREEDY, Runner
from PIL import Image

TARGETS = ("attention", "mlp", "vision", "audio")
LEARNING = ("--rank", "4", "--batch", "3", "--accumulate", "1", "--lr", "0.02")
LEARNING += ("--steps", "60", "--validation", "0")
COLOURS = {"red": (200, 20, 20), "blue": (10, 20, 220), "green": (10, 220, 20)}
SHOWN = (("--image", "red.png", "Colour?"), ("--audio", "blue.wav", "How loud?"))


def examples(folder: Path) -> Path:
    """Three questions each of a picture, of a recording and of nothing."""
    random = np.random.default_rng(0)
    rows = []
    for loud, (name, colour) in enumerate(COLOURS.items(), start=1):
        Image.new("RGB", (60, 40), colour).save(folder / f"{name}.png")
        wave = random.standard_normal(3000).astype(np.float32) * loud / 10
        soundfile.write(folder / f"{name}.wav", wave, 16_000)
        asked = {"prompt": "<image> Colour?", "images": [f"{name}.png"]}
        rows.append(asked | {"completion": name})
        asked = {"prompt": "<audio> How loud?", "audio": [f"{name}.wav"]}
        rows.append(asked | {"completion": str(loud)})
        rows.append({"prompt": f"Number {loud}?", "completion": name})
    file = folder / "data.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


@pytest.mark.slow
def test_12b_learns_to_read_see_and_hear(gemma4: Runner) -> None:
    data = examples(gemma4.folder)
    tiny_media.write_checkpoint(gemma4.folder / "model", variant="12B")
    targets = [word for target in TARGETS for word in ("--target", target)]
    trained = gemma4(
        *("tune", str(data), "-m", "model", "-o", "out", *targets, *LEARNING)
    )
    assert trained.returncode == 0, trained.stderr
    losses = re.findall(r"step \d+/60 +loss ([\d.]+)", trained.stderr)
    assert float(losses[-1]) < float(losses[0]) / 5
    assert gemma4("tune", "export", "out", "peft").returncode == 0
    stated = json.loads((gemma4.folder / "peft" / "adapter_config.json").read_text())
    for module in ("patch_dense", "multimodal_embedder.embedding_projection"):
        assert re.fullmatch(stated["target_modules"], f"model.embed_vision.{module}")
    for option, file, question in SHOWN:
        asked = ("chat", "-m", "model", option, file, question, *GREEDY)
        plain, ours, theirs = (
            gemma4(*asked, "--max-tokens", "5", *adapter)
            for adapter in ((), ("--adapter", "out"), ("--adapter", "peft"))
        )
        assert plain.returncode == ours.returncode == theirs.returncode == 0
        assert ours.stdout == theirs.stdout != plain.stdout

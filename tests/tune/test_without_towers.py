"""Adapters of 12B: text, and what sees and hears without a tower, as PEFT puts them."""

import warnings
from pathlib import Path

import golden
import mlx.core as mx
import numpy as np
import pytest
import tiny_media
from adapting import filled

from mlx_gemma4.tune.adapters import put_on
from mlx_gemma4.tune.peft import write_peft

SEED = 11
CONFIG = tiny_media.config_dict("12B")


@pytest.mark.reference
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_what_is_exported_answers_in_the_reference_as_here(
    kind: str, tmp_path: Path
) -> None:
    import torch_model
    from peft import PeftModel

    model = tiny_media.build(tmp_path / "model", CONFIG, SEED)
    prompt = tiny_media.prompt(CONFIG, SEED)
    tokens = mx.array([prompt.tokens])
    plain = np.array(model(tokens, media=prompt.media)[0])
    adapter = filled(model, kind, "attention", "mlp", "vision", "audio")
    write_peft(tmp_path / "peft", model, adapter, "base")
    put_on(model, adapter)
    found = np.array(model(tokens, media=prompt.media)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = PeftModel.from_pretrained(
            torch_model.build(CONFIG, SEED), str(tmp_path / "peft")
        ).eval()
    expected = torch_model.media_logits(theirs.base_model.model, CONFIG, prompt.padded)
    assert np.abs(plain - expected).max() > 0.05
    golden.check_logits(found, expected)

"""The probability of every token: ours, and by transformers' processors."""

from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_gemma4.sampling import Sampler, Sampling


def shares(
    scores: np.ndarray,
    prompt: list[int],
    sampling: Sampling,
    suppressed: tuple[int, ...] = (),
) -> np.ndarray:
    """The share of every token; of greedy sampling, 1 for the one that is taken.

    Without noise the largest of what is kept is drawn: another in its place shows which
    token each place of it stands for.
    """
    found, choice = np.zeros(scores.shape[1]), 0
    rows: list[np.ndarray] = []

    def choose(kept: mx.array, axis: int, keepdims: bool) -> mx.array:
        rows.append(np.array(mx.softmax(kept, axis=axis))[0])
        return mx.array([[choice]])

    def token() -> int:
        sampler = Sampler(sampling, prompt, scores.shape[1], suppressed)
        return int(np.array(sampler(mx.array(scores)))[0, 0])

    if sampling.temperature == 0:
        found[token()] = 1
        return found
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mx.random, "gumbel", lambda shape, key: mx.zeros(shape))
        patch.setattr(mx, "argmax", choose)
        while choice == 0 or choice < len(rows[0]):
            chosen = token()
            found[chosen] = rows[-1][choice]
            choice += 1
    return found


def reference_shares(
    scores: np.ndarray, prompt: list[int], stated: dict[str, Any]
) -> np.ndarray:
    """The same for what a generation_config.json states, in the reference's order."""
    import torch
    from transformers import GenerationConfig
    from transformers.generation.utils import GenerationMixin

    config = GenerationConfig.from_dict(stated)
    usual = GenerationConfig._get_default_generation_params()
    config.update(**usual, defaults_only=True, allow_custom_entries=True)
    config._eos_token_tensor = torch.tensor([1])
    mixin: Any = GenerationMixin()
    mixin.config = SimpleNamespace(is_encoder_decoder=False)
    processors = mixin._get_logits_processor(config, len(prompt))
    out = processors(torch.tensor([prompt]), torch.tensor(scores))  # type: ignore[call-arg]
    if config.do_sample is True:
        return torch.softmax(out, dim=-1).numpy()[0]
    return np.eye(scores.shape[1])[int(out.argmax())]

"""What the audio tower has to tell while it is trained alone, and how it tells it.

The tower hears nothing that comes later, so a word is named from its last third until
a tenth of a second after its end, and nothing is named in between: the runs of one
word said twice stay apart. The soft tokens are pulled towards the text embedding of
the word they name, and have to tell the word before it as well, which spares the
decoder the search for the place it has reached.
"""

from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers.models.gemma4.modeling_gemma4 import (
    Gemma4AudioModel,
    Gemma4MultimodalEmbedder,
)

from .batches import IGNORE, Batches
from .speech import WORDS, Recording, written

TOKEN = 0.04  # seconds of sound in one soft token
NAMED_FROM = 0.65  # of a word
NAMED_AFTER = 0.10  # seconds
REMEMBERED = 1.2  # seconds: what ended longer ago the tower need not know
BLANK = len(WORDS)


class Hearing(nn.Module):
    """The two modules of the checkpoint, and heads that are dropped afterwards."""

    def __init__(
        self,
        tower: Gemma4AudioModel,
        projector: Gemma4MultimodalEmbedder,
        embeddings: torch.Tensor,
    ) -> None:
        """`embeddings`: one row for each word, as the decoder sees them."""
        super().__init__()
        width = embeddings.shape[1]
        self.audio_tower, self.embed_audio = tower, projector
        self.register_buffer("words", embeddings, persistent=False)
        self.blank = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(len(WORDS) + 1))
        self.before = nn.Linear(width, len(WORDS) + 1)
        nn.init.normal_(self.before.weight, 0, width**-0.5)

    def soft_tokens(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`features` [B, T, 128] to what the decoder gets, [B, T / 4, hidden]."""
        heard = self.audio_tower(features, mask).last_hidden_state
        return self.embed_audio(heard)

    def forward(
        self, features: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the word named, blank last, and of the one before it."""
        tokens = self.soft_tokens(features, mask).float()
        names = torch.cat([self.get_buffer("words"), self.blank[None]])
        scale = tokens.shape[-1] ** -0.5
        return tokens @ names.T * scale + self.bias, self.before(tokens)


def channels_last(tower: nn.Module) -> None:
    """Let both convolutions keep the channels last in memory.

    The reference copies its largest tensor back and forth for the norm over channels,
    which is half of a training step at this size. The numbers are the same.
    """
    for layer in (
        tower.get_submodule("subsample_conv_projection.layer0"),
        tower.get_submodule("subsample_conv_projection.layer1"),
    ):
        layer.forward = partial(_convolved, layer)


def _convolved(
    layer: nn.Module, x: torch.Tensor, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    if mask is not None:
        x = x * mask[:, None, :, None]
    weight = layer.get_parameter("conv.weight")
    if x.shape[1] == 1:  # one matrix product over the nine pixels under the kernel
        padded = nn.functional.pad(x[:, 0], (1, 1, 1, 1))
        nine = padded.unfold(1, 3, 2).unfold(2, 3, 2).flatten(-2)
        x = nine @ weight.flatten(1).T
    else:
        x = x.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
        x = nn.functional.conv2d(x, weight, stride=2, padding=1).permute(0, 2, 3, 1)
    x = nn.functional.relu(layer.get_submodule("norm")(x)).permute(0, 3, 1, 2)
    return x, mask if mask is None else mask[:, ::2]


def word_embeddings(folder: Path) -> torch.Tensor:
    """The decoder's input for the token that tells each word, [words, hidden]."""
    batches = Batches(folder, 0, 0)
    table = load_file(folder / "model.safetensors")
    weights = table["model.language_model.embed_tokens.weight"].float()
    ids = [batches.encode("a " + written((word,)))[-1] for word in WORDS]
    ids[WORDS.index("ten")] = batches.encode("ten")[0]
    if len(set(ids)) != len(ids):
        raise ValueError("two words end in the same token")
    return weights[ids] * weights.shape[1] ** 0.5


def labels(spoken: Recording, count: int) -> tuple[list[int], list[int]]:
    """For each of `count` soft tokens the word named and the one before it."""
    named, before = [BLANK] * count, [IGNORE] * count
    firsts = [round((a + NAMED_FROM * (b - a)) / TOKEN) for a, b in spoken.times]
    limits = [first - 1 for first in firsts[1:]] + [count]
    for k, (word, (_, end)) in enumerate(zip(spoken.words, spoken.times, strict=True)):
        last = min(round((end + NAMED_AFTER) / TOKEN) + 1, limits[k], count)
        last = max(last, firsts[k] + 1)
        known = not k or spoken.times[k][0] - spoken.times[k - 1][1] < REMEMBERED
        for i in range(firsts[k], min(last, count)):
            named[i] = WORDS.index(word)
            if known:
                before[i] = WORDS.index(spoken.words[k - 1]) if k else BLANK
    return named, before


def collapse(named: list[int]) -> tuple[str, ...]:
    """The words of a row of labels: runs of at least two soft tokens."""
    words: list[str] = []
    run, last = 0, BLANK
    for label in [*named, BLANK]:
        if label == last:
            run += 1
            continue
        if last != BLANK and run > 1:
            words.append(WORDS[last])
        run, last = 1, label
    return tuple(words)

"""Training batches: a pure function of seed and step, so that a run can resume.

Conversations are drawn in pools, sorted by length and cut into batches of about
equal size, which keeps the padding small. Only the model's own tokens are targets.
"""

from functools import lru_cache
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer

from .conversation import training_conversation
from .render import render

POOL_STEPS = 24
IGNORE = -100
Row = tuple[list[int], list[int]]  # inputs and labels
Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Batches:
    """Batches of about `tokens` tokens each, made with the tokenizer in `folder`."""

    def __init__(self, folder: Path, seed: int, tokens: int) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.seed, self.tokens = seed, tokens
        names = ("<|turn>", "<turn|>", "<|tool_response>", "<tool_response|>", "<pad>")
        ids = [self.encode(name)[0] for name in names]
        self.turn, self.turn_end, self.response, self.response_end, self.pad = ids
        self.model_role = self.encode("<|turn>model\n")[1:]
        self._pool = lru_cache(maxsize=1)(self._make_pool)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, nothing added."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def targets(self, ids: list[int], last_turn_only: bool = False) -> list[bool]:
        """For each token, whether the model has to produce it.

        True from the start of a model turn to the `<|tool_response>` or `<turn|>`
        that ends it, and again after the result of a tool.
        """
        marks, own = [False] * len(ids), False
        skip = len(self.model_role)
        for i, token in enumerate(ids):
            start = i - skip
            opened = start > 0 and ids[start - 1] == self.turn
            if opened and ids[start:i] == self.model_role:
                own = True
            marks[i] = own
            if token in (self.turn_end, self.response):
                own = False
            elif token == self.response_end:
                own = True
        if last_turn_only:
            last = max(i for i, token in enumerate(ids) if token == self.turn)
            marks = [mark and i > last for i, mark in enumerate(marks)]
        return marks

    def row(self, rng: Random) -> Row:
        """Inputs and labels of one conversation, shifted by one."""
        chat = training_conversation(rng)
        return self.labelled(render(chat), last_turn_only=chat.thinking)

    def labelled(self, text: str, last_turn_only: bool = False) -> Row:
        """Inputs and labels of a rendered conversation, shifted by one."""
        ids = self.encode(text)
        marks = self.targets(ids, last_turn_only)
        pairs = zip(ids[1:], marks[1:], strict=True)
        return ids[:-1], [i if mark else IGNORE for i, mark in pairs]

    def _make_pool(self, pool: int) -> list[list[Row]]:
        rng = Random(f"{self.seed}/{pool}")
        rows, total = [], 0
        while total < POOL_STEPS * self.tokens:
            rows.append(self.row(rng))
            total += len(rows[-1][0])
        rows.sort(key=lambda row: len(row[0]))
        cuts: list[list[Row]] = [[] for _ in range(POOL_STEPS)]
        seen = 0
        for row in rows:
            cuts[min(seen * POOL_STEPS // total, POOL_STEPS - 1)].append(row)
            seen += len(row[0])
        rng.shuffle(cuts)
        return [cut for cut in cuts if cut]

    def __call__(self, step: int) -> Tensors:
        """Inputs, labels and attention mask [B, L] of the batch for `step`."""
        pool = self._pool(step // POOL_STEPS)
        return self.collate(pool[step % POOL_STEPS % len(pool)])

    def collate(self, rows: list[Row]) -> Tensors:
        """Inputs, labels and attention mask [B, L] of rows, padded at their ends."""
        length = max(len(ids) for ids, _ in rows)
        inputs = torch.full((len(rows), length), self.pad)
        labels = torch.full((len(rows), length), IGNORE)
        mask = torch.zeros((len(rows), length), dtype=torch.long)
        for i, (ids, wanted) in enumerate(rows):
            inputs[i, : len(ids)] = torch.tensor(ids)
            labels[i, : len(ids)] = torch.tensor(wanted)
            mask[i, : len(ids)] = 1
        return inputs, labels, mask

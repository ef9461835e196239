"""The shortest way to an answer's end, as far as single tokens tell it."""

import weakref
from collections.abc import Sequence

import numpy as np

from ..chat.tokenizer import Tokenizer

_ranked: "weakref.WeakKeyDictionary[Tokenizer, np.ndarray]" = (
    weakref.WeakKeyDictionary()
)


def closers(tokenizer: Tokenizer, ends: Sequence[int], rows: int) -> np.ndarray:
    """All ids, those first that bring an answer to its end: what ends it, a quotation
    mark, brackets that close, then the shortest text."""
    if tokenizer not in _ranked:
        ranks = [_rank(tokenizer, token, ends) for token in range(rows)]
        _ranked[tokenizer] = np.lexsort(np.array(ranks).T[::-1])
    return _ranked[tokenizer]


def _rank(tokenizer: Tokenizer, token: int, ends: Sequence[int]) -> tuple[int, int]:
    if token in ends:
        return 0, 0
    piece = tokenizer.piece(token)
    text = piece.strip() if isinstance(piece, str) else ""
    if text == '"':  # within a text a bracket would only be more of it
        return 1, len(text)
    if text and set(text) <= set('"}]'):
        return 2, len(text)
    if text and set(text) <= set('"}],:'):
        return 3, len(text)
    return 4, len(piece) if isinstance(piece, str) else 100

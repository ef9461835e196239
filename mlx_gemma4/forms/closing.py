"""The shortest way to an answer's end, as far as single tokens tell it."""

import weakref
from collections.abc import Sequence

import numpy as np

from ..chat.splitter import CALL_END
from ..chat.tokenizer import Tokenizer

_ranked: "weakref.WeakKeyDictionary[Tokenizer, tuple[np.ndarray, np.ndarray]]" = (
    weakref.WeakKeyDictionary()
)


PLAIN = 4  # the rank of what only is short


def closers(
    tokenizer: Tokenizer, ends: Sequence[int], rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """All ids, those first that bring an answer to its end: what ends it, a quotation
    mark, brackets that close, then the shortest text; and by id, which are no more than
    short."""
    if tokenizer not in _ranked or len(_ranked[tokenizer][0]) != rows:
        ranks = np.array([_rank(tokenizer, token, ends) for token in range(rows)])
        _ranked[tokenizer] = np.lexsort(ranks.T[::-1]), ranks[:, 0] == PLAIN
    return _ranked[tokenizer]


def _rank(tokenizer: Tokenizer, token: int, ends: Sequence[int]) -> tuple[int, int]:
    piece = tokenizer.piece(token)
    if token in ends or piece == CALL_END:
        return 0, 0
    text = piece.strip() if isinstance(piece, str) else ""
    if text == '"':  # within a text a bracket would only be more of it
        return 1, len(text)
    if text and set(text) <= set('"}]'):
        return 2, len(text)
    if text and set(text) <= set('"}],:'):
        return 3, len(text)
    return PLAIN, len(piece) if isinstance(piece, str) else 100

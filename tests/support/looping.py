"""Words that go round in circles, for what watches over them."""

import itertools

from mlx_gemma4.chat.tokenizer import Tokenizer

WORDS = "the tide of open water comes and goes with every moon that rises late".split()


def cycle_of(tokenizer: Tokenizer, length: int) -> list[int]:
    """Ids of words, the last another than the first, so that none is shorter."""
    ids = [tokenizer.encode(f"x {word}")[1:] for word in WORDS]
    plain = [token for each in ids for token in each]
    return list(itertools.islice(itertools.cycle(plain), length))

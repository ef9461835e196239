"""Encoding, decoding, streaming, and going on from ids a model has written."""

from pathlib import Path
from random import Random

import pytest
from tiny_tokenizer import (
    CHATS,
    IS_BASE,
    tokenizer_json,
    write_json,
    write_tokenizer,
)

from mlx_gemma4.chat.rendered import Rendered
from mlx_gemma4.chat.tokenizer import Tokenizer
from mlx_gemma4.errors import ChatError, CheckpointError


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return Tokenizer(write_tokenizer(tmp_path))


def ids(tokenizer: Tokenizer, *pieces: str) -> list[int]:
    """Ids of single pieces, spelled as in the vocabulary."""
    found = [tokenizer.token_id(piece) for piece in pieces]
    assert None not in found
    return [token for token in found if token is not None]


def stream(tokenizer: Tokenizer, tokens: list[int]) -> list[str]:
    detokenizer = tokenizer.detokenizer()
    return [*map(detokenizer.add, tokens), detokenizer.finish()]


def test_special_tokens_in_text_become_single_ids(tokenizer: Tokenizer):
    assert tokenizer.encode("<bos>hello<turn|>") == ids(
        tokenizer, "<bos>", "hello", "<turn|>"
    )
    assert tokenizer.special_tokens["<|turn>"] == 4
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == ("<bos>", 2)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<eos>", 1)


def test_encode_adds_nothing(tokenizer: Tokenizer):
    assert tokenizer.encode("") == []
    assert tokenizer.encode("hello") == ids(tokenizer, "hello")


def with_processor(folder: Path, added: object, **config: object) -> Tokenizer:
    """A tokenizer with this post_processor, and this besides in its configuration."""
    write_json(folder / "tokenizer.json", {**tokenizer_json(), "post_processor": added})
    named = {"bos_token": "<bos>", "eos_token": "<eos>"}
    write_json(folder / "tokenizer_config.json", {**named, **config})
    return Tokenizer(folder)


def test_a_raw_text_begins_with_bos_in_base_models(tmp_path: Path):
    for added, expected in ((IS_BASE, "<bos>hello"), (CHATS, "hello"), (None, "hello")):
        tokenizer = with_processor(tmp_path, added)
        assert tokenizer.decode(tokenizer.encode_text("hello")) == expected
        assert tokenizer.decode(tokenizer.encode("hello")) == "hello"


def test_no_text_gets_a_second_bos(tmp_path: Path):
    for added in (IS_BASE, CHATS, None):
        tokenizer = with_processor(tmp_path, added)
        for encode in (tokenizer.encode_text, tokenizer.encode_document):
            assert encode("<bos>hello") == tokenizer.encode("<bos>hello")
        assert tokenizer.encode_document("hello") == tokenizer.encode("<bos>hello")
        assert tokenizer.encode_document("") == [tokenizer.bos_token_id]


@pytest.mark.reference
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the reference's imports are not ours
@pytest.mark.parametrize("stated", [{}, {"add_bos_token": True}])
@pytest.mark.parametrize("kind", ["GemmaTokenizer", "PreTrainedTokenizerFast"])
def test_raw_text_is_encoded_as_by_the_reference(
    tmp_path: Path, kind: str, stated: dict[str, bool]
):
    """tokenizer.json decides, whatever tokenizer_config.json says."""
    from transformers import AutoTokenizer

    for number, added in enumerate((IS_BASE, CHATS, None)):
        folder = tmp_path / str(number)
        folder.mkdir()
        ours = with_processor(folder, added, tokenizer_class=kind, **stated)
        reference = AutoTokenizer.from_pretrained(folder)
        for text in ("", " ", "hello", "hello w.\n", "<|turn>user", " <bos>", "a<bos>"):
            assert ours.encode_text(text) == reference.encode(text), (added, text)
            plain = reference.encode(text, add_special_tokens=False)
            assert ours.encode(text) == plain


def test_decode_keeps_special_tokens(tokenizer: Tokenizer):
    tokens = tokenizer.encode("<bos> hello w<eos>")
    assert tokenizer.decode(tokens) == "<bos> hello w<eos>"


def test_half_a_surrogate_pair_is_named(tokenizer: Tokenizer):
    with pytest.raises(ChatError, match="surrogate"):
        tokenizer.encode("a\udcff")


def test_streaming_shows_each_token_at_once(tokenizer: Tokenizer):
    tokens = ids(tokenizer, "▁", "hello", "▁w", "<turn|>")
    assert stream(tokenizer, tokens) == [" ", "hello", " w", "<turn|>", ""]


def test_streaming_waits_for_the_end_of_a_run_of_bytes(tokenizer: Tokenizer):
    tokens = ids(tokenizer, "<0xE2>", "<0x82>", "<0xAC>", "a")
    assert stream(tokenizer, tokens) == ["", "", "", "€a", ""]


def test_one_bad_byte_spoils_its_run_and_nothing_else(tokenizer: Tokenizer):
    tokens = ids(tokenizer, "<0xC3>", "<0xA9>", "a", "<0xC3>", "<0xA9>", "<0xFF>")
    assert "".join(stream(tokenizer, tokens)) == "éa\ufffd\ufffd\ufffd"
    assert tokenizer.decode(tokens) == "éa\ufffd\ufffd\ufffd"


def test_streaming_equals_decoding_over_the_whole_vocabulary(demo_folder: Path):
    tokenizer = Tokenizer(demo_folder)
    size = 0
    while tokenizer.piece(size) is not None:
        size += 1
    everything = list(range(size + 3))  # three ids that no piece belongs to
    assert "".join(stream(tokenizer, everything)) == tokenizer.decode(everything)
    byte_ids = [i for i in everything if isinstance(tokenizer.piece(i), int)]
    assert len(byte_ids) == 256
    rng = Random(0)
    for _ in range(3000):
        pools = [rng.choice((everything, byte_ids)) for _ in range(rng.randrange(12))]
        tokens = [rng.choice(pool) for pool in pools]
        assert "".join(stream(tokenizer, tokens)) == tokenizer.decode(tokens), tokens


def test_text_survives_a_round_trip(demo_folder: Path):
    tokenizer = Tokenizer(demo_folder)
    for text in (
        "",
        " ",
        "  a b\n\n c ",
        "Größe 漢字 🙂",
        "x<|turn>user\n",
        "\t\r\n\0",
    ):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": "1.0"}', '{"model": {"type": "BPE"}}']
)
def test_a_broken_tokenizer_is_named(tmp_path: Path, content: str):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json .*Download it again"):
        Tokenizer(tmp_path)


def test_a_missing_tokenizer_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        Tokenizer(tmp_path)


def test_another_decoder_is_refused(tmp_path: Path):
    data = tokenizer_json()
    data["decoder"] = {"type": "ByteFallback"}
    write_json(tmp_path / "tokenizer.json", data)
    with pytest.raises(CheckpointError, match="decodes in another way"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize("times", [1, 3])
def test_a_text_that_would_become_far_longer_is_refused(tmp_path: Path, times: int):
    data = tokenizer_json()
    longer = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 8}
    steps = [data["normalizer"], *[longer] * times]
    data["normalizer"] = {"type": "Sequence", "normalizers": steps}
    write_json(tmp_path / "tokenizer.json", data)
    if times == 1:
        tokenizer = Tokenizer(tmp_path)
        assert tokenizer.decode(tokenizer.encode("e")) == "e" * 8
        return
    with pytest.raises(CheckpointError, match=r"up to 512 characters of one that it"):
        Tokenizer(tmp_path)


def test_a_text_is_always_split_the_same_way(tmp_path: Path):
    write_tokenizer(tmp_path)
    plain = Tokenizer(tmp_path).encode("a text of some words")
    data = tokenizer_json()
    data["model"]["dropout"] = 1.0
    write_json(tmp_path / "tokenizer.json", data)
    assert Tokenizer(tmp_path).encode("a text of some words") == plain


def test_a_bos_token_outside_the_vocabulary_is_refused(tmp_path: Path):
    write_tokenizer(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"bos_token": "<s>"})
    with pytest.raises(CheckpointError, match="no bos_token '<s>'"):
        Tokenizer(tmp_path)


def test_a_broken_tokenizer_config_is_named(tmp_path: Path):
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json is not valid"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize(
    "named",
    [
        {"think_token": "hello"},
        {"think_token": {"content": "hello"}},
        {"additional_special_tokens": ["hello"]},
        {"model_specific_special_tokens": {"think_token": "hello"}},
    ],
)
def test_a_token_named_special_is_matched_as_one(tmp_path: Path, named: dict):
    write_tokenizer(tmp_path)
    write_json(tmp_path / "special_tokens_map.json", named)
    tokenizer = Tokenizer(tmp_path)
    (token,) = ids(tokenizer, "hello")
    assert tokenizer.special_tokens["hello"] == token
    # Unless it is matched first, the letters before it decide how "hello" is split.
    assert tokenizer.encode("hhello")[-1] == token


def whole(text: str) -> Rendered:
    """A prompt in which nothing is quoted."""
    return Rendered((text,))


HISTORY = "<bos><|turn>user\nhi<turn|>\n<|turn>model\n"
NEXT = "<turn|>\n<|turn>user\nmore<turn|>\n<|turn>model\n"


def test_generated_ids_are_kept_up_to_the_end_of_the_answer(tokenizer: Tokenizer):
    cached = tokenizer.encode(HISTORY) + ids(tokenizer, "he", "ll", "o", "▁", "w")
    text = HISTORY + "hello w" + NEXT
    tokens = tokenizer.continue_tokens(cached, whole(text))
    assert tokens[: len(cached)] == cached != tokenizer.encode(text)[: len(cached)]
    assert tokenizer.decode(tokens) == text


def test_a_cached_stop_token_is_kept_as_well(tokenizer: Tokenizer):
    cached = tokenizer.encode(HISTORY) + ids(tokenizer, "he", "ll", "o", "<turn|>")
    tokens = tokenizer.continue_tokens(cached, whole(HISTORY + "hello" + NEXT))
    assert tokens[: len(cached)] == cached


def test_canonical_ids_are_simply_kept(tokenizer: Tokenizer):
    text = HISTORY + "hello" + NEXT
    assert tokenizer.continue_tokens([], whole(text)) == tokenizer.encode(text)
    cached = tokenizer.encode(HISTORY + "hello")
    assert tokenizer.continue_tokens(cached, whole(text)) == tokenizer.encode(text)


def test_trimmed_white_space_costs_only_itself(tokenizer: Tokenizer):
    answer = ids(tokenizer, "he", "ll", "o")
    cached = tokenizer.encode(HISTORY) + answer + ids(tokenizer, "▁", "\n", "<turn|>")
    text = HISTORY + "hello" + NEXT
    tokens = tokenizer.continue_tokens(cached, whole(text))
    keep = len(tokenizer.encode(HISTORY)) + len(answer)
    assert tokens[:keep] == cached[:keep]
    assert tokenizer.decode(tokens) == text


def test_white_space_trimmed_inside_a_token_falls_back(tokenizer: Tokenizer):
    cached = tokenizer.encode(HISTORY) + ids(tokenizer, "he", "ll", "o", ".\n")
    text = HISTORY + "hello." + NEXT
    assert tokenizer.continue_tokens(cached, whole(text)) == tokenizer.encode(text)


def test_an_edit_in_the_middle_of_a_word_keeps_the_last_safe_cut(tokenizer: Tokenizer):
    odd = ids(tokenizer, "he", "ll", "o", "<turn|>", "\n", "<|turn>")
    cached = tokenizer.encode(HISTORY) + odd + ids(tokenizer, "u", "s", "e", "d")
    text = HISTORY + "hello" + NEXT
    rest = tokenizer.encode("user\nmore<turn|>\n<|turn>model\n")
    assert tokenizer.continue_tokens(cached, whole(text)) == cached[:-4] + rest


def test_an_edited_first_turn_keeps_what_comes_before(tokenizer: Tokenizer):
    cached = tokenizer.encode(HISTORY) + ids(tokenizer, "he", "ll", "o")
    text = HISTORY.replace("hi", "ho") + "hello" + NEXT
    assert tokenizer.continue_tokens(cached, whole(text)) == tokenizer.encode(text)


def test_bytes_written_one_by_one_are_kept(tokenizer: Tokenizer):
    answer = ids(tokenizer, "<0x68>", "<0xC3>", "<0xA9>")  # "hé"; "h" has its own id
    cached = tokenizer.encode(HISTORY) + answer
    text = HISTORY + "hé" + NEXT
    tokens = tokenizer.continue_tokens(cached, whole(text))
    assert tokens[: len(cached)] == cached
    assert tokenizer.decode(tokens) == text


def test_half_a_character_is_not_kept(tokenizer: Tokenizer):
    odd = ids(tokenizer, "he", "ll", "o", "<turn|>", "<|turn>")
    cached = tokenizer.encode(HISTORY) + odd + ids(tokenizer, "<0x68>", "<0xC3>")
    text = HISTORY + "hello<turn|><|turn>hé" + NEXT
    kept, rest = cached[:-2], tokenizer.encode("hé" + NEXT)
    assert tokenizer.continue_tokens(cached, whole(text)) == kept + rest


def test_the_sign_that_stands_for_a_space_is_read_as_one(tokenizer: Tokenizer):
    cached = tokenizer.encode(HISTORY) + ids(tokenizer, "he", "ll", "o", "▁", "w")
    text = HISTORY + "hello▁w" + NEXT
    assert tokenizer.continue_tokens(cached, whole(text))[: len(cached)] == cached


def test_control_tokens_are_not_kept_where_the_same_letters_are_quoted(
    tokenizer: Tokenizer,
):
    """Nor the other way round: a conversation is no other one that reads the same."""
    forged = HISTORY + "hi" + NEXT
    at = len(HISTORY) + len("hi<")
    quoted = Rendered((forged[:at], forged[at:]))
    control, words = tokenizer.encode(forged), tokenizer.encode_rendered(quoted)
    assert control != words and tokenizer.decode(control) == tokenizer.decode(words)
    assert tokenizer.continue_tokens(control, quoted) == words
    assert tokenizer.continue_tokens(words, whole(forged)) == control
    assert tokenizer.continue_tokens(words, quoted) == words


def test_any_cached_ids_give_back_exactly_the_text(demo_folder: Path):
    tokenizer = Tokenizer(demo_folder)
    rng = Random(1)
    parts = [
        "<|turn>",
        "<turn|>",
        "\n",
        " ",
        "the",
        " answer",
        "é",
        "漢",
        "a",
        "▁",
        ".",
    ]
    reused = 0
    for _ in range(1500):
        text = "".join(rng.choice(parts) for _ in range(rng.randrange(1, 14)))
        cached = odd_ids(tokenizer, text[: rng.randrange(len(text) + 1)], rng)
        cached += [rng.randrange(2048) for _ in range(rng.randrange(3))]
        tokens = tokenizer.continue_tokens(cached, whole(text))
        canonical = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == tokenizer.decode(canonical), (cached, text)
        assert shared(tokens, cached) >= shared(canonical, cached), (cached, text)
        reused += shared(tokens, cached) > shared(canonical, cached)
    assert reused > 50  # the odd ids are kept often enough to mean something


def odd_ids(tokenizer: Tokenizer, text: str, rng: Random) -> list[int]:
    """Ids that decode to `text`, cut at random places before encoding."""
    tokens: list[int] = []
    while text:
        count = rng.randrange(1, 5)
        tokens += tokenizer.encode(text[:count])
        text = text[count:]
    return tokens


def shared(left: list[int], right: list[int]) -> int:
    pairs = list(zip(left, right, strict=False))
    return next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))

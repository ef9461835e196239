"""Google's own tokenizer: 262,144 tokens that no small vocabulary stands for."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from google_tokenizer import unpack, with_processor
from places import REAL
from tiny_tokenizer import CHATS, IS_BASE

from mlx_gemma4 import Config
from mlx_gemma4.chat.tokenizer import Tokenizer
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.prompt import processor
from mlx_gemma4.prompt.vocabulary import check_vocabulary

SIZE = 262_144
ADDED = {
    **{"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<mask>": 4},
    **{"<|tool>": 46, "<tool|>": 47, "<|tool_call>": 48, "<tool_call|>": 49},
    **{"<|tool_response>": 50, "<tool_response|>": 51, '<|"|>': 52, "<|think|>": 98},
    **{"<|channel>": 100, "<channel|>": 101, "<|turn>": 105, "<turn|>": 106},
    **{"<|image>": 255_999, "<|audio>": 256_000, "<|image|>": 258_880},
    **{"<|audio|>": 258_881, "<image|>": 258_882, "<audio|>": 258_883},
    "<|video|>": 258_884,
}
# Encodings by the reference that others have published.
USER, MODEL = [105, 2364, 107], [106, 107, 105, 4368, 107]
SUM = [563, 236_743, 236_778, 236_862, 236_778]
THINK = [2, 105, 9731, 107, 98]
SEEN = [258_880, 107, 10_979, 236_761]
PUBLISHED = {
    "<bos><|turn>user\nWhat is 2+2?<turn|>\n<|turn>model\n": [
        *(2, *USER, 3689, *SUM, 236_881, *MODEL)
    ],
    "<bos><|turn>system\n<|think|><turn|>\n<|turn>user\nTEST<turn|>\n<|turn>model\n": [
        *(*THINK, 106, 107, *USER, 20_721, *MODEL)
    ],
    "<bos><|turn>system\n<|think|>\n<turn|>\n"
    "<|turn>user\n<|image|>\nHi.<turn|>\n<|turn>model\n": [
        *(*THINK, 107, 106, 107, *USER, *SEEN, *MODEL)
    ],
    "<bos><|turn>system\n<|think|>\nBe terse.<turn|>\n"
    "<|turn>user\n<|image|>\nHi.<turn|>\n<|turn>model\n": [
        *(*THINK, 107, 3912, 17_514, 236_761, 106, 107, *USER, *SEEN, *MODEL)
    ],
    "<bos><|turn>user\nQ: What is 2+2?\\nA:<turn|>\n<|turn>model\n"
    "<|channel>thought\n<channel|>": [
        *(2, *USER, 236_935, 236_787, 2900, *SUM, 105_470, 169_631, 236_787),
        *(*MODEL, 100, 45_518, 107, 101),
    ],
}
PARTS = (
    *("", " ", "  ", "   x", "\t", "\t\t\n", "\n\n\n", "\r\n", "\0", "\x7f", "a\0b"),
    *("hello", "Größe", "naïve", "don't", "3.14159", "1,000,000", "http://a.b/c?d=e"),
    *(
        "안녕하세요",
        "한국어 문장을 토큰으로",
        "ㄱㄴㄷ",
        "漢字かな交じり文",
        "中文，标点。",
    ),
    *("🙂", "👨‍👩‍👧‍👦", "🏳️‍🌈", "e\u0301", "\ufe0f", "\u200d", "\u200b", "\ufeff"),
    *("\u202e", "\u2028", "\ue000", "\uf8ff", "\U000f0000", "\U0010ffff", "ﷺ", "עברית"),
    *("ไทย", "हिन्दी", "▁", "▁▁x", "<0xE2>", "<unused5>", "<s>", "</s>", "[multimodal]"),
    *("<table>", "<|", "|>", "<|turn", "<start_of_turn>", "def f(x):\n    return x\n"),
    *("  indented\n\tmore", "=" * 40, " " * 33, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    *ADDED,
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("google"))


@pytest.fixture(scope="session")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer(folder)


def texts(count: int, seed: int) -> list[str]:
    """PARTS, and several of them together."""
    rng = Random(seed)
    mixed = (rng.choices(PARTS, k=rng.randrange(2, 9)) for _ in range(count))
    return [*PARTS, *map("".join, mixed)]


def streams(tokenizer: Tokenizer, count: int) -> list[list[int]]:
    """Random ids: any, bytes alone, and runs of them between words and marks."""
    rng = Random(6)
    bytes_ = [i for i in range(SIZE) if isinstance(tokenizer.piece(i), int)]
    assert len(bytes_) == 256
    pools = [range(SIZE), bytes_, list(ADDED.values()), tokenizer.encode("漢字 🙂 é\n")]
    return [
        [rng.choice(rng.choice(pools)) for _ in range(rng.randrange(1, 40))]
        for _ in range(count)
    ]


def streamed(tokenizer: Tokenizer, tokens: list[int]) -> str:
    detokenizer = tokenizer.detokenizer()
    return "".join(map(detokenizer.add, tokens)) + detokenizer.finish()


@pytest.mark.slow
@pytest.mark.parametrize("text", PUBLISHED)
def test_published_encodings(tokenizer: Tokenizer, text: str):
    assert tokenizer.encode(text) == PUBLISHED[text]
    assert tokenizer.decode(PUBLISHED[text]) == text


@pytest.mark.slow
def test_all_added_tokens_are_special_and_no_others_are(tokenizer: Tokenizer):
    assert tokenizer.special_tokens == ADDED
    for text, token in ADDED.items():
        assert tokenizer.encode(f"a{text}b")[1:-1] == [token]
        assert tokenizer.piece(token) == text
    for text in ("<unused5>", "[multimodal]", "<s>", "</s>", "<table>"):
        assert len(tokenizer.encode(text)) > 1  # they were one token in Gemma 3


@pytest.mark.slow
def test_ids_fill_the_tables_to_their_last_row(tokenizer: Tokenizer, folder: Path):
    assert list(tokenizer.tokens_from(SIZE - 1).values()) == [SIZE - 1]
    assert tokenizer.tokens_from(SIZE) == {}
    config = Config.from_file(REAL / "google" / "gemma-4-E2B-it" / "config.json")
    check_vocabulary(folder, tokenizer, config)
    for key in ("vocab_size", "vocab_size_per_layer_input"):
        short = shortened(config, **{key: SIZE - 1})
        with pytest.raises(CheckpointError, match=rf"id {SIZE - 1} .* {SIZE - 1} rows"):
            check_vocabulary(folder, tokenizer, short)


def shortened(config: Config, **text: Any) -> Config:
    return replace(config, text_config=replace(config.text_config, **text))


@pytest.mark.slow
def test_answers_end_where_googles_models_end_them(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
):
    """Warnings are errors: every mark has the id that config.json says."""
    monkeypatch.setattr(processor, "Tokenizer", lambda folder: tokenizer)
    for model in ("E2B", "E2B-it", "E4B-it", "26B-A4B-it", "31B-it"):
        real = REAL / "google" / f"gemma-4-{model}"
        config = Config.from_file(real / "config.json")
        found = processor.Processor.from_folder(real, config)
        assert found.generation.stop_tokens == (1, 50, 106)


@pytest.mark.slow
def test_texts_survive_a_round_trip(tokenizer: Tokenizer):
    for text in texts(2000, seed=1):
        expected = text.replace("▁", " ")
        found = tokenizer.decode(tokenizer.encode(text))
        if "<0xE2>" not in text:  # it is the name of a byte
            assert found == expected, text


@pytest.mark.slow
def test_streams_decode_as_a_whole_does(tokenizer: Tokenizer):
    for tokens in streams(tokenizer, 3000):
        assert streamed(tokenizer, tokens) == tokenizer.decode(tokens), tokens


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.filterwarnings("default")  # the reference's imports are not ours
def test_the_reference_encodes_and_decodes_the_same(folder: Path, tokenizer: Tokenizer):
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(folder)
    assert set(reference.all_special_tokens) <= set(ADDED)
    for text in texts(2000, seed=2):
        assert tokenizer.encode_text(text) == reference.encode(text), text
    for tokens in streams(tokenizer, 3000):
        expected = reference.decode(tokens, clean_up_tokenization_spaces=False)
        assert streamed(tokenizer, tokens) == expected, tokens


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("added", [CHATS, IS_BASE], ids=["chats", "base"])
def test_a_raw_text_as_the_reference_begins_it(
    folder: Path, tmp_path: Path, added: Any
):
    from transformers import AutoTokenizer

    with_processor(folder, tmp_path, added)
    ours = Tokenizer(tmp_path)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("", "hello", " hello", "한국어", "a<bos>", "<|turn>user\n"):
        assert ours.encode_text(text) == reference.encode(text)
    assert ours.encode_text("hello")[:1] == ([2] if added is IS_BASE else [23_391])
    assert ours.encode_text("<bos>hello") == [2, 23_391]

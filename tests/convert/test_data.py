"""A user's own text becomes token sequences, whole and in order."""

import json
from pathlib import Path

import jobs
import pytest

from mlx_gemma4.chat.tokenizer import Tokenizer
from mlx_gemma4.convert.check import encoded
from mlx_gemma4.convert.data import LONGEST, read_data
from mlx_gemma4.errors import DataError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.source(tmp_path_factory.mktemp("data") / "model")


def test_plain_text_is_cut_and_nothing_is_lost(model: Path, tmp_path: Path) -> None:
    tokenizer, file = Tokenizer(model), tmp_path / "mine.txt"
    file.write_text("What is the capital of France? " * 200, encoding="utf-8")
    found = read_data(file, model)
    assert len(found) > 1
    assert all(sequence[0] == tokenizer.bos_token_id for sequence in found)
    assert max(map(len, found)) == LONGEST + 1
    joined = [token for sequence in found for token in sequence[1:]]
    assert joined == tokenizer.encode(file.read_text(encoding="utf-8"))


def test_json_lines_of_texts_and_of_conversations(model: Path, tmp_path: Path) -> None:
    tokenizer, file = Tokenizer(model), tmp_path / "mine.jsonl"
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
    ]
    lines = [{"text": "One\u2028line."}, {"messages": turns}]
    text = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    file.write_text(text, encoding="utf-8")
    plain, chat = read_data(file, model)
    assert tokenizer.decode(plain[1:]) == "One\u2028line."
    assert chat.count(tokenizer.bos_token_id) == 1
    spoken = tokenizer.decode(chat)
    assert "Hello" in spoken and "Hi." in spoken


def test_a_text_with_a_bos_of_its_own_gets_no_second(
    model: Path, tmp_path: Path
) -> None:
    tokenizer, file = Tokenizer(model), tmp_path / "mine.txt"
    file.write_text("<bos>Hello", encoding="utf-8")
    assert read_data(file, model) == [tokenizer.encode("<bos>Hello")]
    assert encoded(model, ["<bos>Hello"]) == encoded(model, ["Hello"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no text"),
        (b"\xff\xfe", "not UTF-8"),
        (b"{}", 'line 1: it has neither "text"'),
        (b'{"text": "a"}\n[]', "line 2"),
        (b'{"text": "a"}\n{"messages": 3}', "line 2: messages must be"),
        (b"no json", "line 1"),
    ],
)
def test_unusable_data_is_named(
    content: bytes, message: str, model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_data(file, model)


def test_absent_data_is_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mine.txt cannot be read"):
        read_data(tmp_path / "mine.txt", model)

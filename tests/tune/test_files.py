"""Files of examples: every form, and every bad line in one error."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_gemma4.errors import DataError
from mlx_gemma4.tune.files import read_data, read_records

ASK = {"role": "user", "content": "Why?"}
SAY = {"role": "assistant", "content": "So."}


def jsonl(path: Path, *lines: Any) -> Path:
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(text), encoding="utf-8")
    return path


def test_the_three_kinds_of_a_line(tmp_path: Path):
    file = jsonl(
        tmp_path / "a.jsonl",
        {"messages": [ASK, SAY]},
        "",
        {"prompt": "Why?", "completion": "So."},
        {"text": "Once.\u2028Twice.", "source": "x"},
    )
    data = read_data(file)
    assert [r.where for r in data.train] == ["a.jsonl:1", "a.jsonl:3", "a.jsonl:4"]
    assert data.train[0].messages == data.train[1].messages == (ASK, SAY)
    assert data.train[2].text == "Once.\u2028Twice."
    assert data.ignored == {"source"} and not data.validation


def test_all_bad_lines_are_named_at_once(tmp_path: Path):
    file = jsonl(
        tmp_path / "a.jsonl",
        {"messages": [ASK, SAY]},
        "{",
        {"prompt": "Why?"},
        {"text": "a", "prompt": "b"},
        [1],
        {"messages": [{"role": "nobody", "content": ""}]},
        {"prompt": "Why?", "completion": " "},
        {"prompt": "Why?", "completion": "So.", "images": ["none.png"]},
        {"text": "a", "images": ["none.png"]},
        {"messages": [ASK, {**SAY, "reasoning": "hm"}], "thinking": False},
    )
    with pytest.raises(DataError) as caught:
        read_data(file)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("9 unusable examples:")
    assert [line.split()[0] for line in lines[1:]] == [
        f"a.jsonl:{number}" for number in range(2, 11)
    ]
    for line, words in zip(
        lines[1:],
        (
            *("no JSON", "must both be text", "prompt and text", "no JSON object"),
            *("role 'nobody'", "nothing to learn", "no file none.png"),
            *("takes no images", "has a thought"),
        ),
        strict=True,
    ):
        assert words in line


def test_csv_with_and_without_a_heading(tmp_path: Path):
    file = tmp_path / "a.csv"
    rows = '"Why, then?","So\nso."\nWhen?,Now.\n'
    for heading in ("", "Question,Answer\n", "\n \nquestion, answer\n"):
        file.write_text(heading + rows)
        records = read_data(file).train
        texts = [[m["content"] for m in r.messages] for r in records]
        assert texts == [["Why, then?", "So\nso."], ["When?", "Now."]]


def test_a_separator_of_lines_ends_no_row_of_a_csv(tmp_path: Path):
    file = tmp_path / "a.csv"
    file.write_bytes("Why?,So\u2028a,b\r\nx,y\r\n".encode())
    with pytest.raises(DataError, match=r"a\.csv:1 has 3 columns"):
        read_data(file)
    file.write_bytes("Why?,So\u2028so.\r\nx,y\r\n".encode())
    texts = [r.messages[1]["content"] for r in read_data(file).train]
    assert texts == ["So\u2028so.", "y"]


def test_bad_rows_of_a_csv(tmp_path: Path):
    file = tmp_path / "a.csv"
    file.write_text("a?,b\none\n1,2,3\nc,d\ne,\n")
    with pytest.raises(DataError) as caught:
        read_data(file)
    lines = [line.split()[0] for line in str(caught.value).splitlines()[1:]]
    assert lines == ["a.csv:2", "a.csv:3", "a.csv:5"]


def test_a_folder_of_text(tmp_path: Path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.md").write_text("Two.")
    (tmp_path / "a.txt").write_text("\ufeffOne.", encoding="utf-8")
    (tmp_path / "c.pdf").write_text("?")
    records = read_data(tmp_path).train
    assert [r.text for r in records] == ["One.", "Two."]
    (tmp_path / "z.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"z\.txt is not UTF-8"):
        read_data(tmp_path)


def test_a_folder_as_mlx_lm_has_it(tmp_path: Path):
    jsonl(tmp_path / "train.jsonl", {"text": "a"})
    jsonl(tmp_path / "valid.jsonl", {"text": "b"})
    jsonl(tmp_path / "test.jsonl", {"text": "c"})
    data = read_data(tmp_path, share=0.5)
    assert [r.text for r in (*data.train, *data.validation)] == ["a", "b"]
    assert [r.text for r in read_records(tmp_path)] == ["c"]
    (tmp_path / "test.jsonl").unlink()
    assert [r.text for r in read_records(tmp_path)] == ["b"]
    (tmp_path / "valid.jsonl").unlink()
    with pytest.raises(DataError, match=r"neither test\.jsonl nor valid\.jsonl: put"):
        read_records(tmp_path)


def test_what_is_kept_back_follows_the_seed(tmp_path: Path):
    file = jsonl(tmp_path / "a.jsonl", *({"text": str(i)} for i in range(20)))
    one, same, other = (read_data(file, 0.1, seed) for seed in (1, 1, 2))
    assert len(one.validation) == 2 and len(one.train) == 18
    assert one == same and one.validation != other.validation
    assert not {r.text for r in one.train} & {r.text for r in one.validation}
    with pytest.raises(DataError, match="too few"):
        read_data(jsonl(tmp_path / "b.jsonl", {"text": "a"}), 0.1)


@pytest.mark.parametrize("name", ["none.jsonl", "a.parquet", "empty.jsonl", "."])
def test_what_cannot_be_read_at_all(tmp_path: Path, name: str):
    (tmp_path / "a.parquet").write_text("?")
    (tmp_path / "empty.jsonl").write_text(" \n")
    with pytest.raises(DataError, match=r"There is no|no known kind|is empty|holds"):
        read_data(tmp_path / name)


def test_where_media_go(tmp_path: Path):
    for name in ("a.png", "b.png", "c.wav"):
        (tmp_path / name).write_bytes(b"?")
    image = {"type": "image"}
    file = jsonl(
        tmp_path / "a.jsonl",
        {"prompt": "What?", "completion": "x", "images": "a.png", "audio": ["c.wav"]},
        {
            "messages": [
                {"role": "user", "content": [image, {"type": "text", "text": "?"}]},
                SAY,
                {"role": "user", "content": [image]},
                SAY,
            ],
            "images": ["a.png", "b.png"],
        },
    )
    first, second = read_data(file).train
    kinds = [part["type"] for part in first.messages[0]["content"]]
    assert kinds == ["image", "audio", "text"]
    assert first.has_media
    shown = [m["content"][0]["image"] for m in second.messages[::2]]
    assert shown == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]


@pytest.mark.parametrize(
    "images, words", [(["a.png"], "more parts"), (["a.png"] * 3, "more image files")]
)
def test_media_and_parts_that_do_not_match(
    tmp_path: Path, images: list[str], words: str
):
    (tmp_path / "a.png").write_bytes(b"?")
    parts = [{"type": "image"}, {"type": "image"}]
    line = {"messages": [{"role": "user", "content": parts}, SAY], "images": images}
    with pytest.raises(DataError, match=words):
        read_data(jsonl(tmp_path / "a.jsonl", line))

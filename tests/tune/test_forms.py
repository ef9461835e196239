"""Examples as other trainers and data sets write them: learned right, or refused."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from mlx_gemma4.errors import DataError
from mlx_gemma4.tune.files import read_data
from mlx_gemma4.tune.records import Record, Remark, record_from
from mlx_gemma4.tune.tables import read_rows

CODED = base64.b64encode(b"picture").decode()
SAID = {"prompt": "What?", "completion": "A cat."}
ASK = {"role": "user", "content": "What?"}
SAY = {"role": "assistant", "content": "A cat."}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png", "c.wav", "c.raw", "d.mp4"):
        (tmp_path / name).write_bytes(b"?")
    monkeypatch.chdir(tmp_path)


def read(values: Any) -> Record:
    return record_from(json.loads(json.dumps(values)), "x:1", Path.cwd())


def shown(record: Record) -> list[str]:
    """Who says what, a medium as its file's name in angle brackets."""
    lines = []
    for message in record.messages:
        content = message["content"]
        parts = [content] if isinstance(content, str) else map(_part, content)
        lines.append(f"{message['role'][0]}: {' '.join(parts)}")
    return lines


def _part(part: dict[str, Any]) -> str:
    if part["type"] == "text":
        return part["text"]
    source = part[part["type"]]
    name = Path(source).name if isinstance(source, str) else source.decode()
    return f"<{part['type']} {name}>"


PICTURED = ["u: <image a.png> What?", "a: A cat."]


@pytest.mark.parametrize(
    "values",
    [
        {**SAID, "image": "a.png"},
        {**SAID, "images": "a.png"},
        {**SAID, "images": ["a.png"]},
        {**SAID, "image": {"path": "a.png"}},
        {**SAID, "image": {"bytes": None, "path": "a.png"}},
        {**SAID, "images": [{"path": "a.png", "bytes": None}]},
        {**SAID, "file_name": "a.png"},
        {**SAID, "image_file_name": "a.png"},
        {**SAID, "file_names": ["a.png"]},
        {"image": "a.png", "question": "What?", "answer": "A cat."},
        {"images": ["a.png"], "query": "<image>What?", "response": "A cat."},
        {"images": ["a.png"], "texts": [{"user": "What?", "assistant": "A cat."}]},
        {"image": "a.png", "messages": [ASK, SAY], "images": None},
        {"messages": [{**ASK, "images": ["a.png"]}, SAY]},
        {"images": ["a.png"], "messages": [{**ASK, "content": "<image>\nWhat?"}, SAY]},
        {"images": ["a.png"], "messages": [{**ASK, "content": "<|image|>What?"}, SAY]},
        {
            "id": "1",
            "image": "a.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat?"},
                {"from": "gpt", "value": "A cat."},
            ],
        },
    ],
)
def test_a_picture_is_in_whichever_way_it_is_named(values: dict[str, Any]):
    assert shown(read(values)) == PICTURED


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "a.png"},
        {"type": "image", "path": "a.png", "text": None},
        {"type": "image", "url": "a.png"},
        {"type": "image_url", "image_url": {"url": "a.png", "detail": "low"}},
        {"type": "image_url", "image_url": "a.png"},
        {"type": "image", "image": {"path": "a.png", "bytes": None}},
    ],
)
def test_parts_of_messages(part: dict[str, Any]):
    content = [part, {"type": "text", "text": "What?", "image": None}]
    assert shown(read({"messages": [{**ASK, "content": content}, SAY]})) == PICTURED


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({**SAID, "image": {"bytes": CODED, "path": "gone.png"}}, "image"),
        ({**SAID, "image": f"data:image/png;base64,{CODED}"}, "image"),
        ({**SAID, "audio": [{"bytes": list(b"picture")}]}, "audio"),
        ({**SAID, "image": base64.b64encode(b"picture" * 50).decode()}, "image"),
    ],
)
def test_contents_in_the_place_of_a_file(values: dict[str, Any], kind: str):
    record = read(values)
    assert shown(record)[0].startswith(f"u: <{kind} picture")
    assert record.media[0] in (b"picture", b"picture" * 50)


def test_contents_in_parts():
    sound = {"type": "input_audio", "input_audio": {"data": CODED, "format": "wav"}}
    anthropic = {"type": "image", "source": {"type": "base64", "data": CODED}}
    plain = {"type": "image", "base64": CODED}
    content = [sound, anthropic, plain, {"type": "text", "text": "?"}]
    record = read({"messages": [{**ASK, "content": content}, SAY]})
    assert record.media == [b"picture"] * 3


def test_marks_say_where_media_go():
    values = {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "First <image> then\n<image>\n<audio>"},
            {"from": "gpt", "value": "A cat."},
            {"from": "human", "value": "And <image>?"},
            {"from": "gpt", "value": "Too."},
        ],
        "images": ["a.png", "b.png", "a.png"],
        "audios": ["c.wav"],
    }
    assert shown(read(values)) == [
        "s: Be brief.",
        "u: First <image a.png> then <image b.png> <audio c.wav>",
        "a: A cat.",
        "u: And <image a.png> ?",
        "a: Too.",
    ]
    film = {"conversations": values["conversations"][3:], "video": "d.mp4"}
    assert shown(read(film))[0] == "u: And <video d.mp4> ?"


def test_markup_is_no_mark():
    page = "Fix this: <video><source></video>"
    assert shown(read({"prompt": page, "completion": "So."}))[0] == f"u: {page}"
    assert shown(read({"prompt": "Say it.", "completion": "<image>"}))


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({"instruction": "Add.", "input": "", "output": "3"}, ["u: Add.", "a: 3"]),
        (
            {"instruction": "Add.", "input": "1 2", "output": "3"},
            ["u: Add.\n1 2", "a: 3"],
        ),
        (
            {"system_prompt": "Be brief.", "question": "Why?", "response": "So."},
            ["s: Be brief.", "u: Why?", "a: So."],
        ),
        (
            {
                **{"instruction": "C?", "output": "D.", "system": "S."},
                "history": [["A?", "B."]],
            },
            ["s: S.", "u: A?", "a: B.", "u: C?", "a: D."],
        ),
        ({"prompt": [ASK], "completion": [SAY]}, ["u: What?", "a: A cat."]),
        ({"prompt": [ASK], "completion": "So."}, ["u: What?", "a: So."]),
        ({"input": "Why?", "output": "So."}, ["u: Why?", "a: So."]),
        ({"conversations": [ASK, SAY]}, ["u: What?", "a: A cat."]),
        ({"prompt": "What?", "messages": [ASK, SAY]}, ["u: What?", "a: A cat."]),
        (
            {
                **{"instruction": "Add.", "input": "1 2", "output": "3"},
                "text": "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n3",
            },
            ["u: Add.\n1 2", "a: 3"],
        ),
        (
            {"messages": [{**ASK, "role": "User"}, {**SAY, "role": "Assistant"}]},
            ["u: What?", "a: A cat."],
        ),
    ],
)
def test_conversations_of_other_trainers(values: dict[str, Any], lines: list[str]):
    assert shown(read(values)) == lines


def test_tools_as_text():
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    record = read({"messages": [ASK, SAY], "tools": json.dumps([tool])})
    assert record.tools == (tool,)


NO_FILE = "without a file for it: name it in"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({**SAID, "picture": "a.png"}, "names a.png in picture, which is not read"),
        ({**SAID, "image_path": "gone.jpg"}, "names gone.jpg in image_path"),
        ({**SAID, "meta": {"frames": ["b.png"]}}, "names b.png in meta"),
        ({**SAID, "url": "https://x.org/a.jpg?w=1"}, "in url, which is not read"),
        ({**SAID, "photo": {"bytes": "?", "path": None}}, "a file in photo"),
        ({**SAID, "photo": f"data:image/png;base64,{CODED}"}, "in photo, which"),
        ({"messages": [{**ASK, "file": "a.png"}, SAY]}, r"messages\[0\]\.file"),
        ({**SAID, "image": "https://x.org/a.png"}, "image is the URL .*: download"),
        ({**SAID, "image": "gone.png"}, r"there is no file gone\.png"),
        ({**SAID, "image": "a.png", "images": ["b.png"]}, "beside another field"),
        ({**SAID, "image": {"bytes": "§"}}, "image holds no file"),
        ({**SAID, "image": 5}, "image must be a path"),
        ({"messages": [{**ASK, "content": [5]}, SAY]}, r"content\[0\] must be"),
        ({"messages": [{**ASK, "content": {}}, SAY]}, "content is a dict"),
        ({**SAID, "history": [["a"]]}, "no question with its answer"),
        ({**SAID, "image": [None]}, r"image\[0\] must be a path"),
        ({**SAID, "audio": {"array": [0.0], "path": None}}, "array of samples"),
        ({**SAID, "file_name": "notes.txt"}, "ending names no medium"),
        ({**SAID, "video": ["a.png", "b.png"]}, r"names .*a\.png as a video"),
        ({"file_name": "a.png", "text": "A cat."}, "text takes no file_name"),
        ({"image": "a.png", "caption": "A cat."}, "no question about it"),
        ({"audio": "c.wav", "text": "Hello."}, "text takes no audio"),
        ({"prompt": "<image>What?", "completion": "x"}, f"<image> .* {NO_FILE} images"),
        ({"prompt": "<audio>What?", "completion": "x"}, f"<audio> .* {NO_FILE} audio"),
        ({**SAID, "prompt": "<image>", "images": ["a.png", "b.png"]}, "1 marks"),
        (
            {"prompt": "<|image_pad|>What?", "completion": "x", "image": "a.png"},
            "mark of another model",
        ),
        ({**SAID, "prompt": "See <image_1>", "image": "a.png"}, "of another model"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preferences"),
        ({**SAID, "reasoning": "It meows."}, "has reasoning, which is not read"),
        ({"prompt": "Else?", "messages": [ASK, SAY]}, "has messages and prompt"),
        ({**SAID, "text": "What? A dog."}, "has prompt and text"),
        ({**SAID, "label": False}, "has label, which is not read"),
        ({**SAID, "label": "True"}, "has label, which is not read"),
        ({**SAID, "image": "a.png", "mask": "b.png"}, "names b.png in mask"),
        ({**SAID, "clip": "c.raw"}, "names c.raw in clip"),
        ({"prompt": [ASK, SAY], "completion": "x"}, "prompt holds an answer"),
        ({**SAID, "context": "b", "input": "c"}, "has input and context: write one"),
        ({**SAID, "context": ["b"]}, "context must be text"),
        ({"messages": [ASK, {**SAY, "weight": 0}]}, r"has messages\[1\]\.weight"),
        ({"messages": [ASK, SAY], "functions": [{}]}, "write tools"),
        ({"conversations": [{"from": "observation", "value": ""}]}, "observation"),
        ({"conversations": "x"}, "must be a list"),
        ({"instruction": "a", "output": "b", "answer": "c"}, "give one answer"),
        ({"messages": [{"role": "system", "content": "a"}, ASK], "system": "b"}, "two"),
        ({"text": "<image>\nA cat."}, "text has no media: use messages"),
        ({"messages": [ASK, SAY], "output": ["a.png"]}, r"names a\.png in output"),
        (
            {"messages": [{**ASK, "content": [{"type": "image", "text": "x"}]}]},
            "has a text as well",
        ),
        ({"prompt": [ASK], "completion": "x", "input": "y"}, "has input beside"),
        ({"dialog": [], "id": 1}, "it has none, but dialog, id"),
        ({"prompt": "a\ud83d", "completion": "b"}, "half a character"),
        ({"prompt": "a\0", "completion": "b"}, "NUL character"),
        ({"prompt": "a" * 10_000_001, "completion": "b"}, "10,000,002 characters"),
    ],
)
def test_what_cannot_be_learned_whole_is_refused(values: dict[str, Any], words: str):
    with pytest.raises(DataError, match=words):
        read(values)


def test_a_note_is_enough_for_what_has_no_part_in_it():
    rows = {**SAID, "id": 7, "label": "cats", "source": "no.such", "tags": []}
    talk = {"messages": [ASK, SAY], "answer": "A cat.", "profile_name": "me"}
    lines = [json.dumps(row) for row in ({**rows, "x": None}, talk)]
    Path("a.jsonl").write_text("\n".join(lines))
    ignored = {"id", "label", "source", "answer", "profile_name"}
    assert read_data(Path("a.jsonl")).ignored == ignored
    twice = {**SAID, "image": {"path": "a.png"}, "id": "set/a.png"}
    assert shown(read(twice)) == PICTURED


def test_what_messages_state_in_vain_is_told():
    cached = {"type": "text", "text": "What?", "cache_control": {"type": "ephemeral"}}
    asked = {**ASK, "content": [cached], "id": "m1", "name": "me", "cost": None}
    said = {**SAY, "score": 5, "weight": 1, "reasoning": "Hm."}
    unread = {"id", "messages[].id", "messages[].score"}
    unread.add("messages[].content[].cache_control")
    assert read({"messages": [asked, said], "id": 1}).unread == unread
    turns = [
        {"from": "human", "value": "What?"},
        {"from": "gpt", "value": "A.", "x": 1},
    ]
    assert read({"conversations": turns}).unread == {"messages[].x"}


def test_a_thought_spelled_out_in_an_answer_is_told(tmp_path: Path):
    thought = {**SAID, "completion": "<think>Hm.</think>A cat."}
    closed = {
        "messages": [ASK, {**SAY, "content": [{"type": "text", "text": "</think>"}]}]
    }
    asked = {**SAID, "prompt": "What is <think>?"}
    rows = [thought, closed, asked, SAID]
    assert [bool(read(row).remarks) for row in rows] == [True, True, False, False]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert read_data(file).remarks == {Remark.THOUGHT: 2}


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("What does the tag <image> do?", True),
        ("Is `<image>` a tag?", True),
        ("Look at <image>.", True),
        ("Compare <image> <image> now", True),
        ("<image> What?", False),
        ("What? <image>", False),
        ("See:\n<image>\nOr", False),
        ("First: <image> What?", False),
    ],
)
def test_a_picture_within_a_sentence_is_told(prompt: str, told: bool):
    record = read({**SAID, "prompt": prompt, "images": ["a.png"] * prompt.count("<")})
    assert record.remarks == ({Remark.PLACED} if told else set())


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "What?", "context": "It purrs.", "response": "A cat."},
        {"instruction": "What?", "input": "It purrs.", "output": "A cat."},
        {"question": "What?", "context": "It purrs.", "answer": "A cat.", "input": ""},
    ],
)
def test_what_a_question_is_about_follows_it(row: dict[str, Any]):
    record = read({**row, "category": "closed_qa"})
    assert shown(record) == ["u: What?\nIt purrs.", "a: A cat."]
    assert record.unread == {"category"}


def test_a_json_list(tmp_path: Path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps([SAID, {**SAID, "image": "a.png"}, {"id": 1}]))
    with pytest.raises(DataError, match=r"a\.json\[2\] needs one of"):
        read_data(file)
    file.write_text(json.dumps([SAID, {**SAID, "image": "a.png"}], indent=1))
    assert [r.where for r in read_data(file).train] == ["a.json[0]", "a.json[1]"]
    file.write_text('{"data": []}')
    with pytest.raises(DataError, match="is no list of examples"):
        read_data(file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"n": ' + "1" * 5000 + "}", "a number of thousands of digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"prompt": "a\0", "completion": "b"}', "is no JSON"),
        ("null", "is no JSON object"),
        ('"' + "a" * 2**26 + '"', "more than 67,108,864 characters"),
    ],
)
def test_lines_that_are_no_example(tmp_path: Path, text: str, words: str):
    file = tmp_path / "a.jsonl"
    file.write_text(f"{json.dumps(SAID)}\n{text}\n")
    with pytest.raises(DataError, match=rf"1 unusable example:\n  a\.jsonl:2.*{words}"):
        read_data(file)


def test_a_mark_of_order_and_ends_of_lines_change_nothing(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(SAID).encode() + b"\r\n\r\n")
    assert shown(read_data(file).train[0]) == ["u: What?", "a: A cat."]


def columns(text: str) -> list[dict[str, Any]]:
    return [row.values for row in read_rows(text)]


def test_a_heading_names_the_fields_of_an_example(tmp_path: Path):
    file = tmp_path / "a.csv"
    file.write_text("id,Image,Question,Answer\n1,a.png,What?,A cat.\n2,,Why?,So.\n")
    data = read_data(file)
    assert [shown(record) for record in data.train] == [PICTURED, ["u: Why?", "a: So."]]
    assert data.ignored == {"id"}


@pytest.mark.parametrize("index", ["", "Unnamed: 0", "Unnamed: 0.1"])
def test_a_column_without_a_name_is_an_index(tmp_path: Path, index: str):
    file = tmp_path / "a.csv"
    file.write_text(f"{index},Question,Answer\n0,Why?,So.\n1,What?,A cat.\n")
    data = read_data(file)
    assert [shown(each)[1] for each in data.train] == ["a: So.", "a: A cat."]
    assert data.ignored == {(index or "Unnamed: 0").lower()}
    assert columns(",Why\n") == [{"prompt": "", "completion": "Why"}]


@pytest.mark.parametrize(
    "heading", ["Frage,Antwort", "cat,dog", "user message,model answer", "x", "id,n"]
)
def test_what_may_be_a_heading_is_asked(heading: str):
    with pytest.raises(DataError, match=r"may be a heading or an example: put the row"):
        columns(f"{heading}\nWhy?,So.\n")
    assert columns(f"prompt,completion\n{heading}\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt;completion\na;b\n", "between semicolons"),
        ("prompt\tcompletion\na\tb\n", "between tabs"),
        ("prompt,completion,prompt\n", "two columns named prompt"),
    ],
)
def test_headings_that_cannot_be_used(tmp_path: Path, text: str, words: str):
    file = tmp_path / "a.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=rf"a\.csv .*{words}"):
        read_data(file)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("Why?,So.,x", "3 columns instead of the 2 of its heading"),
        ("a" * 131_073 + ",b", "field limit.*: write it as jsonl"),
        ('"a,b', "is no CSV"),
        (",b", "prompt and completion must both be text|needs one of"),
    ],
)
def test_rows_that_are_no_example(tmp_path: Path, row: str, words: str):
    file = tmp_path / "a.csv"
    file.write_text(f"prompt,completion\n{row}\n")
    with pytest.raises(DataError, match=rf"a\.csv:2 .*({words})"):
        read_data(file)


@pytest.mark.parametrize("where", [".", "train"])
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_folder_of_pictures_with_metadata(tmp_path: Path, where: str, form: str):
    folder = tmp_path / "set"
    (folder / where).mkdir(parents=True)
    (folder / where / "a.png").write_bytes(b"?")
    row = {"file_name": "a.png", **SAID}
    text = json.dumps(row)
    if form == "csv":
        text = f"{','.join(row)}\n{','.join(row.values())}\n"
    (folder / where / f"metadata.{form}").write_text(text)
    assert [shown(record) for record in read_data(folder).train] == [PICTURED]


def test_sets_of_a_folder_by_their_names(tmp_path: Path):
    for name in ("train.csv", "validation.jsonl"):
        text = json.dumps({"text": name})
        text = f"text\n{name}." if name.endswith("csv") else text
        (tmp_path / name).write_text(text)
    data = read_data(tmp_path)
    assert [len(data.train), data.validation[0].text] == [1, "validation.jsonl"]
    (tmp_path / "valid.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"holds valid\.jsonl and validation\.jsonl"):
        read_data(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("data/part.parquet", "holds text and data/part.parquet, which is not read"),
        ("alpaca.json", "holds text and alpaca.json"),
        ("README.png", "README.md lies beside a medium of the same name"),
    ],
)
def test_a_folder_of_text_that_leaves_out_the_rest(
    tmp_path: Path, name: str, words: str
):
    folder = tmp_path / "set"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("[]")
    if name.endswith("png"):
        with pytest.raises(DataError, match=r"media need metadata\.jsonl"):
            read_data(folder)
    (folder / "README.md").write_text("About.")
    with pytest.raises(DataError, match=words):
        read_data(folder)

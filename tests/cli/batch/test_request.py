"""Lines of a batch, in whichever words they ask."""

import base64
from pathlib import Path
from typing import Any

import pytest
from describing import picture

from mlx_gemma4.cli.batch.request import Defaults, names_of, read_request
from mlx_gemma4.cli.errors import InputError
from mlx_gemma4.cli.serve.media import MediaRules
from mlx_gemma4.cli.settings import Settings

USER = {"role": "user", "content": "Hi"}


@pytest.fixture
def defaults(tmp_path: Path) -> Defaults:
    options = {**Settings(max_tokens=9).options, "tools": None, "strict_tools": False}
    return Defaults(options, rules=MediaRules((Path("/"),), base=tmp_path))


def test_a_prompt_is_a_message(defaults: Defaults) -> None:
    for value in ("Hi", {"prompt": "Hi"}, {"messages": [USER]}):
        request = read_request(value, 1, defaults)
        assert request["messages"] == [USER]
        assert request["max_tokens"] == 9


def test_a_line_of_openai_s_batch_files(defaults: Defaults) -> None:
    body = {
        "model": "gpt-5",
        "messages": [USER],
        "max_completion_tokens": 5,
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
        "parallel_tool_calls": False,
    }
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    request = read_request({**line, "body": body}, 1, defaults)
    assert request["max_tokens"] == 5
    assert request["schema"] == {"type": "object"}
    assert request["thinking"] is True and request["think_budget"] == 1024
    assert request["parallel_calls"] is False
    assert names_of({**line, "body": body}, 1) == {"id": "a", "custom_id": "a"}


def test_our_own_words(defaults: Defaults) -> None:
    own = {"think": True, "budget": 70, "stop_loops": False, "schema": "age int"}
    request = read_request({"prompt": "Hi", "system": "Be brief.", **own}, 1, defaults)
    assert request["thinking"] is True and request["image_tokens"] == 70
    assert request["stop_loops"] is False and request["schema"] == "age int"
    system = {"role": "system", "content": "Be brief."}
    assert request["messages"][0] == system
    line = {"messages": [{"role": "system", "content": "Rhyme."}, USER]}
    request = read_request({**line, "system": "Be brief."}, 1, defaults)
    assert request["messages"] == [{**system, "content": "Be brief.\n\nRhyme."}, USER]


def test_what_a_line_states_counts_more(defaults: Defaults) -> None:
    options = {**defaults.options, "regex": "a+", "tools": [{"name": "x"}]}
    whole = Defaults(options, "Default.", defaults.rules)
    request = read_request({"prompt": "Hi", "json_object": True}, 1, whole)
    assert "regex" not in request and request["schema"] == {"type": "object"}
    assert request["tools"] == [{"name": "x"}]
    assert request["messages"][0]["content"] == "Default."
    system = {"role": "developer", "content": "Own."}
    request = read_request({"messages": [system, USER]}, 1, whole)
    assert [m["content"] for m in request["messages"]] == ["Own.", "Hi"]
    assert request["regex"] == "a+"


def test_each_line_has_a_seed_of_its_own(defaults: Defaults) -> None:
    seeded = Defaults({**defaults.options, "seed": 7}, rules=defaults.rules)
    seeds = [read_request("Hi", number, seeded)["seed"] for number in (1, 2)]
    assert seeds == [7, 8]
    assert read_request({"prompt": "Hi", "seed": 3}, 2, seeded)["seed"] == 3
    assert read_request("Hi", 2, defaults)["seed"] is None


def test_media_lie_beside_the_file(defaults: Defaults, tmp_path: Path) -> None:
    file = Path(picture(str(tmp_path / "a.png")))
    data = "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
    parts: list[dict[str, Any]] = [
        {"type": "image", "path": "a.png"},
        {"type": "image", "image": "./a.png"},
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "image_url", "image_url": {"url": f"file://{file}"}},
    ]
    for part in parts:
        line = {"messages": [{"role": "user", "content": [part]}]}
        (read,) = read_request(line, 1, defaults)["messages"][0]["content"]
        assert read == {"type": "image", "image": file.resolve()}
    line = {"prompt": "Which?", "image": ["a.png", data]}
    first, second, text = read_request(line, 1, defaults)["messages"][0]["content"]
    assert (first["image"], second["image"]) == (file.resolve(), file.read_bytes())
    assert text == {"type": "text", "text": "Which?"}
    part = {"type": "video", "path": "a.png", "num_frames": 2, "fps": 0.5}
    line = {"messages": [{"role": "user", "content": [part]}]}
    (read,) = read_request(line, 1, defaults)["messages"][0]["content"]
    assert (read["num_frames"], read["fps"]) == (2, 0.5)


WRONG: list[tuple[Any, str]] = [
    (3, "The line must be a JSON object"),
    ({}, "messages or prompt is needed, and not both"),
    ({"prompt": "Hi", "messages": [USER]}, "not both"),
    ({"messages": []}, "one at least"),
    ({"prompt": "Hi", "temprature": 1}, "temprature is not known: leave it out"),
    ({"prompt": "Hi", "temperature": "hot"}, "temperature must be a number"),
    ({"prompt": "Hi", "id": 1.5}, "id must be a text or a whole number"),
    ({"prompt": "Hi", "id": True}, "id must be"),
    ({"prompt": "Hi", "n": 2}, "n can only be 1"),
    ({"prompt": "Hi", "image": "missing.png"}, "^image: there is no file"),
    ({"prompt": "Hi", "audio": ["no.wav"]}, r"^audio\[0\]: there is no file"),
    ({"prompt": "Hi", "image": [None]}, r"^image\[0\] must be a string"),
    ({"system": "Hi", "messages": [{}]}, r"^messages\[0\]\.role is missing"),
    ({"prompt": "Hi", "image": "https://example.com/a.png"}, "--allow-url"),
    ({"messages": [USER], "image": "a.png"}, "goes with a prompt"),
    ({"custom_id": "a", "url": "/v1/embeddings", "body": {}}, "url can only be"),
    ({"custom_id": "a", "url": "/v1/chat/completions"}, "body is missing"),
    ({"body": {"messages": [USER]}, "prompt": "Hi"}, "prompt is not known"),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "name a file"),
]


@pytest.mark.parametrize(("value", "told"), WRONG, ids=lambda each: str(each)[:40])
def test_what_cannot_be_honoured(value: Any, told: str, defaults: Defaults) -> None:
    with pytest.raises(InputError, match=told):
        read_request(value, 1, defaults)

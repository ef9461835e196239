"""`llm` from Python, with the demo model: what it asks is answered."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from places import SHAPES

llm: Any = pytest.importorskip("llm", reason="needs the extra: pip install .[llm]")

from mlx_gemma4.cli.plugin import answering, hooks, names  # noqa: E402
from mlx_gemma4.cli.plugin.models import AsyncGemma, Gemma  # noqa: E402

QUESTION, ANSWER = "What is the capital of France?", "The capital of France is Paris."
ENDLESS = {"temperature": 1000, "top_p": 1, "top_k": 0, "seed": 1, "stop_loops": False}


@pytest.fixture(scope="module")
def demo() -> Iterator[Any]:
    """All tests share what is loaded."""
    yield Gemma("gemma4/demo")
    answering.MEMORY.clear()


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))


def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return "sunny, 21 degrees" if city == "Oslo" else "foggy, 3 degrees"


def test_a_conversation_reads_only_what_is_new(demo: Any) -> None:
    talk = demo.conversation()
    first = talk.prompt("My name is Anna.", system="Be brief.", temperature=0)
    first.text()
    second = talk.prompt("What is my name?", temperature=0)
    assert second.text() == "Your name is Anna."
    assert second.resolved_model == "demo"
    used = second.usage()
    assert used.details == {"cached_tokens": first.usage().input + first.usage().output}
    assert second.response_json["finish_reason"] == "stop"


def test_each_prompt_says_how_its_context_is_kept(demo: Any) -> None:
    for bits in (8, 0, 8, None):
        asked = demo.prompt(QUESTION, temperature=0, kv_bits=bits)
        assert asked.text() == ANSWER
    with pytest.raises(llm.ModelError, match="kv_bits is 4; it must be 8"):
        demo.prompt(QUESTION, kv_bits=4).text()
    with pytest.raises(llm.ModelError, match="may have at most 9 where"):
        demo.prompt(QUESTION, max_context=10).text()


@pytest.mark.slow
def test_a_picture(demo: Any) -> None:
    shown = llm.Attachment(content=SHAPES.read_bytes())
    answer = demo.prompt("Describe this image.", attachments=[shown], temperature=0)
    assert "a blue star in the middle" in answer.text()


def test_a_recording(demo: Any, tmp_path: Path) -> None:
    import soundfile

    samples, rate = soundfile.read(SHAPES.parent / "speech.wav")
    soundfile.write(tmp_path / "short.wav", samples[: 2 * rate], rate)
    heard = llm.Attachment(path=str(tmp_path / "short.wav"))
    words = "What is said in this recording?"
    assert "open" in demo.prompt(words, attachments=[heard], temperature=0).text()
    whole = llm.Attachment(path=str(SHAPES.parent / "speech.wav"))
    with pytest.raises(llm.ModelError, match="the model hears at most 3 s"):
        demo.prompt(words, attachments=[whole]).text()


def test_results_of_tools_are_fed_back(demo: Any) -> None:
    ask = "What is the weather in Oslo?"
    chain = demo.chain(ask, tools=[get_weather], options={"temperature": 0})
    assert chain.text() == "It is sunny and 21 degrees in Oslo."
    called, said = chain._responses
    assert [(c.name, c.arguments) for c in called.tool_calls()] == [
        ("get_weather", {"city": "Oslo"})
    ]
    assert said.usage().details["cached_tokens"] >= called.usage().input


def test_calls_of_an_answer_that_was_cut_are_not_run(demo: Any) -> None:
    ran: list[str] = []

    def get_weather(city: str) -> None:
        """Get the weather in a city."""
        ran.append(city)

    ask = "What is the weather in Oslo?"
    whole = demo.prompt(ask, tools=[get_weather], temperature=0)
    most = whole.usage().output - 1  # the call is whole, and its answer not at its end
    options = {"temperature": 0, "max_tokens": most}
    with pytest.raises(llm.ModelError, match="cut in its calls: none was run"):
        demo.chain(ask, tools=[get_weather], options=options).text()
    assert whole.tool_calls() and not ran


def test_an_answer_of_a_schema(demo: Any) -> None:
    pytest.importorskip("llguidance", reason="needs the extra: pip install .[json]")
    schema = llm.schema_dsl("capital, rivers int")
    said = demo.prompt(QUESTION, schema=schema, max_tokens=20, seed=1).text()
    assert json.loads(said).keys() == {"capital", "rivers"}
    with pytest.raises(llm.ModelError, match="uniqueItems"):
        demo.prompt(QUESTION, schema={"type": "array", "uniqueItems": True}).text()


@pytest.mark.slow
def test_an_answer_that_was_cut_before_it_had_its_schema(demo: Any) -> None:
    pytest.importorskip("llguidance", reason="needs the extra: pip install .[json]")
    long = {"type": "string", "minLength": 5000}
    with pytest.raises(llm.ModelError, match=r"its schema\. Raise `-o max_tokens N`"):
        demo.prompt(QUESTION, schema=long, max_tokens=1).text()


def test_a_thought_is_told_apart(demo: Any) -> None:
    response = demo.prompt(QUESTION, think=True, temperature=0)
    events = list(response.stream_events())
    assert "".join(e.chunk for e in events if e.type == "text") == ANSWER
    assert {e.type for e in events} == {"reasoning", "text"}


@pytest.mark.slow
def test_one_seed_one_answer(demo: Any) -> None:
    once, again = (demo.prompt("Hi", max_tokens=9, **ENDLESS).text() for _ in "ab")
    assert once == again


def test_drafts_change_nothing(demo: Any) -> None:
    said = {
        demo.prompt("Tell me of the sea.", draft=draft, seed=5, max_tokens=20).text()
        for draft in ("off", "lookup", "auto", "assistant", None)
    }
    assert len(said) == 1
    with pytest.raises(ValueError, match="draft"):
        demo.prompt("Hi", draft="always").text()


def test_who_leaves_early_keeps_nobody_waiting(demo: Any) -> None:
    left = iter(demo.prompt("Hi", **ENDLESS))
    next(left)
    left.close()
    assert demo.prompt(QUESTION, temperature=0).text() == ANSWER


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("gemma4/demo", {"temperature": -1}, "temperature is -1.0; it must be 0 or"),
        ("gemma4/demo", {"image_tokens": 3}, "image_tokens is 3; it can be"),
        ("gemma4/e4b", {}, "e4b is not here: `gemma4 pull e4b` gets it"),
        ("gemma4/nosuch", {}, "'nosuch' is neither a folder nor a Hub id"),
    ],
)
def test_what_cannot_be_done_is_said(
    demo: Any, name: str, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(llm.ModelError, match=said):
        Gemma(name).prompt("Hi", **given).text()


def test_many_at_once(demo: Any) -> None:
    """Each gets its own answer, and the loop goes on meanwhile."""
    cities = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid"}
    model = AsyncGemma("gemma4/demo")

    async def ask(country: str) -> str:
        asked = f"What is the capital of {country}?"
        return await model.prompt(asked, temperature=0).text()

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*map(ask, cities))

    said = asyncio.run(all_of_them())
    assert said == [f"The capital of {c} is {cities[c]}." for c in cities]


@pytest.mark.slow
def test_tools_of_a_program_that_is_async(demo: Any) -> None:
    async def ask() -> str:
        model = AsyncGemma("gemma4/demo")
        asked = "What is the weather in Oslo?"
        options = {"temperature": 0}
        return await model.chain(asked, tools=[get_weather], options=options).text()

    assert asyncio.run(ask()) == "It is sunny and 21 degrees in Oslo."


def test_the_model_of_the_name_alone(
    demo: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """That of `gemma4 chat`: the variable, the settings, the default, the demo."""
    plain = Gemma("gemma4")
    monkeypatch.delenv("GEMMA4_MODEL", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for _ in range(2):
        assert plain.prompt(QUESTION, temperature=0).text() == ANSWER
    assert capsys.readouterr().err.count("using the built-in demo model, a toy") == 1
    file = tmp_path / "gemma4" / "config.toml"
    file.parent.mkdir()
    for text, said in (('model = "e2b"', "^e2b is not"), ("model = 3", "model is 3")):
        file.write_text(text)
        with pytest.raises(llm.ModelError, match=said):
            plain.prompt("Hi").text()
    monkeypatch.setenv("GEMMA4_MODEL", "e4b")
    with pytest.raises(llm.ModelError, match="^e4b is not here"):
        plain.prompt("Hi").text()


def test_names_of_what_is_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlx_gemma4.hub import here

    demo = here.held()[0]
    found = [
        demo,
        here.Held("e4b:qat", demo.place, demo.folder, 1, True, ()),
        here.Held("org/own", demo.place, demo.folder, 1, True, ()),
        here.Held("31b:8bit", demo.place, demo.folder, 1, False, ()),
    ]
    monkeypatch.setattr(here, "held", lambda: found)
    ours = ["demo", "e4b:qat", "org/own", "e4b"]
    assert names.names() == ["gemma4", *(f"gemma4/{name}" for name in ours)]

    def unreadable() -> None:
        raise PermissionError(13, "Permission denied", "/cache")

    monkeypatch.setattr(here, "held", unreadable)
    assert names.names() == ["gemma4", "gemma4/demo"]
    assert "cannot be listed: [Errno 13]" in capsys.readouterr().err


def test_an_older_llm_keeps_its_other_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registered: list[Any] = []
    monkeypatch.delitem(sys.modules, "mlx_gemma4.cli.plugin.models")
    monkeypatch.setitem(sys.modules, "llm.parts", None)
    hooks.register_models(lambda *models: registered.append(models))
    assert registered == []
    assert "need llm 0.36 or newer" in capsys.readouterr().err

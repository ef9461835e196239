"""The demo model by OpenAI's own client."""

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest
import soundfile
from places import SHAPES
from serving import demo, served

openai = pytest.importorskip("openai", reason="the extra dev has OpenAI's client")
pytestmark = pytest.mark.slow

FRANCE: Any = [{"role": "user", "content": "What is the capital of France?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather in a city",
        "parameters": {**CITY, "required": ["city"]},
    },
}
RESULT = '{"weather": "sunny", "degrees": 21}'


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with served(demo) as server:
        with openai.OpenAI(base_url=server.url, api_key="x", max_retries=0) as client:
            yield client


def said(client: Any, messages: Any, **more: Any) -> Any:
    made = client.chat.completions.create(model="gemma4", messages=messages, **more)
    return made.choices[0].message


def test_text_and_a_second_turn(client) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    create = client.chat.completions.create
    first = create(model="gemma4", messages=FRANCE)
    text = first.choices[0].message.content
    assert text == "The capital of France is Paris."
    turns = [*FRANCE, {"role": "assistant", "content": text}]
    turns += [{"role": "user", "content": "What is the capital of Spain?"}]
    stream = create(
        model="gemma4",
        messages=turns,
        stream=True,
        stream_options={"include_usage": True},
    )
    *parts, last = stream
    text = "".join(part.choices[0].delta.content or "" for part in parts)
    assert text == "The capital of Spain is Madrid."
    # All but what is new: the end of the first turn, the question, the answer's head.
    known = first.usage.prompt_tokens + first.usage.completion_tokens
    assert last.usage.prompt_tokens_details.cached_tokens >= known - 1


def test_a_picture(client) -> None:
    data = base64.b64encode(SHAPES.read_bytes()).decode()
    picture = {"url": f"data:image/png;base64,{data}"}
    parts = [{"type": "image_url", "image_url": picture}]
    parts += [{"type": "text", "text": "What is in this picture?"}]
    answer = said(client, [{"role": "user", "content": parts}])
    assert "red circle" in answer.content


def test_sound(client) -> None:
    samples, rate = soundfile.read(SHAPES.parent / "speech.wav")
    file = io.BytesIO()
    soundfile.write(file, samples[: int(2.9 * rate)], rate, format="WAV")
    data = base64.b64encode(file.getvalue()).decode()
    sound = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    parts = [sound, {"type": "text", "text": "Transcribe this."}]
    answer = said(client, [{"role": "user", "content": parts}])
    assert answer.content.startswith("hello open")


def test_a_tool(client) -> None:
    messages: Any = [{"role": "user", "content": "What is the weather in Rome?"}]
    answer = said(client, messages, tools=[WEATHER])
    (call,) = answer.tool_calls
    assert (call.function.name, call.function.arguments) == (
        "get_weather",
        '{"city": "Rome"}',
    )
    result = {"role": "tool", "tool_call_id": call.id, "content": RESULT}
    messages += [answer.model_dump(exclude_none=True), result]
    answer = said(client, messages, tools=[WEATHER])
    assert answer.content == "It is sunny and 21 degrees in Rome."


def test_a_tool_that_has_to_be_called(client) -> None:
    pytest.importorskip("llguidance", reason="needs the extra json")
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", named):
        answer = said(client, FRANCE, tools=[WEATHER], tool_choice=choice)
        assert answer.tool_calls[0].function.name == "get_weather"
    assert not said(client, FRANCE, tools=[WEATHER], tool_choice="none").tool_calls


def test_a_schema(client) -> None:
    pytest.importorskip("llguidance", reason="needs the extra json")
    pydantic = pytest.importorskip("pydantic", reason="OpenAI's client has it")

    class Verdict(pydantic.BaseModel):
        answer: Literal["yes", "no"]
        stars: Literal[1, 2, 3]

    made = client.chat.completions.parse(
        model="gemma4", messages=FRANCE, response_format=Verdict
    )
    assert isinstance(made.choices[0].message.parsed, Verdict)


def test_a_text_to_go_on_with(client) -> None:
    prompt = "<bos><|turn>user\nWhat is the capital of France?<turn|>\n<|turn>model\n"
    made = client.completions.create(model="gemma4", prompt=prompt, max_tokens=20)
    assert made.choices[0].text == "The capital of France is Paris."
    stream = client.completions.create(
        model="gemma4", prompt=prompt, max_tokens=20, stream=True
    )
    text = "".join(part.choices[0].text for part in stream)
    assert text == "The capital of France is Paris."


def test_a_text_that_has_marks(client) -> None:
    """A call is no less of the text than an answer, and can be gone on with."""
    declared = (
        'declaration:get_weather{description:<|"|>Weather in a city<|"|>,parameters:'
        '{properties:{city:{type:<|"|>STRING<|"|>}},required:[<|"|>city<|"|>],'
        'type:<|"|>OBJECT<|"|>}}'
    )
    prompt = (
        f"<bos><|turn>system\n<|tool>{declared}<tool|><turn|>\n"
        "<|turn>user\nWhat is the weather in Rome?<turn|>\n<|turn>model\n"
    )
    written = '<|tool_call>call:get_weather{city:<|"|>Rome<|"|>}<tool_call|>'
    ask = client.completions.create
    assert ask(model="gemma4", prompt=prompt).choices[0].text == written
    stop = ask(model="gemma4", prompt=prompt, stop="{city").choices[0]
    assert (stop.text, stop.finish_reason) == (
        "<|tool_call>call:get_weather",
        "stop",
    )


def test_what_is_wrong_is_told(client) -> None:
    with pytest.raises(openai.BadRequestError, match="n can only be 1"):
        client.chat.completions.create(model="x", messages=FRANCE, n=2)
    with pytest.raises(openai.BadRequestError, match="logprobs is not known"):
        client.completions.create(model="x", prompt="Hi", logprobs=0)
    with pytest.raises(openai.BadRequestError, match="no tool is declared"):
        said(client, FRANCE, tool_choice="required")
    long: Any = [{"role": "user", "content": "word " * 5000}]
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="x", messages=long)
    assert error.value.code == "context_length_exceeded"


def test_twenty_at_once(client) -> None:
    """Each has its own answer, a quarter of them reads only some of it."""
    cities = {"France": "Paris", "Spain": "Madrid", "Italy": "Rome"}

    def one(number: int) -> tuple[str, str]:
        name = list(cities)[number % 3]
        asked = [{"role": "user", "content": f"What is the capital of {name}?"}]
        create = client.chat.completions.create
        if number % 4:
            return name, said(client, asked).content
        with create(model="x", messages=asked, stream=True) as stream:
            return name, next(iter(stream)).choices[0].delta.content

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(one, range(20)))
    for number, (name, text) in enumerate(found):
        whole = f"The capital of {name} is {cities[name]}."
        assert text == (whole if number % 4 else "")

"""A thought stays with the calls that follow it until the turn is over."""

from pathlib import Path

import pytest
from google_templates import google_template

from mlx_gemma4 import Chat, load
from mlx_gemma4.chat.template import ChatTemplate

FIELDS = {"city": {"type": "string", "description": "Name of the city."}}
WEATHER = {
    "name": "get_weather",
    "description": "Get the weather in a city.",
    "parameters": {
        "type": "object",
        "properties": FIELDS,
        "required": ["city"],
    },
}
SUNNY = '{"sky": "sunny", "degrees": 21}'


@pytest.fixture(scope="module")
def chat(demo_folder: Path) -> Chat:
    """Its one turn: a question, a thought and a call, the result, a thought, an answer.

    Each answer reads what was written before it from the cache, thought and all.
    """
    model, processor = load(demo_folder)
    chat = Chat(model, processor, tools=[WEATHER], thinking=True, temperature=0)
    first = chat.ask("What is the weather in Rome?")
    assert first.thought and first.tool_calls and first.stats is not None
    read = first.stats.prompt_tokens + first.stats.completion_tokens
    (call,) = chat.messages[-1]["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": SUNNY}
    second = chat.ask(result)
    assert second.thought and "sunny" in second.text and second.stats is not None
    assert second.stats.cached_tokens == read
    return chat


@pytest.mark.slow
def test_its_tokens_are_counted(chat: Chat) -> None:
    assert chat.last is not None and chat.last.stats is not None
    written = [chat.processor.tokenizer.decode([token]) for token in chat.last.tokens]
    begins = written.index("<|channel>") if "<|channel>" in written else 0
    length = written.index("<channel|>") + 1 - begins
    assert chat.last.stats.thought_tokens == length > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, "small", "large"])
def test_it_is_there_until_the_next_question(chat: Chat, name: str | None) -> None:
    tokenizer, template = chat.processor.tokenizer, chat.processor.template
    assert template is not None and chat.last is not None
    if name is not None:
        bos, eos = tokenizer.bos_token, tokenizer.eos_token
        source = google_template(name)
        template = ChatTemplate(source, bos, eos, tokenizer.special_tokens)

    def rendered(messages: list, prompt: bool) -> str:
        return template.render(messages, [WEATHER], True, prompt, False).text

    *before, answer = chat.messages
    written = tokenizer.decode(chat.last.tokens)
    asked = rendered(before, prompt=True)
    assert (
        f"<|channel>thought\n{before[1]['reasoning']}\n<channel|><|tool_call>" in asked
    )
    whole = rendered(chat.messages, prompt=False)
    assert whole.startswith(asked + written) and answer["reasoning"] in written
    later = rendered([*chat.messages, {"role": "user", "content": "And now?"}], True)
    assert "<|channel>" not in later

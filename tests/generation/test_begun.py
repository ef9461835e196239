"""An answer that was cut goes on as if it had not been."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import tiny
from tiny_tokenizer import write_tokenizer
from turns import Author

from mlx_gemma4 import Chat, PrefixCache, Response, generate, load, stream_generate
from mlx_gemma4.chat.template import ChatTemplate
from mlx_gemma4.chat.tokenizer import Tokenizer
from mlx_gemma4.errors import ChatError
from mlx_gemma4.model import Gemma4
from mlx_gemma4.prompt.processor import GenerationDefaults, Processor
from mlx_gemma4.sampling import Sampling

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|turn>{{ m.role }}\n{{ m.content }}<turn|>"
    "\n{% endfor %}<|turn>model\n{% if enable_thinking %}<|channel>thought\n{% endif %}"
)
HI = [{"role": "user", "content": "hello"}]
CALL = '<|tool_call>call:add{a:<|"|>x<|"|>}<tool_call|>'
# Thoughts, characters of several tokens, a stop string that is begun, and a call.
TEXT = f"<|channel>thought\nhm, größe\n<channel|>hello 漢 wor worl\n{CALL}<turn|>"


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Processor:
    tokenizer = Tokenizer(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))
    stops = tuple(tokenizer.special_tokens[t] for t in ("<turn|>", "<eos>"))
    defaults = GenerationDefaults(Sampling(temperature=0.0), stops)
    model: Any = None  # no configuration is needed
    return Processor(tokenizer, ChatTemplate(TEMPLATE, "<bos>"), model, defaults)


@pytest.fixture(scope="module")
def model() -> Gemma4:
    sizes = {"vocab_size": 320, "vocab_size_per_layer_input": 320}
    return tiny.build("demo", 4, **sizes, max_position_embeddings=200)


@pytest.mark.slow
@pytest.mark.parametrize("every", [20, 4])
def test_wherever_it_is_cut_it_becomes_the_whole_answer(
    model: Gemma4, processor: Processor, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    author = Author(monkeypatch)
    tokens = processor.tokenizer.encode(TEXT)
    options: dict[str, Any] = {"stop": "world", "prefix": PrefixCache(model)}
    author.answer = tokens
    whole = generate(model, processor, HI, **options)
    assert whole.tokens == tokens
    for cut in range(1, len(tokens), every):
        author.answer = tokens[:cut]
        generate(model, processor, HI, max_tokens=cut, **options)
        author.answer = tokens[cut:]
        rest = generate(model, processor, HI, begun=tokens[:cut], **options)
        assert (rest.text, rest.thought) == (whole.text, whole.thought)
        assert rest.tool_calls == whole.tool_calls
        assert (rest.tokens, rest.finish_reason) == (tokens, whole.finish_reason)
        assert rest.stats and whole.stats
        assert rest.stats.completion_tokens == len(tokens) - cut
        assert rest.stats.prompt_tokens == whole.stats.prompt_tokens + cut
        assert rest.stats.prompt_tokens - rest.stats.cached_tokens == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.0}, {"temperature": 3.0, "repetition_penalty": 1.5}],
)
def test_the_tokens_are_those_that_would_have_come(
    model: Gemma4, processor: Processor, options: dict[str, Any]
) -> None:
    options = {**options, "seed": 11}
    whole = generate(model, processor, HI, max_tokens=12, **options).tokens
    for cut, prefix in ((1, None), (7, PrefixCache(model))):
        options["prefix"] = prefix
        stream: Any = stream_generate(model, processor, HI, **options)
        begun = [next(stream).token for _ in range(cut)]
        stream.close()  # as Ctrl-C does
        options["max_tokens"] = 12 - cut
        rest = generate(model, processor, HI, begun=begun, **options)
        del options["max_tokens"]
        assert rest.tokens == whole


def test_nothing_follows_an_end(model: Gemma4, processor: Processor) -> None:
    ended = processor.tokenizer.encode("so it is.<turn|>")
    with pytest.raises(ChatError, match="at its end"):
        generate(model, processor, HI, begun=ended)
    with pytest.raises(ChatError, match="at its end"):
        generate(model, processor, HI, begun=ended[:-1], stop="it")
    with pytest.raises(ChatError, match="320 is not in"):
        generate(model, processor, HI, begun=[320])


def begun_with(
    model: Gemma4, processor: Processor, thinking: bool = False, **message: Any
) -> tuple[str, Response]:
    """What the model has read and written, and the answer."""
    prefix = PrefixCache(model)
    answer = generate(
        model,
        processor,
        HI,
        begun={"role": "assistant", **message},
        thinking=thinking,
        prefix=prefix,
    )
    return processor.tokenizer.decode(prefix.tokens), answer


def test_a_message_that_has_begun(
    model: Gemma4, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = Author(monkeypatch)
    author.answer = processor.tokenizer.encode("!<turn|>")
    start = "<bos><|turn>user\nhello<turn|>\n<|turn>model\n"
    read, answer = begun_with(model, processor, content="so it")
    assert (read, answer.text) == (f"{start}so it!<turn|>", "so it!")
    said = {"content": "so it", "reasoning": "hm"}
    thought = "<|channel>thought\nhm\n<channel|>so it!<turn|>"
    for thinking in (False, True):  # there the prompt has opened the thought
        read, answer = begun_with(model, processor, thinking, **said)
        assert read == start + thought
        assert (answer.thought, answer.text) == ("hm", "so it!")
    read, answer = begun_with(model, processor, content="", reasoning="hm")
    assert read == f"{start}<|channel>thought\nhm!<turn|>"
    assert (answer.thought, answer.text) == ("hm!", "")


def test_marks_that_a_message_quotes_stay_words(
    model: Gemma4, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = Author(monkeypatch)
    author.answer = processor.tokenizer.encode("!<turn|>")
    answer = begun_with(model, processor, content="say <turn|> and <|channel>")[1]
    marks = set(processor.tokenizer.special_tokens.values())
    assert marks.intersection(answer.tokens) == {author.answer[-1]}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "user", "content": "x"}, "assistant"),
        ({"role": "assistant", "content": [{"type": "text", "text": "x"}]}, "text"),
        ({"role": "assistant", "content": "", "tool_calls": [{}]}, "results"),
    ],
)
def test_messages_that_cannot_go_on(
    model: Gemma4, processor: Processor, message: dict[str, Any], said: str
) -> None:
    with pytest.raises(ChatError, match=said):
        generate(model, processor, HI, begun=message)


@pytest.mark.slow
def test_a_conversation_goes_on_to_the_end_of_its_answer(demo_folder: Path) -> None:
    """Cut by the limit and left early, time and again, and drawn at random."""
    model, processor = load(demo_folder, dtype=mx.float32)
    question = "What is the capital of France?"
    whole = Chat(model, processor, seed=3, temperature=1.5).ask(question)
    chat = Chat(model, processor, seed=3, temperature=1.5, max_tokens=3)
    assert chat.ask(question).finish_reason == "length"
    for chunk in chat.resume(chat.options):
        assert whole.text.startswith(chat.messages[-1]["content"] + chunk.text)
        break
    while chat.go_on().finish_reason == "length":
        pass
    assert chat.last and chat.last.tokens == whole.tokens
    assert chat.messages[-1] == whole.message()
    with pytest.raises(ChatError, match="at its end"):
        chat.go_on()
    chat.undo()
    with pytest.raises(ChatError, match="no answer to go on"):
        chat.go_on()


def test_what_another_model_said_is_gone_on_with(demo_folder: Path) -> None:
    model, processor = load(demo_folder, dtype=mx.float32)
    asked = {"role": "user", "content": "What is the capital of France?"}
    said = {"role": "assistant", "content": "The capital of"}
    chat = Chat(model, processor, messages=[asked, said])
    new = "".join(chunk.text for chunk in chat.resume(chat.options))
    assert new == " France is Paris."
    assert chat.messages[-1]["content"] == "The capital of France is Paris."

"""Generation: what is read, what is written, when it ends and what is counted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny
from tiny_tokenizer import write_tokenizer
from turns import Author

from mlx_gemma4 import Chunk, PrefixCache, Stats, generate, load, stream_generate
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
CONTEXT = 60
CALL = '<|tool_call>call:add{a:<|"|>x<|"|>}<tool_call|>'


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Processor:
    """A readable vocabulary; answers end at <turn|> or <eos>."""
    tokenizer = Tokenizer(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))
    stops = tuple(tokenizer.special_tokens[t] for t in ("<turn|>", "<eos>"))
    defaults = GenerationDefaults(Sampling(temperature=0.0), stops)
    model: Any = None  # no configuration is needed
    return Processor(tokenizer, ChatTemplate(TEMPLATE, "<bos>"), model, defaults)


@pytest.fixture(scope="module")
def model(processor: Processor) -> Gemma4:
    vocab = 320
    assert max(processor.tokenizer.encode("hello w.\n!")) < vocab
    sizes = {"vocab_size": vocab, "vocab_size_per_layer_input": vocab}
    return tiny.build("demo", 4, **sizes, max_position_embeddings=CONTEXT)


@pytest.fixture
def author(monkeypatch: pytest.MonkeyPatch) -> Author:
    return Author(monkeypatch)


def write(
    author: Author, model: Gemma4, processor: Processor, text: str, **options: Any
) -> list[Chunk]:
    """The chunks of an answer that reads `text`, special tokens included."""
    author.answer = processor.tokenizer.encode(text)
    return list(stream_generate(model, processor, HI, **options))


def shown(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def naive(model: Gemma4, prompt: list[int], count: int) -> list[int]:
    """Greedy tokens by full forward passes, without a cache."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(tiny.logits(model, tokens)[-1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.slow
@pytest.mark.parametrize("prefill_step", [1, 3, 7, 1000])
def test_greedy_tokens_are_those_of_full_forwards(
    model: Gemma4, processor: Processor, prefill_step: int
) -> None:
    prompt = tiny.random_tokens(23, 5, vocab=300)
    chunks = list(
        stream_generate(
            model,
            processor,
            tokens=prompt,
            max_tokens=20,
            temperature=0,
            prefill_step=prefill_step,
        )
    )
    tokens = [chunk.token for chunk in chunks]
    assert tokens == naive(model, prompt, 20)[: len(tokens)]
    assert len(tokens) == 20 or tokens[-1] in processor.generation.stop_tokens


def test_messages_are_rendered_and_encoded(model: Gemma4, processor: Processor) -> None:
    inputs = processor(HI)
    prompt: Any = inputs.tokens[0].tolist()
    response = generate(model, processor, HI, max_tokens=5)
    raw = generate(model, processor, tokens=prompt, max_tokens=5)
    assert response.tokens == raw.tokens == naive(model, prompt, 5)
    assert response.stats and response.stats.prompt_tokens == len(prompt)


def test_one_chunk_per_token_the_stop_token_included(
    author: Author, model: Gemma4, processor: Processor
) -> None:
    chunks = write(author, model, processor, "hello, world!<turn|>")
    assert [chunk.token for chunk in chunks] == author.answer
    assert shown(chunks) == "hello, world!"
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert all(chunk.stats is None for chunk in chunks[:-1])
    assert chunks[-1].finish_reason == "stop" and chunks[-1].text == ""


def test_every_stop_token_ends(
    author: Author, model: Gemma4, processor: Processor
) -> None:
    assert shown(write(author, model, processor, "a<eos>b<turn|>")) == "a"


def test_generate_joins_the_chunks(
    author: Author, model: Gemma4, processor: Processor
) -> None:
    author.answer = processor.tokenizer.encode(
        f"<|channel>thought\nhm<channel|>so{CALL}<turn|>"
    )
    response = generate(model, processor, HI)
    assert (response.thought, response.text) == ("hm", "so")
    assert [(c.name, c.arguments) for c in response.tool_calls] == [("add", {"a": "x"})]
    assert response.tokens == author.answer
    assert response.finish_reason == "tool_calls"
    assert response.stats and response.stats.completion_tokens == len(author.answer)


def test_a_call_is_given_where_it_ends(
    author: Author, model: Gemma4, processor: Processor
) -> None:
    chunks = write(author, model, processor, f"{CALL}<turn|>")
    marks = [i for i, chunk in enumerate(chunks) if chunk.tool_calls]
    assert marks == [len(chunks) - 2]
    assert shown(chunks) == ""


def test_a_call_closed_by_the_stop_token(
    author: Author, model: Gemma4, processor: Processor
) -> None:
    chunks = write(
        author, model, processor, CALL.removesuffix("<tool_call|>") + "<turn|>"
    )
    assert [call.name for call in chunks[-1].tool_calls] == ["add"]
    assert chunks[-1].finish_reason == "tool_calls"


def test_a_prompt_that_opens_a_thought(
    author: Author, model: Gemma4, processor: Processor
) -> None:
    chunks = write(author, model, processor, "hm<channel|>so<turn|>", thinking=True)
    assert shown(chunks) == "so"
    assert "".join(chunk.thought for chunk in chunks) == "hm"


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (["wor"], "hello, "),  # within several tokens
        (["o, w"], "hell"),  # from the middle of a token
        (["!", "world"], "hello, "),  # the first to come
        (["world!"], "hello, "),
        (["nowhere"], "hello, world!"),
        (["worldly"], "hello, world!"),  # begun and not finished
    ],
)
def test_stop_strings(
    author: Author, model: Gemma4, processor: Processor, stop: list[str], text: str
) -> None:
    chunks = write(author, model, processor, "hello, world!<turn|>", stop=stop)
    assert shown(chunks) == text
    assert chunks[-1].finish_reason == "stop" and chunks[-1].stats
    ended = chunks[-1].token == author.answer[-1]
    assert ended == (text == "hello, world!" or stop == ["world!"] and ended)


def test_a_stop_string_at_the_limit(
    author: Author, model: Gemma4, processor: Processor
) -> None:
    """Held back because a longer one might come, and known only when none can."""
    options: dict[str, Any] = {"stop": ["lo", "lo wa"], "max_tokens": 2}
    chunks = write(author, model, processor, "hello world!<turn|>", **options)
    assert processor.tokenizer.decode(author.answer[:2]) == "hello w"
    assert shown(chunks) == "hel"
    assert chunks[-1].finish_reason == "stop"


def test_a_thought_is_not_searched_for_stop_strings(
    author: Author, model: Gemma4, processor: Processor
) -> None:
    text = "<|channel>thought\nend<channel|>so<turn|>"
    assert shown(write(author, model, processor, text, stop=["end"])) == "so"


def test_max_tokens(author: Author, model: Gemma4, processor: Processor) -> None:
    chunks = write(author, model, processor, "hello, world!<turn|>", max_tokens=3)
    assert len(chunks) == 3
    assert chunks[-1].finish_reason == "length" and chunks[-1].stats


def test_the_end_of_the_context(
    author: Author, model: Gemma4, processor: Processor
) -> None:
    author.answer = processor.tokenizer.encode("a" * 99)
    prompt = tiny.random_tokens(CONTEXT - 7, 1, vocab=300)
    for most in (None, 50):
        response = generate(model, processor, tokens=prompt, max_tokens=most)
        assert (len(response.tokens), response.finish_reason) == (7, "length")


@pytest.mark.parametrize("text", ["größe", "漢字漢", "😀 ok"])
def test_a_character_over_several_tokens(
    author: Author, model: Gemma4, processor: Processor, text: str
) -> None:
    chunks = write(author, model, processor, text + "<turn|>")
    assert len(chunks) > len(text) + 1
    assert shown(chunks) == text
    assert all("\ufffd" not in chunk.text for chunk in chunks)


def test_a_character_cut_off_by_the_limit_is_marked(
    author: Author, model: Gemma4, processor: Processor
) -> None:
    chunks = write(author, model, processor, "a漢", max_tokens=3)
    assert shown(chunks) == "a\ufffd\ufffd"


def test_statistics(author: Author, model: Gemma4, processor: Processor) -> None:
    stats = write(author, model, processor, "hello<turn|>", seed=3)[-1].stats
    assert stats is not None
    assert stats.prompt_tokens == processor(HI).tokens.size
    assert stats.cached_tokens == 0
    assert stats.completion_tokens == len(author.answer)
    assert stats.prefill_seconds == stats.time_to_first_token > 0
    assert stats.decode_seconds > 0 and stats.peak_memory > 0


def test_rates() -> None:
    stats = Stats(100, 40, 0, 11, prefill_seconds=2.0, decode_seconds=4.0)
    assert (stats.prefill_tps, stats.decode_tps) == (30.0, 2.5)
    assert (Stats(9, 0, 0).prefill_tps, Stats(9, 0, 0).decode_tps) == (0, 0)


@pytest.mark.slow
def test_the_seed_is_reported_and_repeats(model: Gemma4, processor: Processor) -> None:
    options: dict[str, Any] = {"temperature": 5.0, "top_k": 0, "max_tokens": 12}
    first = generate(model, processor, HI, **options)
    assert first.stats
    again = generate(model, processor, HI, seed=first.stats.seed, **options)
    assert again.tokens == first.tokens
    assert generate(model, processor, HI, **options).tokens != first.tokens


@pytest.mark.slow
def test_unset_values_are_the_checkpoint_s(
    model: Gemma4, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy = generate(model, processor, HI, max_tokens=8).tokens
    assert greedy == naive(model, processor(HI).tokens[0].tolist(), 8)  # type: ignore
    stops = processor.generation.stop_tokens
    warm = GenerationDefaults(Sampling(9.0, top_p=1.0, top_k=0), stops)
    monkeypatch.setattr(processor, "generation", warm)
    drawn = generate(model, processor, HI, max_tokens=8, seed=1).tokens
    assert drawn != greedy
    one: dict[str, Any] = {"top_k": 1, "max_tokens": 8}
    assert generate(model, processor, HI, **one).tokens == greedy
    one = {"temperature": 0.0, "max_tokens": 8}
    assert generate(model, processor, HI, **one).tokens == greedy


def test_the_penalty_reaches_the_sampler(model: Gemma4, processor: Processor) -> None:
    """So strong that no token of prompt and answer comes again."""
    prompt = tiny.random_tokens(20, 3, vocab=300)
    response = generate(
        model, processor, tokens=prompt, max_tokens=30, repetition_penalty=1e6
    )
    seen = [*prompt, *response.tokens]
    assert len(set(response.tokens)) == len(response.tokens)
    assert len(set(seen)) == len(set(prompt)) + len(response.tokens)


def test_suppressed_tokens_are_never_written(
    model: Gemma4, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the stop tokens, if they are among them; greedily the next best is taken."""
    free = generate(model, processor, HI, max_tokens=8).tokens
    defaults = processor.generation
    never = (*free, *defaults.stop_tokens)
    monkeypatch.setattr(
        processor, "generation", replace(defaults, suppress_tokens=never)
    )
    prompt: Any = processor(HI).tokens[0].tolist()
    scores = tiny.logits(model, prompt)[-1]
    scores[list(never)] = -np.inf
    assert generate(model, processor, HI, max_tokens=1).tokens == [scores.argmax()]
    for temperature in (0.0, 9.0):
        options = {"temperature": temperature, "top_k": 0, "seed": 5, "max_tokens": 8}
        found = generate(model, processor, HI, **options).tokens
        assert len(found) == 8 and not set(found) & set(never)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "either messages or tokens"),
    ({"messages": HI, "tokens": [5]}, "either messages or tokens"),
    ({"messages": []}, "conversation is empty"),
    ({"tokens": []}, "tokens is empty"),
    ({"tokens": [5, 320]}, r"Token 320 .* \(0 to 319\)"),
    ({"tokens": [-1, 5]}, "Token -1"),
    ({"tokens": [5] * CONTEXT}, f"has {CONTEXT} tokens; .* at most {CONTEXT - 1}"),
    ({"messages": [{"role": "user", "content": "a" * 60}]}, "at most"),
    ({"messages": HI, "max_tokens": 0}, "max_tokens is 0"),
    ({"messages": HI, "prefill_step": 0}, "prefill_step is 0"),
    ({"messages": HI, "temperature": -1.0}, "temperature is -1.0"),
    ({"messages": HI, "top_p": 2.0}, "top_p is 2.0"),
    ({"messages": HI, "seed": -3}, "seed is -3"),
    ({"messages": HI, "stop": [""]}, "stop string"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_refusals_come_before_anything_is_computed(
    model: Gemma4,
    processor: Processor,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(Gemma4, "__call__", lambda *_, **__: pytest.fail("computed"))
    prefix = PrefixCache(model)
    with pytest.raises(ChatError, match=message):
        stream_generate(model, processor, prefix=prefix, **options)
    assert prefix.tokens == [] and prefix.cache[0].offset == 0


def test_the_longest_prompt_is_taken(model: Gemma4, processor: Processor) -> None:
    prompt = tiny.random_tokens(CONTEXT - 1, 1, vocab=300)
    assert len(generate(model, processor, tokens=prompt).tokens) == 1


@pytest.mark.slow
@pytest.mark.parametrize("taken", [1, 2, 9])
def test_a_closed_generator_leaves_an_exact_prefix(
    model: Gemma4, processor: Processor, taken: int
) -> None:
    prefix = PrefixCache(model)
    prompt = tiny.random_tokens(18, 2, vocab=300)
    stream: Any = stream_generate(model, processor, tokens=prompt, prefix=prefix)
    tokens = [next(stream).token for _ in range(taken)]
    stream.close()
    assert prefix.tokens == prompt + tokens
    longer = [*prompt, *tokens, 7, 8]
    ours = generate(model, processor, tokens=longer, prefix=prefix, max_tokens=8)
    assert ours.tokens == naive(model, longer, 8)[: len(ours.tokens)]
    assert ours.stats and ours.stats.cached_tokens == len(prompt) + taken


@pytest.mark.slow
@pytest.mark.parametrize("layer", [0, 2])
def test_an_exception_within_the_model_costs_a_new_reading(
    model: Gemma4, processor: Processor, monkeypatch: pytest.MonkeyPatch, layer: int
) -> None:
    """As a second Ctrl-C does it: some layers have read the token, others have not."""
    prefix = PrefixCache(model)
    prompt = tiny.random_tokens(18, 2, vocab=300)
    stream: Any = stream_generate(model, processor, tokens=prompt, prefix=prefix)
    first = [next(stream).token, next(stream).token]
    kind = type(prefix.cache[layer])
    with monkeypatch.context() as patch:
        patch.setattr(kind, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(stream)
    longer = [*prompt, *first, 7]
    ours = generate(model, processor, tokens=longer, prefix=prefix, max_tokens=8)
    assert ours.tokens == naive(model, longer, 8)[: len(ours.tokens)]
    # Before the first layer nothing has happened yet, and all can stay.
    assert ours.stats and ours.stats.cached_tokens == (0 if layer else len(longer) - 1)


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_thinking_with_the_demo_model(demo_folder: Path) -> None:
    """Whatever it answers: raw and split output agree, and no mark is left in it."""
    model, processor = load(demo_folder, dtype=mx.float32)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    assert "<|think|>" in processor(question, thinking=True).text
    for thinking in (False, True):
        response = generate(
            model, processor, question, thinking=thinking, max_tokens=40
        )
        prompt: Any = processor(question, thinking=thinking).tokens[0].tolist()
        raw = generate(model, processor, tokens=prompt, max_tokens=40)
        assert (response.tokens, response.text) == (raw.tokens, raw.text)
        for part in (response.text, response.thought):
            assert not any(mark in part for mark in processor.tokenizer.special_tokens)
            assert part in processor.tokenizer.decode(response.tokens)

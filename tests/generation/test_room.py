"""Memory of an answer: told before, and survived where it runs out."""

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest
import videos
from pictures import png

from mlx_gemma4 import Chat, PrefixCache, generate, load, stream_generate
from mlx_gemma4.decoding.prefill import step_for
from mlx_gemma4.errors import ChatError, ContextError, MediaError, RoomError
from mlx_gemma4.generation import loop, room
from mlx_gemma4.model import Gemma4
from mlx_gemma4.prompt.processor import Processor
from mlx_gemma4.vision import images, video

Loaded = tuple[Gemma4, Processor]


@pytest.fixture(scope="module")
def demo(demo_folder: Path) -> Loaded:
    return load(demo_folder)


def limit_to(context: int, model: Gemma4, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets memory hold a context of so many tokens, and hardly more."""
    needed = room.demand_of(model, step_for(model)).at(context).total
    monkeypatch.setattr(room, "memory_limit", lambda: needed)


def test_a_prompt_that_does_not_fit_is_not_read(
    demo: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = demo
    limit_to(300, model, monkeypatch)
    monkeypatch.setattr(Gemma4, "hidden", lambda *_, **__: pytest.fail("computed"))
    with pytest.raises(RoomError, match=r"prompt of 3,000 tokens needs .* tokens fit"):
        stream_generate(model, processor, tokens=[5] * 3000)


def test_media_of_a_prompt_that_does_not_fit_are_not_read(
    demo: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = demo
    limit_to(300, model, monkeypatch)
    picture = {"type": "image", "path": "no/such.png"}
    for words, error in (("word " * 3000, RoomError), ("word", MediaError)):
        content = [picture, {"type": "text", "text": words}]
        with pytest.raises(error):
            stream_generate(model, processor, [{"role": "user", "content": content}])


def test_media_of_a_prompt_that_is_too_long_are_not_read(demo: Loaded) -> None:
    text = {"type": "text", "text": "word " * 5000}
    content = [{"type": "image", "path": "no/such.png"}, text]
    with pytest.raises(ContextError, match="may have at most 4,095. Shorten it or"):
        stream_generate(*demo, [{"role": "user", "content": content}])


def test_an_answer_ends_where_memory_does(
    demo: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = demo
    limit_to(40, model, monkeypatch)
    fit = room.context_for(model, room.demand_of(model, step_for(model)), None, 30)
    assert 40 <= fit < model.config.text_config.max_position_embeddings
    least = fit - 30
    answer = generate(model, processor, tokens=[5] * (fit - 3), stop_loops=False)
    assert len(answer.tokens) == 3 <= least and answer.finish_reason == "length"


def test_max_context(demo: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = demo
    with pytest.raises(
        ContextError, match="has 30 tokens; it may have at most 29 where --max"
    ):
        stream_generate(model, processor, tokens=[5] * 30, max_context=30)
    with pytest.raises(ChatError, match="max_context is 0"):
        stream_generate(model, processor, tokens=[5], max_context=0)
    limit_to(300, model, monkeypatch)
    with pytest.raises(RoomError, match=r"A context of 3,000 tokens needs"):
        stream_generate(model, processor, tokens=[5], max_context=3000)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[metal::malloc] Attempting to allocate 9 bytes"),
        RuntimeError("[METAL] Command buffer failed: Insufficient Memory (0000000e)"),
        RuntimeError("cudaMallocAsync(&data, size) failed: out of memory"),
        MemoryError("std::bad_alloc"),
    ],
)
def test_memory_that_runs_out_ends_the_turn(
    error: Exception, demo: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = demo
    prefix, hidden = PrefixCache(model), Gemma4.hidden
    whole = generate(model, processor, "Hi", max_tokens=4, temperature=0)
    generate(model, processor, "Hi", max_tokens=4, temperature=0, prefix=prefix)
    assert prefix.tokens

    def fail(*_: object, **__: object) -> mx.array:
        raise error

    monkeypatch.setattr(Gemma4, "hidden", fail)
    with pytest.raises(RoomError, match="ran out"):
        generate(model, processor, "What is this?", prefix=prefix)
    assert not prefix.tokens
    monkeypatch.setattr(Gemma4, "hidden", hidden)
    again = generate(model, processor, "Hi", max_tokens=4, temperature=0, prefix=prefix)
    assert again.tokens == whole.tokens


def test_other_errors_stay_what_they_are(
    demo: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Iterator[object]:
        raise RuntimeError("something else")
        yield

    monkeypatch.setattr(loop, "run", fail)
    with pytest.raises(RuntimeError, match="something else"):
        generate(*demo, "Hi")


@pytest.fixture
def decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """None may be called."""
    for place in ("loaded", "image_patches"):
        monkeypatch.setattr(images, place, lambda *_, **__: pytest.fail("decoded"))
    monkeypatch.setattr(video, "_decoded", lambda *_: pytest.fail("decoded"))


def test_media_that_do_not_fit_are_not_decoded(
    demo: Loaded, decoders: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, processor = demo
    limit_to(300, model, monkeypatch)
    (tmp_path / "a.png").write_bytes(png(300, 300))
    part = {"type": "image", "path": str(tmp_path / "a.png")}
    content = [*[part] * 20, {"type": "text", "text": "What is it?"}]
    told = r"prompt of .* \(.*a\.png takes about .* media .*Use fewer pictures or a sm"
    with pytest.raises(RoomError, match=told):
        stream_generate(model, processor, [{"role": "user", "content": content}])
    chat = Chat(model, processor)
    with pytest.raises(RoomError, match=told):
        chat.ask("What is it?", images=[str(tmp_path / "a.png")] * 20)
    assert not chat.messages


def test_a_film_that_does_not_fit_is_not_decoded(
    demo: Loaded, decoders: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, processor = demo
    limit_to(300, model, monkeypatch)
    film = videos.video("mp4", tmp_path / "film.mp4")
    part = {"type": "video", "path": str(film), "num_frames": 50}
    with pytest.raises(RoomError, match=r"film\.mp4 takes about .*fewer frames"):
        stream_generate(model, processor, [{"role": "user", "content": [part]}])


def test_more_context_than_the_model_reads(demo: Loaded) -> None:
    own = demo[0].config.text_config.max_position_embeddings
    with pytest.raises(ChatError, match=f"reads at most {own:,} tokens"):
        generate(*demo, "Hi", max_context=own + 1)
    assert generate(*demo, "Hi", max_context=own, max_tokens=1).tokens

"""Media parts become exactly as many placeholders as the model has soft tokens."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_media
from PIL import Image

from mlx_gemma4.config import Config
from mlx_gemma4.errors import ChatError, CheckpointError, MediaError
from mlx_gemma4.media import content_keys
from mlx_gemma4.prompt.attachments import IMAGE_TOKENS, MediaSettings
from mlx_gemma4.prompt.processor import Inputs, Processor

TABLE = 48  # places of the tiny position table, in patches
SHAPES = [(64, 64), (160, 90), (90, 160), (200, 40), (500, 20)]
TEXT = {"type": "text", "text": "What is this?"}


@pytest.fixture
def processor(media_processor: Processor) -> Processor:
    return media_processor


def image(width: int, height: int) -> dict[str, Any]:
    return {"type": "image", "image": Image.new("RGB", (width, height), "red")}


def sound(samples: int) -> dict[str, Any]:
    wave = np.sin(np.arange(samples, dtype=np.float32) / 9)
    return {"type": "audio", "audio": (wave, 16_000)}


def read(processor: Processor, *parts: dict[str, Any], **options: Any) -> Inputs:
    return processor([{"role": "user", "content": [*parts, TEXT]}], **options)


def counts(processor: Processor, inputs: Inputs) -> dict[str, int]:
    """Placeholders of each kind; none of them may lack its soft token."""
    tokens: Any = inputs.tokens[0].tolist()
    config = processor.config
    ids = {kind: getattr(config, f"{kind}_token_id") for kind in ("image", "video")}
    ids["audio"] = config.audio_token_id
    return {kind: tokens.count(token) for kind, token in ids.items()}


def keys(inputs: Inputs) -> list[int]:
    """The tokens, with a number for the content of each medium."""
    tokens: Any = inputs.tokens[0].tolist()
    return content_keys(tokens, inputs.spans)


@pytest.mark.parametrize("budget", IMAGE_TOKENS)
@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_a_picture_has_its_soft_tokens(
    processor: Processor, width: int, height: int, budget: int
) -> None:
    """Or is refused where the model has no places for it."""
    area = (budget * 9 * width / height) ** 0.5, (budget * 9 * height / width) ** 0.5
    longest = max(area) // 3 * 3
    if longest > TABLE:
        with pytest.raises(MediaError, match=f"has places for {TABLE}. Use a smaller"):
            read(processor, image(width, height), image_tokens=budget)
        return
    inputs = read(processor, image(width, height), image_tokens=budget)
    assert inputs.media is not None
    ((pixels, positions),) = inputs.media.images
    found = counts(processor, inputs)
    assert found == {"image": len(pixels) // 9, "video": 0, "audio": 0}
    assert len(positions) == len(pixels) and 0.7 * budget < found["image"] <= budget
    assert "<|image>" + "<|image|>" * found["image"] + "<image|>" in inputs.text


def test_the_checkpoint_s_own_budget_holds_unless_told(processor: Processor) -> None:
    assert counts(processor, read(processor, image(64, 48)))["image"] == 12


@pytest.mark.parametrize("samples", [321, 640, 1601, 16_000, 100_003, 480_000])
def test_a_recording_has_its_soft_tokens(processor: Processor, samples: int) -> None:
    inputs = read(processor, sound(samples))
    assert inputs.media is not None
    ((_, mask),) = inputs.media.audio
    frames = int(np.array(mask).sum())
    count = counts(processor, inputs)["audio"]
    assert count == -(-frames // 4) and abs(count - samples / 640) < 2
    assert f"<|audio>{'<|audio|>' * count}<audio|>" in inputs.text


def test_what_is_too_long_is_refused_and_never_cut(processor: Processor) -> None:
    with pytest.raises(MediaError, match="lasts 30.0 s .* at most 30 s"):
        read(processor, sound(480_001))


def test_a_video_s_frames_have_their_times(processor: Processor) -> None:
    frames = [Image.new("RGB", (24, 36), color) for color in ("red", "blue", "green")]
    inputs = read(processor, {"type": "video", "video": frames, "fps": 0.02})
    frame = "<|image>" + "<|video|>" * 6 + "<image|>"
    assert f"00:00 {frame} 00:50 {frame} 01:40 {frame}" in inputs.text
    assert inputs.media is not None and len(inputs.media.frames) == 3
    assert counts(processor, inputs) == {"image": 0, "video": 18, "audio": 0}


def test_more_media_than_the_model_reads(tmp_path: Path) -> None:
    """Refused at the first that is too much, whatever would follow."""
    tiny_media.write_checkpoint(tmp_path, max_position_embeddings=20)
    config = Config.from_file(tmp_path / "config.json")
    processor = Processor.from_folder(tmp_path, config)
    frames = [Image.new("RGB", (24, 36))] * 3
    assert read(processor, {"type": "video", "video": frames}).media is not None
    with pytest.raises(MediaError, match="more than the 20 tokens .* fewer frames"):
        read(processor, {"type": "video", "video": [*frames, frames[0], b"no picture"]})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"image_processor": {"max_soft_tokens": "280"}}, "max_soft_tokens is '280'"),
        ({"video_processor": {"max_soft_tokens": 0}}, "video_processor.* is 0, not"),
        ({"video_processor": {"num_frames": 2.5}}, "num_frames is 2.5"),
        ({"image_processor": [1]}, r"image_processor is \[1\], not an object"),
    ],
)
def test_senseless_settings_are_named(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    tiny_media.write_checkpoint(tmp_path)
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=f"processor_config.json: .*{told}"):
        Processor.from_folder(tmp_path, Config.from_file(tmp_path / "config.json"))


@pytest.mark.parametrize("settings", [{}, {"image_processor": {"do_resize": True}}])
def test_settings_that_are_not_stated(tmp_path: Path, settings: dict[str, Any]) -> None:
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    found = MediaSettings.from_file(tmp_path / "processor_config.json")
    assert (found.image_tokens, found.frame_tokens, found.frames) == (280, 70, 32)


def test_several_media_keep_their_order(processor: Processor) -> None:
    messages = [
        {"role": "user", "content": [image(12, 12), sound(700), TEXT, image(90, 12)]},
        {"role": "assistant", "content": "Red."},
        {"role": "user", "content": [sound(9000), image(24, 96)]},
    ]
    inputs = processor(messages)
    media, text = inputs.media, inputs.text
    assert media is not None
    widths = [np.array(positions)[:, 0].max() + 1 for _, positions in media.images]
    assert widths[1] > widths[0] > widths[2]
    assert [len(mask) for _, mask in media.audio] == sorted(
        len(mask) for _, mask in media.audio
    )
    marks = [text.find(f"<|{kind}>") for kind in ("image", "audio")]
    assert 0 < marks[0] < marks[1] < text.index("What is this?")
    assert text.rindex("<|image>") > text.rindex("<|audio>") > text.index("Red.")


def test_every_medium_is_found_among_the_tokens(processor: Processor) -> None:
    """In order, whole, with the frames of a video one by one; also where the prompt
    begins as ids do that were not encoded so."""
    frames = {"type": "video", "video": [Image.new("RGB", (24, 36), "red")] * 2}
    content = [TEXT, image(50, 40), sound(900), frames, image(24, 96), TEXT]
    messages = [{"role": "user", "content": content}]
    encode = processor.tokenizer.encode
    usual = processor(messages)
    start = usual.text[: usual.text.index("<|image>")]
    letters = [token for letter in start[-13:] for token in encode(letter)]
    cached = encode(start[:-13]) + letters
    later = processor(messages, cached=cached)
    assert later.tokens.size > usual.tokens.size
    for inputs in (usual, later):
        tokens: Any = inputs.tokens[0].tolist()
        found = [
            (span.kind, len(set(tokens[span.start : span.end])), tokens[span.start])
            for span in inputs.spans
        ]
        ids = {
            k: getattr(processor.config, f"{k}_token_id") for k in ("image", "audio")
        }
        ids["video"] = processor.config.video_token_id
        kinds = ["image", "audio", "video", "video", "image"]
        assert found == [(kind, 1, ids[kind]) for kind in kinds]
        inside = sum(span.end - span.start for span in inputs.spans)
        assert inside == sum(tokens.count(token) for token in ids.values())
        assert len({key for key in keys(inputs) if key < 0}) == 4  # two equal frames


def test_a_medium_is_told_apart_by_its_content_and_hashed_once(
    processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = {"type": "audio", "audio": processor.prepare(sound(900))}
    first = keys(read(processor, part))
    monkeypatch.setattr("mlx_gemma4.media._digest", None)
    assert keys(read(processor, part, TEXT))[: len(first) - 9] == first[:-9]
    monkeypatch.undo()
    assert (
        keys(read(processor, sound(901))) != first == keys(read(processor, sound(900)))
    )


@pytest.mark.parametrize("mark", ["<|image|>", "<|audio|>", "<|video|>"])
def test_a_mark_in_a_text_is_text(processor: Processor, mark: str) -> None:
    see = {"type": "text", "text": f"see {mark}"}
    for parts in ((), (image(24, 24),)):
        plain, quoting = read(processor, *parts), read(processor, *parts, see)
        assert counts(processor, quoting) == counts(processor, plain)
        assert f"see {mark}" in quoting.text
        with pytest.raises(ChatError, match="none of these may stand in a text"):
            read(processor, *parts, see, control_tokens=True)


def test_a_size_that_is_not_in_the_list(processor: Processor) -> None:
    with pytest.raises(MediaError, match="image_tokens is 71; it can be 70, 140, 280"):
        read(processor, image(9, 9), image_tokens=71)


def test_a_part_without_its_medium_is_named(processor: Processor) -> None:
    with pytest.raises(MediaError, match=r"messages\[0\].*'image' or 'path'"):
        read(processor, {"type": "image"})
    with pytest.raises(MediaError, match="There is no picture nowhere.png"):
        read(processor, {"type": "image", "path": "nowhere.png"})


@pytest.mark.parametrize("kind", ["image", "audio", "video"])
def test_a_prepared_medium_stands_for_its_source(
    processor: Processor, kind: str
) -> None:
    frames = {"type": "video", "video": [Image.new("RGB", (24, 36), "red")] * 2}
    part = {"image": image(50, 40), "audio": sound(900), "video": frames}[kind]
    prepared = {"type": kind, kind: processor.prepare(part), "path": "gone"}
    direct, later = read(processor, part, part), read(processor, part, prepared)
    assert direct.text == later.text
    assert keys(direct) == keys(later)


def test_a_prepared_picture_keeps_its_budget(processor: Processor) -> None:
    small = processor.prepare(image(64, 64))
    part = {"type": "image", "image": small}
    found = counts(processor, read(processor, part, image_tokens=70))["image"]
    assert found == 9  # 3 x 3 within the 12 of the checkpoint's own setting


def test_what_cannot_be_prepared_says_why(processor: Processor) -> None:
    with pytest.raises(MediaError, match="type 'text' holds no medium"):
        processor.prepare(TEXT)
    part = {"type": "audio", "audio": processor.prepare(image(9, 9))}
    with pytest.raises(MediaError, match="type 'audio' holds a prepared image"):
        read(processor, part)


def test_a_config_without_token_ids(tmp_path: Path) -> None:
    tiny_media.write_checkpoint(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_token_id": None}))
    processor = Processor.from_folder(tmp_path, Config.from_file(path))
    with pytest.raises(MediaError, match="states no image_token_id"):
        read(processor, image(9, 9))

"""From a folder and messages to token ids, defaults and clear refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizer import write_json, write_tokenizer

from mlx_gemma4.config import Config
from mlx_gemma4.config.reading import TOKEN_IDS
from mlx_gemma4.errors import ChatError, CheckpointError, MediaError
from mlx_gemma4.prompt.processor import GenerationDefaults, Processor
from mlx_gemma4.sampling import Sampling

HI = [{"role": "user", "content": "hello"}]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|turn>{{ m.role }}\n"
    "{{ m.content if m.content is string else m.content[0].text }}<turn|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn>model\n"
    "{% if enable_thinking %}<|channel>thought\n{% endif %}{% endif %}"
)


@pytest.fixture
def config(demo_folder: Path) -> Config:
    """The demo's, but for the ids of media: the tiny tokenizer has few of the marks."""
    config = Config.from_file(demo_folder / "config.json")
    return replace(config, eos_token_id=(1,), **dict.fromkeys(TOKEN_IDS))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    return write_tokenizer(tmp_path)


def test_messages_become_ids(folder: Path, config: Config):
    processor = Processor.from_folder(folder, config)
    inputs = processor(HI)
    assert inputs.text == "<bos><|turn>user\nhello<turn|>\n<|turn>model\n"
    assert inputs.tokens.tolist() == [processor.tokenizer.encode(inputs.text)]
    assert inputs.media is None


def test_without_a_generation_prompt(folder: Path, config: Config):
    inputs = Processor.from_folder(folder, config)(HI, add_generation_prompt=False)
    assert inputs.text.endswith("hello<turn|>\n")


@pytest.mark.parametrize("kind", ["image", "audio", "video", "image_url"])
def test_media_are_refused_where_there_is_no_tower(
    demo_folder: Path, config: Config, kind: str
):
    """Before the file is looked for."""
    parts = [{"type": "text", "text": "what?"}, {"type": kind, "path": "a"}]
    messages = [*HI, {"role": "user", "content": parts}]
    words = "cannot hear" if kind == "audio" else "cannot see"
    text_only = replace(config, vision_config=None, audio_config=None)
    with pytest.raises(MediaError, match=words):
        Processor.from_folder(demo_folder, text_only)(messages)


def test_a_placeholder_without_a_file_is_refused(folder: Path, config: Config):
    messages = [{"role": "user", "content": "what is <|image|>?"}]
    processor = Processor.from_folder(folder, config)
    with pytest.raises(
        ChatError, match=r"has 1 <\|image\|>, but the messages hold no medium"
    ):
        processor(messages, control_tokens=True)
    assert "what is <|image|>?" in processor(messages).text


def test_an_unknown_picture_size_is_refused(folder: Path, config: Config):
    with pytest.raises(MediaError, match="image_tokens is 100; it can be 70, 140"):
        Processor.from_folder(folder, config)(HI, image_tokens=100)


def test_a_checkpoint_without_template_still_encodes(folder: Path, config: Config):
    (folder / "chat_template.jinja").unlink()
    processor = Processor.from_folder(folder, config)
    assert processor.template is None
    assert len(processor.tokenizer.encode("hello")) == 1
    with pytest.raises(ChatError, match="no chat template: pass tokens"):
        processor(HI)


def test_a_processor_is_shown_in_a_line(folder: Path, config: Config):
    """With the row count of its tables."""
    rows = f"{config.text_config.token_rows:,}"
    assert repr(Processor.from_folder(folder, config)) == f"<Processor: {rows} tokens>"
    (folder / "chat_template.jinja").unlink()
    shown = f"<Processor: {rows} tokens, without a chat template>"
    assert repr(Processor.from_folder(folder, config)) == shown


def test_going_on_from_generated_ids(folder: Path, config: Config):
    processor = Processor.from_folder(folder, config)
    encode = processor.tokenizer.encode
    cached = encode("<bos><|turn>user\n") + encode("he") + encode("llo")
    inputs = processor(HI, cached=cached)
    rest = encode("<turn|>\n<|turn>model\n")
    assert inputs.tokens.tolist() == [cached + rest] != processor(HI).tokens.tolist()


def defaults(folder: Path, config: Config, stated: Any) -> GenerationDefaults:
    write_json(folder / "generation_config.json", stated)
    return Processor.from_folder(folder, config).generation


def test_defaults_without_a_generation_config(folder: Path, config: Config):
    generation = Processor.from_folder(folder, config).generation
    # <eos>, <turn|> and <|tool_response> of the tiny tokenizer
    assert generation == GenerationDefaults(stop_tokens=(1, 5, 10))


def test_stop_tokens_come_from_every_source(folder: Path, config: Config):
    config = replace(config, eos_token_id=(20, 1))
    for eos, expected in [(30, 30), ([30, 5], 30), (None, 20), ([], 20)]:
        stop = defaults(folder, config, {"eos_token_id": eos}).stop_tokens
        assert set(stop) == {1, 5, 10, 20, expected}


def test_sampling_defaults_are_the_checkpoints(folder: Path, config: Config):
    stated = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "do_sample": True}
    own = Sampling(0.7, 0.9, 40)
    assert defaults(folder, config, stated) == GenerationDefaults(own, (1, 5, 10))
    greedy = defaults(folder, config, {**stated, "do_sample": False, "top_k": 40.0})
    assert greedy.sampling == replace(own, temperature=0)


@pytest.mark.parametrize(
    "stated",
    [
        {"temperature": -1},
        {"temperature": "warm"},
        {"top_p": 1.5},
        {"top_p": 0},
        {"top_p": 0, "do_sample": False},
        {"top_k": 2.5},
        {"top_k": 10**30},
        {"temperature": float("nan")},
        {"min_p": 1},
        {"repetition_penalty": 0},
        {"do_sample": "false"},
        {"top_p": True},
        {"top_k": -2},
        {"eos_token_id": "1"},
        {"eos_token_id": [1, None]},
        {"eos_token_id": -1},
        [],
    ],
)
def test_impossible_values_are_named(folder: Path, config: Config, stated: Any):
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        defaults(folder, config, stated)


def test_min_p_and_the_repetition_penalty_are_honoured(folder: Path, config: Config):
    stated = {"min_p": 0.05, "repetition_penalty": 1.1}
    found = defaults(folder, config, stated).sampling
    assert found.seed is None and (found.min_p, found.repetition_penalty) == (0.05, 1.1)


@pytest.mark.parametrize("file", ["generation_config.json", "tokenizer_config.json"])
def test_json_that_nests_too_deeply_is_named(folder: Path, config: Config, file: str):
    (folder / file).write_text("[" * 200_000)
    with pytest.raises(CheckpointError, match=f"{file}.*nests too deeply"):
        Processor.from_folder(folder, config)


def test_the_demo_reads_a_conversation(demo_folder: Path):
    config = Config.from_file(demo_folder / "config.json")
    processor = Processor.from_folder(demo_folder, config)
    assert processor.template is not None and processor.template.stale is None
    text = processor([{"role": "user", "content": "Where is Rome?"}]).text
    special = processor.tokenizer.special_tokens
    tokens = processor.tokenizer.encode(text)
    assert tokens[:2] == [special["<bos>"], special["<|turn>"]]
    assert processor.tokenizer.decode(tokens) == text
    assert special["<turn|>"] in processor.generation.stop_tokens

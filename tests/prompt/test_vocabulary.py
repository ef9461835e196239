"""Ids of a checkpoint's files and the tables that they are looked up in.

An id behind a table reads foreign memory: all are refused before a weight is read, and
the last row of a table is not.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jobs
import mlx.core as mx
import pytest
import tiny
import tiny_media
from PIL import Image
from tiny_tokenizer import tokenizer_json, write_json

from mlx_gemma4 import Config, Processor, generate, load
from mlx_gemma4.checkpoint.load import load_model
from mlx_gemma4.convert.check import compare, verify
from mlx_gemma4.errors import ChatError, CheckpointError
from mlx_gemma4.prompt.vocabulary import MarksWarning, check_tokens

TOKENS = len(tokenizer_json()["model"]["vocab"])
ROWS = TOKENS + 3
# Rows of the embeddings and of the per-layer table, if there is one; and the key of the
# shorter of them.
TABLES = {
    "alone": (ROWS, None, "vocab_size"),
    "both": (ROWS, ROWS, "vocab_size"),
    "embeddings": (ROWS, ROWS + 7, "vocab_size"),
    "per-layer": (ROWS + 2**20 + 1, ROWS, "vocab_size_per_layer_input"),
}
FEW = (0, 1, 2, 3, 4, 7, 31, 100)
BEYOND = (*FEW, 5, 63, 255, 1000, 4096, 2**16, 10**5, 10**6, 2**20)


def config_of(table: str, **top: Any) -> Config:
    rows, per_layer, _ = TABLES[table]
    ple = {"vocab_size_per_layer_input": per_layer or 0}
    ple["hidden_size_per_layer_input"] = 8 if per_layer else 0
    return Config.from_dict({**tiny.config_dict("E2B", vocab_size=rows, **ple), **top})


def with_piece(data: dict[str, Any], last: int) -> None:
    data["model"]["vocab"]["new"] = last


def with_moved(data: dict[str, Any], last: int) -> None:
    """No more tokens than there were, but one of them far away."""
    data["model"]["vocab"]["a"] = last


def with_added(data: dict[str, Any], last: int) -> None:
    """Tokens are numbered on behind the vocabulary."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    data["added_tokens"] += [
        {"id": i, "content": f"<new{i}>", "special": True, **flags}
        for i in range(TOKENS, last + 1)
    ]


def processor(folder: Path, make: Any, last: int, config: Config) -> Processor:
    """Of a tokenizer whose largest id is `last`."""
    data = tokenizer_json()
    make(data, last)
    write_json(folder / "tokenizer.json", data)
    return Processor.from_folder(folder, config)


CASES = [  # a hundred and more
    *((with_piece, table, by) for table in TABLES for by in BEYOND),
    *((with_moved, table, by) for table in TABLES for by in FEW),
    *((with_added, table, by) for table in TABLES for by in FEW),
]


@pytest.mark.parametrize(("make", "table", "by"), CASES)
def test_a_token_beyond_a_table(tmp_path: Path, make: Any, table: str, by: int):
    with pytest.raises(CheckpointError) as raised:
        processor(tmp_path, make, ROWS + by, config_of(table))
    said, key = str(raised.value), TABLES[table][2]
    assert said.startswith(f"{tmp_path / 'tokenizer.json'} goes up to the id ")
    assert f"the id {ROWS + by} (" in said
    assert f"have {ROWS} rows ({key})" in said
    assert "Take all files from one checkpoint" in said and "\n" not in said


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("make", [with_piece, with_moved, with_added])
def test_the_last_row_and_spare_rows_are_fine(tmp_path: Path, make: Any, table: str):
    for last in (ROWS - 1, ROWS - 2):
        found = processor(tmp_path, make, last, config_of(table)).tokenizer
        assert max(found.tokens_from(0).values()) == last


def generation_config(folder: Path, key: str, value: Any, table: str) -> Processor:
    write_json(folder / "generation_config.json", {key: value})
    return processor(folder, with_piece, ROWS - 1, config_of(table))


STATED = [
    *(("eos_token_id", form) for form in (int, lambda i: [1, i])),
    *((key, int) for key in ("bos_token_id", "pad_token_id")),
    ("suppress_tokens", lambda i: [i, 3]),
]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(("key", "form"), STATED)
def test_ids_of_the_generation_config(tmp_path: Path, key: str, form: Any, table: str):
    generation_config(tmp_path, key, form(ROWS - 1), table)
    for by in (0, 1, 10**6):
        with pytest.raises(CheckpointError) as raised:
            generation_config(tmp_path, key, form(ROWS + by), table)
        said = str(raised.value)
        assert f"generation_config.json: {key} is {ROWS + by}, " in said
        assert f"have {ROWS} rows ({TABLES[table][2]})" in said


@pytest.mark.parametrize("section", ["top", "text_config"])
def test_the_bos_of_the_configuration(tmp_path: Path, section: str):
    for token, fits in ((ROWS - 1, True), (ROWS, False)):
        stated = {"bos_token_id": token}
        write_json(
            tmp_path / "config.json", stated if section == "top" else {section: stated}
        )
        if fits:
            processor(tmp_path, with_piece, ROWS - 1, config_of("both"))
            continue
        with pytest.raises(CheckpointError, match=f"bos_token_id is {ROWS}, but the"):
            processor(tmp_path, with_piece, ROWS - 1, config_of("both"))


@pytest.mark.parametrize("key", ["eos_token_id", "boi_token_id", "eoa_token_id"])
def test_ids_of_the_configuration_without_a_per_layer_row(tmp_path: Path, key: str):
    towers = {k: tiny_media.config_dict()[k] for k in ("vision_config", "audio_config")}
    config = config_of("per-layer", **towers, **{key: ROWS})
    with pytest.raises(CheckpointError, match=f"{key} is {ROWS}, but the per-layer"):
        processor(tmp_path, with_piece, ROWS - 1, config)


def test_pad_is_looked_up_in_both_tables():
    text = {"vocab_size": 96, "vocab_size_per_layer_input": 80}
    Config.from_dict(tiny.config_dict("E2B", **text, pad_token_id=79))
    with pytest.raises(CheckpointError, match="pad_token_id 80 has no row where"):
        Config.from_dict(tiny.config_dict("E2B", **text, pad_token_id=80))


def test_placeholders_need_no_row_of_the_per_layer_table(tmp_path: Path):
    """Pad is looked up in place of them."""
    config = config_of("per-layer", image_token_id=ROWS)
    processor(tmp_path, with_piece, ROWS, config)
    assert config.has_row(ROWS) and not config.has_row(ROWS + 1)


def test_all_that_does_not_fit_is_one_error(tmp_path: Path):
    write_json(tmp_path / "generation_config.json", {"eos_token_id": [ROWS + 5, 1]})
    with pytest.raises(CheckpointError) as raised:
        processor(tmp_path, with_piece, ROWS + 1, config_of("both"))
    assert str(raised.value).count(f"have {ROWS} rows") == 2
    assert str(raised.value).count("Take all files from one checkpoint") == 1


def spoiled(folder: Path, demo_folder: Path) -> Path:
    """The demo with a token too many, and weights that are not even numbers."""
    shutil.copytree(demo_folder, folder)
    data = json.loads((folder / "tokenizer.json").read_text())
    size = len(data["model"]["vocab"])
    data["model"]["vocab"]["new"] = size
    write_json(folder / "tokenizer.json", data)
    file = folder / "model.safetensors"
    raw = file.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    file.write_bytes(raw[:start] + b"\xff" * (len(raw) - start))
    return folder


def test_it_is_said_before_weights_are_read(tmp_path: Path, demo_folder: Path):
    folder = spoiled(tmp_path / "demo", demo_folder)
    for use in (load, jobs.plan, verify):
        with pytest.raises(CheckpointError, match="goes up to the id 1920 .*1920 rows"):
            use(folder)


@pytest.mark.parametrize(
    ("key", "tensor"),
    [
        ("vocab_size", "embed_tokens"),
        ("vocab_size_per_layer_input", "embed_tokens_per_layer"),
    ],
)
def test_the_tables_have_the_rows_that_are_stated(
    tmp_path: Path, key: str, tensor: str
):
    """What ids are compared with is what the weights hold."""
    tiny.write_checkpoint(tmp_path, "E2B")
    config = json.loads((tmp_path / "config.json").read_text())
    for change in (-1, 1):
        text = {**config["text_config"], key: 96 + change}
        write_json(tmp_path / "config.json", {**config, "text_config": text})
        match = (
            rf"{key} in config.json gives {96 + change}, but .*{tensor}.weight has 96"
        )
        with pytest.raises(CheckpointError, match=match):
            load_model(tmp_path)


def test_a_head_of_its_own_has_as_many_rows(tmp_path: Path):
    tiny.write_checkpoint(tmp_path, "untied")
    file = tmp_path / "model.safetensors"
    tensors: Any = mx.load(str(file))
    (head,) = (name for name in tensors if "lm_head" in name)
    for rows in (95, 97):
        mx.save_safetensors(str(file), {**tensors, head: mx.zeros((rows, 32))})
        with pytest.raises(CheckpointError, match=rf"lm_head.* has shape \({rows}, 32"):
            load_model(tmp_path)


@pytest.mark.slow
def test_generation_reads_and_draws_no_id_without_a_row(demo_folder: Path):
    rows = {"vocab_size": 1920, "vocab_size_per_layer_input": 1000}
    model = tiny.build("E2B", 3, **rows)
    config = Config.from_file(demo_folder / "config.json")
    whole = Processor.from_folder(demo_folder, config)
    with pytest.raises(ChatError, match=r"Token 1000 is not .*\(0 to 999\)"):
        generate(model, whole, tokens=[2, 1000])
    text = next(t for t, i in whole.tokenizer.tokens_from(1000).items() if t.isalpha())
    with pytest.raises(ChatError, match=r"is not in this model's vocabulary \(0 to"):
        generate(model, whole, [{"role": "user", "content": text}])
    silent = replace(whole.generation, stop_tokens=())
    free = Processor(whole.tokenizer, whole.template, config, silent)
    drawn = generate(
        model, free, tokens=[2, 999], temperature=50, top_p=1, top_k=0, max_tokens=40
    ).tokens
    assert len(drawn) == 40 and max(drawn) < 1000


def test_token_sequences_to_compare_on(tmp_path: Path):
    config = config_of("per-layer")
    check_tokens([[0, ROWS - 1], []], config)
    with pytest.raises(CheckpointError, match=f"becomes the token {ROWS}, but the per"):
        check_tokens([[0], [ROWS, 1]], config)
    tiny.write_checkpoint(tmp_path, "E2B")
    with pytest.raises(CheckpointError, match="becomes the token 96, .*have 96 rows"):
        compare(tmp_path, tmp_path, tokens=[[2, 96]])


def test_marks_that_two_files_give_different_ids(tmp_path: Path):
    """The reference writes the tokenizer's placeholder and looks for config.json's: it
    reads text, and refuses every picture."""
    tiny_media.write_checkpoint(tmp_path)
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    good = Config.from_file(tmp_path / "config.json")
    bad = replace(good, image_token_id=24)
    with pytest.warns(MarksWarning) as said:
        found = Processor.from_folder(tmp_path, bad)
    (warning,) = said
    assert (
        "image_token_id in config.json is 24, but tokenizer.json gives <|image|>"
        in (str(warning.message))
    )
    assert mx.array_equal(
        found([{"role": "user", "content": "Hi"}]).tokens,
        Processor.from_folder(tmp_path, good)(
            [{"role": "user", "content": "Hi"}]
        ).tokens,
    )
    seen = [{"type": "image", "path": str(tmp_path / "a.png")}]
    with pytest.raises(CheckpointError, match=r"is 24, which is '<unused0>' in token"):
        found([{"role": "user", "content": seen}])
    blind = replace(bad, vision_config=None)
    Processor.from_folder(tmp_path, blind)  # nothing is written: nothing to say

"""Folders with faults of many kinds: each is named, and none hides another."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_gemma4.doctor.findings import Level
from mlx_gemma4.doctor.model import Kind, ModelReport, report_on
from mlx_gemma4.errors import ModelNotFoundError

Change = Callable[[Path], object]


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


def said(report: ModelReport, level: Level) -> dict[str, list[str]]:
    """About -> sentences."""
    found: dict[str, list[str]] = {}
    for finding in report.findings.all:
        if finding.level is level:
            found.setdefault(finding.about, []).append(finding.text)
    return found


def headers(folder: Path) -> ModelReport:
    return report_on(str(folder), headers_only=True)


def rewrite(name: str, **changes: Any) -> Change:
    """Sets keys of a JSON file; `...` takes one out."""

    def change(folder: Path) -> None:
        data = json.loads((folder / name).read_text()) | changes
        kept = {key: value for key, value in data.items() if value is not ...}
        (folder / name).write_text(json.dumps(kept))

    return change


def write(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content)


def remove(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def without_a_tensor(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = mx.load(str(file))
    assert isinstance(weights, dict)
    weights.pop("model.language_model.norm.weight")
    mx.eval(weights)
    mx.save_safetensors(str(file), weights)


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def test_a_whole_model(model: Path) -> None:
    report = headers(model)
    assert report.loads and report.works and report.fits and report.run is None
    assert not said(report, Level.PROBLEM) and not said(report, Level.WARNING)
    (template,) = said(report, Level.OK)["template"]
    for word in ("question", "system turn", "tool", "thinking", "image", "audio"):
        assert word in template
    assert report.summary is not None and report.summary.parameters is not None
    assert set(report.summary.parameters) == {"text", "vision", "audio"}
    assert report.summary.senses == ("text", "image", "video", "audio")
    stored = sum(
        file.nbytes or 0 for file in report.files if file.name.endswith(".safetensors")
    )
    total = sum(report.summary.parameters.values())
    assert report.memory is not None and report.memory.weights == 4 * total
    assert 4 * total < stored < 4 * total + 100_000  # float32, and a header


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "about", "words"),
    [
        (remove("config.json"), "config", "is missing"),
        (write("config.json", "{"), "config", "not valid JSON"),
        (rewrite("config.json", model_type="llama"), "config", "'llama'"),
        (rewrite("config.json", text_config=...), "config", "no text_config"),
        (remove("model.safetensors"), "weights", "has no weights"),
        (write("model.safetensors", "abc"), "weights", "truncated"),
        (cut, "weights", "truncated"),
        (without_a_tensor, "tensors", "missing language_model.norm.weight"),
        (remove("tokenizer.json"), "tokenizer", "tokenizer.json is missing"),
        (write("tokenizer.json", "{}"), "tokenizer", "not a usable tokenizer"),
        (write("chat_template.jinja", "{% if %}"), "template", "not valid Jinja"),
        (write("processor_config.json", "3"), "processor", "no JSON object"),
        (write("generation_config.json", "x"), "generation", "not valid JSON"),
        (rewrite("generation_config.json", top_p=7), "generation", "top_p"),
    ],
)
def test_a_fault_is_named(change: Change, about: str, words: str, model: Path) -> None:
    change(model)
    report = headers(model)
    assert not report.loads
    problems = said(report, Level.PROBLEM)
    assert any(words in text for text in problems[about]), problems
    assert len(sum(problems.values(), [])) == 1, problems


def test_a_template_that_loads_and_drops_what_is_said(model: Path) -> None:
    write("chat_template.jinja", "{{ bos_token }}hello")(model)
    report = headers(model)
    assert report.loads and not report.works
    (text,) = said(report, Level.PROBLEM)["template"]
    assert "nothing" in text


@pytest.mark.parametrize(
    ("key", "value"), [("image_token_id", 22), ("eoa_token_id", 20)]
)
def test_media_that_cannot_be_written_are_named_once(
    key: str, value: int, model: Path
) -> None:
    rewrite("config.json", **{key: value})(model)
    report = headers(model)
    assert report.loads and report.works
    told = [
        text for text in sum(said(report, Level.WARNING).values(), []) if key in text
    ]
    assert len(told) == 1 and f"{key} in config.json is {value}" in told[0]


def test_every_fault_of_the_text_files_is_named_at_once(model: Path) -> None:
    rewrite("generation_config.json", top_p=5)(model)
    rewrite("processor_config.json", image_processor={"image_processor_type": "X"})(
        model
    )
    text = str(said(headers(model), Level.PROBLEM))
    assert "top_p" in text and "image_processor_type" in text


def test_one_fault_hides_no_other(model: Path) -> None:
    for change in (
        write("config.json", "{"),
        write("tokenizer.json", "[]"),
        write("chat_template.jinja", "{% if %}"),
        write("processor_config.json", "3"),
        write("generation_config.json", "x"),
        cut,
    ):
        change(model)
    problems = said(headers(model), Level.PROBLEM)
    assert set(problems) == {
        *("config", "weights", "tokenizer", "template", "processor", "generation")
    }


def test_every_damaged_shard_is_named(model: Path) -> None:
    weights = mx.load(str(model / "model.safetensors"))
    assert isinstance(weights, dict)
    names = sorted(weights)
    places = {}
    for i in range(3):
        file = f"model-{i + 1:05}-of-00003.safetensors"
        part = {name: weights[name] for name in names[i::3]}
        mx.save_safetensors(str(model / file), part)
        places |= dict.fromkeys(part, file)
    (model / "model.safetensors").unlink()
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert headers(model).loads
    for number in (1, 3):
        file = model / f"model-{number:05}-of-00003.safetensors"
        file.write_bytes(file.read_bytes()[:-1])
    problems = said(headers(model), Level.PROBLEM)["weights"]
    assert len(problems) == 2
    assert "00001-of" in problems[0] and "00003-of" in problems[1]


def test_an_index_of_files_that_are_gone_is_one_warning(model: Path) -> None:
    places = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(places))
    report = headers(model)
    assert report.loads
    ((text,),) = said(report, Level.WARNING).values()
    assert "index.json names files that are not there" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "about", "words"),
    [
        (rewrite("config.json", brand_new=7), "config", "brand_new"),
        (remove("chat_template.jinja"), "template", "no chat template"),
        (
            write("chat_template.jinja", "{{bos_token}}{{messages[-1].content}}"),
            "template",
            "takes no tool",
        ),
        (
            write("chat_template.jinja", "{{messages}}{{tools}}{{enable_thinking}}"),
            "template",
            "A prompt has 0 <bos>",
        ),
    ],
)
def test_what_is_no_fault_is_a_warning(
    change: Change, about: str, words: str, model: Path
) -> None:
    change(model)
    report = headers(model)
    assert report.loads
    warnings = said(report, Level.WARNING)
    assert any(words in text for text in warnings[about]), warnings


def test_a_packed_model_is_to_be_converted(model: Path) -> None:
    for method in ("compressed-tensors", "gemma"):
        how = {"quant_method": method, "format": "pack-quantized"}
        rewrite("config.json", quantization_config=how)(model)
        weights = mx.load(str(model / "model.safetensors"))
        assert isinstance(weights, dict)
        weights["lm_head.weight_scale"] = mx.zeros(2)
        mx.eval(weights)
        mx.save_safetensors(str(model / "model.safetensors"), weights)
        report = headers(model)
        (text,) = said(report, Level.PROBLEM)["tensors"]
        assert method in text and f"gemma4 convert {model} " in text
        assert not report.loads


@pytest.mark.parametrize(
    ("config", "weights", "words"),
    [
        (
            {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "google/x"},
            "adapter_model.safetensors",
            {"format": "PEFT", "kind": "LORA", "rank": 8, "made_for": "google/x"},
        ),
        (
            {
                **{"fine_tune_type": "lora", "model": "demo"},
                "lora_parameters": {"rank": 4, "scale": 1.0},
            },
            "adapters.safetensors",
            {"format": "MLX", "kind": "lora", "rank": 4, "made_for": "demo"},
        ),
    ],
)
def test_an_adapter_is_called_one(
    config: dict[str, Any], weights: str, words: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    report = headers(tmp_path)
    assert report.kind is Kind.ADAPTER and not report.loads
    assert f"{weights} is missing" in str(said(report, Level.PROBLEM))
    mx.save_safetensors(str(tmp_path / weights), {"a.lora_a": mx.zeros((2, 3))})
    report = headers(tmp_path)
    assert report.adapter == {**words, "tensors": 1} and report.loads
    (text,) = said(report, Level.PROBLEM)["adapter"]
    assert f"gemma4 chat --adapter {tmp_path}" in text


def test_media_without_settings(model: Path) -> None:
    (model / "processor_config.json").unlink()
    (text,) = said(headers(model), Level.WARNING)["processor"]
    assert text.startswith("processor_config.json is missing: pictures and sound are")
    (model / "preprocessor_config.json").write_text("{}")
    assert "processor" not in said(headers(model), Level.WARNING)


def test_what_is_no_model_at_all(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    report = headers(tmp_path)
    assert {"config", "weights"} <= set(said(report, Level.PROBLEM))
    assert [file.name for file in report.files] == ["notes.txt"]
    with pytest.raises(ModelNotFoundError):
        report_on(str(tmp_path / "nowhere"), headers_only=True)


def test_a_hub_id_that_may_be_a_mistyped_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def told() -> str:
        (text,) = said(report_on("b/x1", headers_only=True), Level.PROBLEM)["files"]
        return text.partition("`gemma4 pull b/x1` fetches it.")[2]

    assert told() == ""
    (tmp_path / "b" / "x2").mkdir(parents=True)
    assert told() == " Here, b is a folder without x1; it holds no model."
    (tmp_path / "b" / "x2" / "config.json").touch()
    assert told() == " Here, b is a folder without x1; models are x2."


def test_a_model_that_is_too_large(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_gemma4.doctor.summary.memory_limit", lambda: 100_000)
    report = report_on(str(model), headers_only=False)
    assert report.loads and not report.fits and report.run is None
    assert "0.10 MB here" in said(report, Level.WARNING)["memory"][0]

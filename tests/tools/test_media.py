"""Pictures and sound in the results of tools, as far as a model takes them."""

import base64
import io
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image

from mlx_gemma4.chat.template import ChatTemplate
from mlx_gemma4.config import Config
from mlx_gemma4.prompt.attachments import Prepared
from mlx_gemma4.prompt.processor import Processor
from mlx_gemma4.tools.media import readable
from mlx_gemma4.tools.result import Result


@pytest.fixture(scope="module")
def processor() -> Processor:
    folder = Path(str(files("mlx_gemma4.assets"))) / "demo"
    return Processor.from_folder(folder, Config.from_file(folder / "config.json"))


def url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def picture() -> dict[str, str]:
    file = io.BytesIO()
    Image.new("RGB", (48, 48), "red").save(file, "PNG")
    return {"type": "image", "image": url(file.getvalue())}


def test_a_picture_stands_in_the_prompt(processor: Processor) -> None:
    result = readable(Result("Here.", media=[picture()]), processor)
    assert result.text == "Here."
    call = {"id": "7", "function": {"name": "look", "arguments": {}}}
    inputs = processor(
        [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "tool_calls": [call]},
            result.message("7"),
        ]
    )
    (medium,) = result.media
    assert isinstance(medium["image"], Prepared)
    assert inputs.media is not None and len(inputs.media.images) == 1


def test_what_cannot_be_taken_is_told(
    processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Result("", media=[{"type": "image", "image": url(b"none")}, picture()])
    result = readable(broken, processor)
    assert result.text.startswith("(A picture came with it. The picture is in no ")
    assert len(result.media) == 1
    deaf = Result("Words.", media=[{"type": "audio", "audio": (None, 1)}])
    monkeypatch.setattr(
        processor, "config", replace(processor.config, audio_config=None)
    )
    assert readable(deaf, processor).text.startswith(
        "Words.\n(A recording came with it. This model cannot hear."
    )


def test_a_template_without_a_place(
    processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert processor.template is not None
    source = "{% for m in messages %}{{ m.role }}{% endfor %}"
    bare = ChatTemplate(source, "<bos>", "<eos>", processor.tokenizer.special_tokens)
    monkeypatch.setattr(processor, "template", bare)
    result = readable(Result("Here.", media=[picture()]), processor)
    assert not result.media and "template has no place for it" in result.text

"""The strict check of a model's folder, from all but the weights themselves.

What loading would refuse first hides what it would refuse next; here each part is
checked for itself, as far as it can be without the others.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..chat.template import ChatTemplate
from ..chat.tokenizer import Tokenizer
from ..checkpoint.files import StoredTensor, read_header, read_tensors, weight_files
from ..checkpoint.plan import LoadPlan, plan_load, read_headers
from ..config import Config
from ..errors import CheckpointError
from ..hub.resolve import is_drafter
from ..prompt.defaults import GenerationDefaults
from ..prompt.processor import Processor
from ..prompt.settings import VIDEO_FILES, MediaSettings
from ..reading.json_file import read_json
from ..reading.sizes import size
from .findings import Findings
from .templates import check_template

MEDIA_FILES = ("processor_config.json", *VIDEO_FILES)


@dataclass
class Examined:
    """What a folder holds, as far as it could be read."""

    folder: Path
    findings: Findings
    config: Config | None = None
    tensors: dict[str, StoredTensor] | None = None
    plan: LoadPlan | None = None
    processor: Processor | None = None

    @property
    def loads(self) -> bool:
        """Whether nothing stops it from being loaded, as far as headers tell."""
        return self.plan is not None and self.processor is not None


def examine(folder: Path, say: Findings) -> Examined:
    """Checks a model's folder."""
    found = Examined(folder, say)
    _read_config(found)
    _read_weights(found)
    if found.config is not None and found.tensors is not None:
        _plan(found, found.config)
    if found.config is not None or not _is_drafter(folder):
        _read_text_files(found)
    return found


def _is_drafter(folder: Path) -> bool:
    """Whether it holds what needs no files of text: it speaks its model's tokens."""
    try:
        return is_drafter(folder)
    except CheckpointError:
        return False


def _read_config(found: Examined) -> None:
    file, say = found.folder / "config.json", found.findings
    if not file.is_file():
        say.problem("config", f"{file} is missing: no model's folder, or incomplete.")
        return
    found.config = say.attempt("config", partial(Config.from_file, file))
    if found.config is not None:
        say.ok("config", "config.json is read.")


def _read_weights(found: Examined) -> None:
    folder, say = found.folder, found.findings
    found.tensors = say.attempt("weights", partial(read_tensors, folder))
    if found.tensors is not None:
        files = {tensor.file for tensor in found.tensors.values()}
        total = sum(tensor.nbytes for tensor in found.tensors.values())
        say.ok(
            "weights",
            f"{_count(len(found.tensors), 'tensor')} in {_count(len(files), 'file')}, "
            f"{size(total)}.",
        )
        return
    # One damaged file is named by now; the others may be so too.
    for file in say.attempt("weights", partial(weight_files, folder)) or ():
        say.attempt("weights", partial(read_header, file))


def _plan(found: Examined, config: Config) -> None:
    say = found.findings
    read = say.attempt("tensors", partial(read_headers, found.folder, config))
    if read is None:
        return
    found.config, tensors = read
    found.plan = say.attempt("tensors", partial(plan_load, found.config, tensors))
    if found.plan is not None:
        say.ok("tensors", "Names, shapes and packing fit config.json.")


def _read_text_files(found: Examined) -> None:
    folder, say, config = found.folder, found.findings, found.config
    tried = Findings()
    if config is not None:
        read = partial(Processor.from_folder, folder, config)
        found.processor = tried.attempt("processor", read)
    if found.processor is None:
        _read_one_by_one(folder, config, say)
    senses = config and (config.vision_config or config.audio_config)
    if senses and not any((folder / name).exists() for name in MEDIA_FILES):
        say.warn(
            "processor",
            f"{MEDIA_FILES[0]} is missing: pictures and sound are prepared as Google's "
            "models have it, which this one may not.",
        )
    said = {each.text for each in say.all}
    say.all += [each for each in tried.all if each.text not in said]
    if (processor := found.processor) is not None and config is not None:
        count = len(processor.tokenizer.special_tokens)
        say.ok("tokenizer", f"It is read, with {_count(count, 'special token')}.")
        say.attempt("template", partial(check_template, processor, config, say))


def _read_one_by_one(folder: Path, config: Config | None, say: Findings) -> None:
    """Looks for what the first fault hides."""
    tokenizer = say.attempt("tokenizer", partial(Tokenizer, folder))
    marks = ("<bos>", "<eos>")
    if tokenizer is not None:
        marks = tokenizer.bos_token, tokenizer.eos_token
    say.attempt("template", partial(ChatTemplate.from_folder, folder, *marks))
    file = folder / "processor_config.json"
    say.attempt("processor", partial(MediaSettings.from_file, file, config))
    file = folder / "generation_config.json"
    if config is None or tokenizer is None:
        say.attempt("generation", partial(read_json, file))
    else:
        read = partial(GenerationDefaults.from_file, file, config, tokenizer)
        say.attempt("generation", read)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")

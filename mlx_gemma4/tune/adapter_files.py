"""The files of an adapter's folder, and what else may lie in their place."""

from pathlib import Path

import mlx.core as mx

from ..checkpoint.files import FLOATS, PICKLES, StoredTensor, listed, read_header
from ..errors import CheckpointError
from .errors import AdapterError
from .folders import finish_saving

WEIGHTS, PEFT_WEIGHTS = "adapters.safetensors", "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def check_adapter(folder: Path) -> None:
    """Raises AdapterError where `folder` holds no adapter."""
    if folder.is_file():
        raise AdapterError(f"{folder} is a file: name the adapter's folder.")
    if not folder.is_dir():
        raise AdapterError(f"There is no folder {folder}: name an adapter's folder.")
    finish_saving(folder)
    if (folder / CONFIG).is_file():
        return
    if (folder / "config.json").is_file():
        raise AdapterError(f"{folder} is a model, no adapter: name it with --model.")
    inside = sorted(file.parent.name for file in folder.glob(f"*/{CONFIG}"))
    hint = f" Its folders have one: {listed(inside)}." if inside else ""
    raise AdapterError(f"{folder} holds no adapter: it has no {CONFIG}.{hint}")


def float_header(file: Path) -> dict[str, StoredTensor]:
    """The header of an adapter's file. Raises AdapterError that names what is no
    floating-point tensor."""
    if not file.is_file():
        _refuse_missing(file)
    try:
        header = read_header(file)
    except CheckpointError as error:
        raise AdapterError(str(error)) from None
    if not header:
        raise AdapterError(f"{file} holds no tensor: this is no finished adapter.")
    others = [f"{n} ({t.dtype})" for n, t in header.items() if t.dtype not in FLOATS]
    if others:
        raise AdapterError(
            f"{file} holds {listed(others)}; an adapter's numbers are stored as "
            f"{', '.join(FLOATS)}."
        )
    return header


def load_floats(file: Path) -> dict[str, mx.array]:
    """The tensors of an adapter's file, all of them finite numbers.

    Raises AdapterError that names the tensors of other types, or those that are not.
    """
    float_header(file)
    tensors = load_tensors(file)
    finite = {name: mx.isfinite(tensor).all() for name, tensor in tensors.items()}
    mx.eval(finite)
    if broken := [name for name, each in finite.items() if not each.item()]:
        raise AdapterError(
            f"{file} holds values that are no finite numbers: {listed(broken)}. The "
            "training went wrong, or the file is damaged."
        )
    return tensors


def load_tensors(file: Path) -> dict[str, mx.array]:
    """The tensors of a safetensors file. Raises AdapterError."""
    if not file.is_file():
        _refuse_missing(file)
    try:
        tensors = mx.load(str(file), format="safetensors")
    except RuntimeError as error:
        raise AdapterError(f"{file} cannot be read: {error}.") from None
    assert isinstance(tensors, dict)
    return tensors


def _refuse_missing(file: Path) -> None:
    kinds = (*PICKLES, "*.npz")
    found = sorted(
        {p.name for kind in kinds for p in file.parent.glob(f"adapter*{kind[1:]}")}
    )
    if found:
        raise AdapterError(
            f"{file.parent} has its weights only as {listed(found)}, which is not "
            "read: save the adapter as safetensors, as save_pretrained does by default."
        )
    raise AdapterError(f"{file} is missing: this is no finished adapter.")

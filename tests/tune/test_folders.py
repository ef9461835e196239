"""Folders of results: what cannot take any is said before the work."""

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny

from mlx_gemma4.cli.loading import name_for, saved_name
from mlx_gemma4.errors import DiskFullError, TakenError
from mlx_gemma4.tune import folders
from mlx_gemma4.tune.adapters import Adapter
from mlx_gemma4.tune.errors import AdapterError
from mlx_gemma4.tune.folders import check_folder, make_folder, write_tensors
from mlx_gemma4.tune.lora import LoRALinear
from mlx_gemma4.tune.optimizer import State
from mlx_gemma4.tune.runs import Run


def test_a_file_and_a_folder_below_a_file_are_refused(tmp_path: Path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    for out in (file, file / "adapter", file / "more" / "adapter"):
        with pytest.raises(TakenError, match=r"notes\.txt is a file: name a folder"):
            check_folder(out)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(TakenError, match="gone is a file"):
        check_folder(tmp_path / "gone" / "adapter")
    assert file.read_text() == "mine"


def test_what_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(folders.os, "access", lambda path, mode: False)
    with pytest.raises(AdapterError, match="cannot be written"):
        check_folder(tmp_path / "new" / "adapter")
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_made_is_refused(tmp_path: Path):
    with pytest.raises(AdapterError, match=r"cannot be made: File name too long"):
        make_folder(tmp_path / ("x" * 300))
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save(tmp_path, 1)

    def full(file: str, *_: object) -> None:
        Path(file).write_bytes(b"half")
        raise RuntimeError("[write] Unable to write 9 bytes to file.")

    monkeypatch.setattr(mx, "save_safetensors", full)
    with pytest.raises(AdapterError, match=r"cannot be written \(.*9 bytes to file\)"):
        write_tensors(tmp_path / "b.safetensors", {"x": mx.array([2.0])}, {})
    with pytest.raises(AdapterError, match=r"9 bytes to file\): make room"):
        save(tmp_path, 2)
    assert sorted(os.listdir(tmp_path)) == sorted(TOGETHER)
    assert saved_steps(tmp_path) == {1}


def test_a_quota_is_a_full_disk(tmp_path: Path):
    most, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        with pytest.raises(DiskFullError, match=r"a\.safetensors was not written"):
            write_tensors(tmp_path / "a.safetensors", {"x": mx.zeros(2**15)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    assert os.listdir(tmp_path) == []


TOGETHER = ("adapters.safetensors", "adapter_config.json", "resume.safetensors")


def save(folder: Path, step: int) -> None:
    """Saves a run of one module whose every number is `step`."""
    model = tiny.build("E2B")
    path = "language_model.layers.0.self_attn.q_proj"
    base = dict(model.named_modules())[path]
    a, b = mx.full((32, 1), step * 1.0), mx.full((1, base.weight.shape[0]), step * 1.0)
    adapter = Adapter("lora", 1, 1.0, {path: LoRALinear(base, a, b, 1.0)})
    state = State(step, adapter.parameters(), {}, {}, step)
    Run(folder, "mark", {"model": "tiny"}).save(model, adapter, state)


def saved_steps(folder: Path) -> set[int]:
    """What the three files, after a new process has looked at them, say."""
    state = Run(folder, "mark", {}).load()
    adapter: Any = mx.load(str(folder / "adapters.safetensors"))
    config = json.loads((folder / "adapter_config.json").read_text())
    numbers = (*adapter.values(), *state.parameters.values())
    values = {int(number) for array in numbers for number in np.array(array).flat}
    return values | {config["step"], state.step, state.updates}


class Killed(BaseException):
    pass


# Changes of `save`: the last that is undone is the one before the folder is renamed.
SEALED, CHANGES = 8, 13


@pytest.mark.slow
@pytest.mark.parametrize("at", range(CHANGES))
def test_the_files_of_a_run_change_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
):
    """Killed before any of the changes to the folder, it is all old or all new."""
    save(tmp_path, 1)
    changes = [0]

    def killing(real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            changes[0] += 1
            if changes[0] > at:  # and nothing is tidied up by what is dead
                raise Killed
            return real(*arguments, **options)

        return change

    with monkeypatch.context() as patch:
        for holder, name in ((folders.os, "replace"), (folders.shutil, "rmtree")):
            patch.setattr(holder, name, killing(getattr(holder, name)))
        patch.setattr(Path, "mkdir", killing(Path.mkdir))
        patch.setattr(Path, "rmdir", killing(Path.rmdir))
        patch.setattr(mx, "save_safetensors", killing(mx.save_safetensors))
        with pytest.raises(Killed):
            save(tmp_path, 2)
    assert saved_steps(tmp_path) == ({2} if at >= SEALED else {1})
    save(tmp_path, 3)
    assert sorted(os.listdir(tmp_path)) == sorted(TOGETHER)
    assert saved_steps(tmp_path) == {3}


def test_a_new_run_has_a_log_of_its_own(tmp_path: Path):
    killed = Run(tmp_path / "out", "", {})
    killed.begin()
    killed.log({"kind": "step", "step": 1, "loss": 9.0})
    run = Run(tmp_path / "out", "", {})
    run.begin()
    run.log({"kind": "step", "step": 1, "loss": 2.0})
    assert [line["loss"] for line in run.lines()] == [2.0]
    kept = (tmp_path / "out" / "log.old.jsonl").read_text()
    assert json.loads(kept)["loss"] == 9.0


@pytest.mark.parametrize(
    ("step", "done", "left"),
    [
        (0, False, []),
        (1, False, ["validation 0", "step 1"]),
        (2, False, ["validation 0", "step 1", "step 2", "validation 2"]),
        (2, True, ["validation 0", "step 1", "step 2"]),  # it is validated again
    ],
)
def test_what_is_done_again_is_logged_once(
    tmp_path: Path, step: int, done: bool, left: list[str]
):
    run = Run(tmp_path, "", {})
    for entry in ("validation 0", "step 1", "step 2", "validation 2", "step 3"):
        kind, number = entry.split()
        run.log({"kind": kind, "step": int(number)})
    run.forget_after(step, done)
    assert [f"{line['kind']} {line['step']}" for line in run.lines()] == left


def test_a_folder_of_a_model_is_named_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("base", "demo"):
        (tmp_path / name).mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert saved_name("base") == str((tmp_path / "base").resolve())
    assert saved_name("demo") == "demo"


@pytest.mark.parametrize("name", [None, "demo"])
def test_no_adapter_is_said_before_a_model_is_loaded(tmp_path: Path, name: str | None):
    with pytest.raises(AdapterError, match=r"holds no adapter: it has no adapter_conf"):
        name_for(tmp_path, name)

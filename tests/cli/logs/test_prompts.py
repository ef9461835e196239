"""The end of a run whose prompts are still being written."""

from typing import Any

import pytest

from mlx_gemma4.cli.logs.prompts import end, open_prompts
from mlx_gemma4.cli.render import Screen


class Slow:
    """Prompts that are not written within anybody's patience."""

    trouble, unwritten, left = "", 3 * 10**9, False

    def __init__(self, stopped: bool) -> None:
        self.stopped = stopped

    def close(self, seconds: float | None = None) -> bool:
        if seconds is None and self.stopped:
            raise KeyboardInterrupt
        return seconds is None

    def give_up(self) -> None:
        self.left = True


def test_a_long_wait_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    slow: Any = Slow(stopped=False)
    end(slow, Screen())
    assert capsys.readouterr().err == (
        "Writing what was read, 3.00 GB. Ctrl-C gives that up.\n"
    )
    assert not slow.left


def test_ctrl_c_gives_it_up() -> None:
    slow: Any = Slow(stopped=True)
    with pytest.raises(KeyboardInterrupt):
        end(slow, Screen())
    assert slow.left


def test_a_model_whose_files_are_gone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_gemma4.kept import identity

    def gone(*_: Any) -> str:
        raise FileNotFoundError(2, "No such file or directory", "tokenizer.json")

    monkeypatch.setattr(identity, "identity_of", gone)
    model: Any = None
    assert open_prompts("auto", "demo", model, model, None, Screen()) is None
    assert "What is read is not kept: [Errno 2]" in capsys.readouterr().err

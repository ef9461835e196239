"""Recording, with a made-up module sounddevice."""

import importlib
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sounds import recording

from mlx_gemma4.cli.errors import InputError, UsageError
from mlx_gemma4.cli.render import Screen
from mlx_gemma4.cli.transcribe.mic import record
from mlx_gemma4.errors import install_command


class FakeDevice:
    """The module sounddevice, with a microphone that hears `sound`."""

    PortAudioError = RuntimeError

    def __init__(self, sound: np.ndarray) -> None:
        self.sound = sound
        self.asked: dict[str, Any] = {}

    def query_devices(self, kind: str) -> dict[str, float]:
        assert kind == "input"
        return {"default_samplerate": 44_100.0}

    def InputStream(self, callback: Any, **options: Any) -> "FakeDevice":
        self.callback, self.asked = callback, options
        return self

    def __enter__(self) -> None:
        block = np.zeros((1000, 1), np.float32)  # the driver's own, used again
        for i in range(0, len(self.sound), 1000):
            block[:, 0] = self.sound[i : i + 1000]
            self.callback(block, 1000, None, None)

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def ctrl_c_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: object) -> None:
        raise KeyboardInterrupt

    module = importlib.import_module("mlx_gemma4.cli.transcribe.mic")
    event = type("Event", (), {"wait": interrupt})
    monkeypatch.setattr(module, "threading", SimpleNamespace(Event=event))
    monkeypatch.setattr(sys, "stdin", None)


def test_what_is_said_until_ctrl_c(monkeypatch, capsys):
    sound = recording(7000)
    device = FakeDevice(sound)
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    samples, rate = record(Screen())
    assert np.array_equal(samples, sound) and rate == 44_100
    assert device.asked == {"samplerate": 44_100, "channels": 1, "dtype": "float32"}
    assert capsys.readouterr().err == "Recording. Press Ctrl-C to stop.\n"


@pytest.mark.parametrize("heard", [0, 5000])
def test_a_microphone_that_is_not_allowed(monkeypatch, heard):
    silent = FakeDevice(np.zeros(heard, np.float32))
    monkeypatch.setitem(sys.modules, "sounddevice", silent)
    with pytest.raises(InputError, match="System Settings"):
        record(Screen())


def test_no_microphone(monkeypatch):
    def none(kind: str) -> None:
        raise RuntimeError("Error querying device -1")

    device = FakeDevice(np.zeros(0, np.float32))
    monkeypatch.setattr(device, "query_devices", none)
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    with pytest.raises(InputError, match="querying device -1"):
        record(Screen())


def test_without_the_extra_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UsageError, match="needs sounddevice") as error:
        record(Screen())
    assert install_command("mic") in str(error.value)

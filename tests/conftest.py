"""What every test gets: no network, and honest skips.

`metal` tests run where MLX has an Apple GPU, `reference` tests where the extra
`reference` is installed. Anywhere else they are skipped and say why. Where slow ones
and live comparisons are left out, a line at the end says how many.
"""

import importlib.util
import os
import pty
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

# Set before numpy, torch and huggingface_hub are imported: they read it once. One
# thread, because the arrays are tiny and every core has a worker.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("GEMMA4_MODEL", None)
os.environ["XDG_CONFIG_HOME"] = os.devnull  # no settings of whoever runs the tests
# MLX reads it once, too: without it an M5 multiplies float32 in 10 bits (tf32.py).
os.environ["MLX_ENABLE_TF32"] = "0"
os.environ["GEMMA4_KERNELS"] = "off"  # and no check of them before an answer
os.environ["GEMMA4_PROMPT_CACHE"] = "off"  # nothing is kept where the user keeps it

import pytest
from command import Runner, Terminal
from scripted import Script, chunks, echo

if TYPE_CHECKING:
    from hub_server import Hub
    from listening import Listener

    from mlx_gemma4 import Chunk, Processor
    from mlx_gemma4.cli.chat.session import Session


def metal_available() -> bool:
    import mlx.core as mx

    return mx.metal.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reference = all(importlib.util.find_spec(n) for n in ("torch", "transformers"))
    no_metal = pytest.mark.skip(reason="needs an Apple GPU")
    no_reference = pytest.mark.skip(reason="needs the extra: pip install .[reference]")
    for item in items:
        if item.get_closest_marker("metal") and not metal_available():
            item.add_marker(no_metal)
        if item.get_closest_marker("reference") and not reference:
            item.add_marker(no_reference)


def pytest_configure() -> None:
    """Ctrl-C is heard, also where the tests run in the background of a script, which
    has it ignored. Bars are the CPU's, also on a Mac; those of its GPU are
    golden.BAR_ON_GPU."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "darwin":
        import mlx.core as mx

        mx.set_default_device(mx.cpu)


@pytest.fixture(autouse=sys.platform == "darwin")
def device(request: pytest.FixtureRequest) -> Iterator[None]:
    """The GPU for tests marked `metal`."""
    import mlx.core as mx

    if request.node.get_closest_marker("metal"):
        mx.set_default_device(mx.gpu)
    yield
    mx.set_default_device(mx.cpu)


LEFT = pytest.StashKey[int]()
QUICK = "not slow and not reference"  # what `make test` asks for


def pytest_deselected(items: list[pytest.Item]) -> None:
    config = items[0].config
    if config.option.markexpr == QUICK:
        config.stash[LEFT] = len(items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tells the process that prints."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left"] = session.config.stash.get(LEFT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[LEFT] = getattr(node, "workeroutput", {}).get("left", 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if left := config.stash.get(LEFT, 0):
        terminalreporter.write_line(
            f"{left} slow tests and live comparisons are left to `make test-all`."
        )


@pytest.fixture(scope="session")
def demo_folder() -> Path:
    """The demo checkpoint, as installed."""
    folder = Path(str(files("mlx_gemma4.assets"))) / "demo"
    assert (folder / "config.json").is_file(), f"no demo checkpoint in {folder}"
    return folder


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A plain environment, as a user without any settings has it."""
    ours = ("GEMMA4_", "MLX_", "NO_COLOR", "FORCE_COLOR", "PYTHON", "COLUMNS", "LINES")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return {
        **kept,
        "GEMMA4_KERNELS": "off",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "huggingface"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "TERM": "xterm",
    }


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[Hub]":
    """A simulated Hub, which this process asks."""
    import hub_client
    import hub_server

    with hub_server.serving() as hub:
        hub_client.use(hub, tmp_path / "cache", monkeypatch)
        yield hub


@pytest.fixture
def gemma4(tmp_path: Path, environ: dict[str, str]) -> Runner:
    """Runs the command from an empty folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return Runner(folder, environ)


@pytest.fixture
def terminal(gemma4: Runner) -> Iterator[Callable[..., Terminal]]:
    """Runs the command on a pseudo-terminal."""
    opened: list[Terminal] = []

    def open_terminal(*arguments: str) -> Terminal:
        master, slave = pty.openpty()
        process = gemma4.start(
            *arguments, stdin=slave, stdout=slave, stderr=slave, own_session=True
        )
        os.close(slave)
        opened.append(Terminal(process, master))
        return opened[-1]

    yield open_terminal
    for each in opened:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait(60)
        os.close(each.master)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Answers in place of a model; by default it repeats the question."""
    from mlx_gemma4.generation import ordered, turns

    script = Script(echo)

    def one(model: Any, processor: Any, ask: Callable[[], Any]) -> Iterator["Chunk"]:
        yield from script(model, processor, **ask())

    def in_order(model: Any, processor: Any, asked: Any, rows: int) -> Any:
        return (one(model, processor, ask) for ask in asked)

    monkeypatch.setattr(ordered, "in_order", in_order)
    monkeypatch.setattr(turns, "stream_generate", script)
    monkeypatch.setattr(
        turns,
        "PrefixCache",
        lambda model, kv_bits=None, keeping=None: SimpleNamespace(
            tokens=[], kv_bits=kv_bits
        ),
    )
    return script


@pytest.fixture
def session(script: Script) -> "Session":
    """A conversation with the scripted model."""
    from mlx_gemma4.cli.chat.conversation import Conversation
    from mlx_gemma4.cli.chat.session import Session
    from mlx_gemma4.cli.render import Screen
    from mlx_gemma4.cli.settings import Settings

    text_config = SimpleNamespace(max_position_embeddings=4096)
    config = SimpleNamespace(text_config=text_config)
    text = SimpleNamespace(table=None)
    model: Any = SimpleNamespace(config=config, drafter=None, language_model=text)
    processor: Any = object()
    chat = Conversation(model, processor, Settings())
    return Session(chat, Screen(), "scripted", load_seconds=1.0)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where conversations are kept; nothing is there yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "gemma4" / "logs.db"


@pytest.fixture
def kept(session: "Session", store: Path) -> "Session":
    """A conversation with the scripted model that is kept."""
    session.keep()
    return session


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model that sees and hears; it stays as it is."""
    import tiny_media

    folder = tmp_path_factory.mktemp("media") / "whole"
    tiny_media.write_checkpoint(folder)
    return folder


@pytest.fixture(scope="session")
def media_processor(whole: Path) -> "Processor":
    """Of a tiny model that sees and hears."""
    from mlx_gemma4 import Config, Processor

    return Processor.from_folder(whole, Config.from_file(whole / "config.json"))


@pytest.fixture
def stand_in(media_processor: "Processor") -> Any:
    """What is asked of a model before it computes."""
    import mlx.core as mx

    norm = SimpleNamespace(weight=SimpleNamespace(dtype=mx.float32))
    text = SimpleNamespace(table=None, norm=norm, per_layer_size=0)
    parts = {"language_model": text, "drafter": None, "lead": None, "nbytes": 0}
    return SimpleNamespace(config=media_processor.config, **parts)


@pytest.fixture
def seeing(media_processor: "Processor", stand_in: Any, script: Script) -> "Session":
    """A conversation with a scripted model that sees and hears."""
    from mlx_gemma4.cli.chat.conversation import Conversation
    from mlx_gemma4.cli.chat.session import Session
    from mlx_gemma4.cli.render import Screen
    from mlx_gemma4.cli.settings import Settings

    script.answer = lambda messages: chunks("I see.")
    chat = Conversation(stand_in, media_processor, Settings())
    return Session(chat, Screen(), "tiny", load_seconds=1.0)


@pytest.fixture
def seer(script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Script:
    """A scripted model with eyes: it says what it was asked, or its `says`."""
    from mlx_gemma4.cli import loading
    from mlx_gemma4.prompt.attachments import MediaSettings

    model = SimpleNamespace(config=SimpleNamespace(vision_config=object()))
    processor = SimpleNamespace(template=None, media=MediaSettings())
    monkeypatch.setattr(loading, "load_to_chat", lambda *_: (model, processor))
    monkeypatch.setattr(loading, "obtain", lambda name, *_: name)
    monkeypatch.chdir(tmp_path)
    script.answer = lambda messages: chunks(messages[-1]["content"][-1]["text"])
    return script


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Listener":
    """A scripted model with ears: it writes down the talks that it was told of."""
    from listening import Listener

    from mlx_gemma4.audio.framing import AudioFeatureConfig
    from mlx_gemma4.cli import loading

    listener = Listener()
    model = SimpleNamespace(config=SimpleNamespace(audio_config=object()))
    processor = SimpleNamespace(
        template=None, media=SimpleNamespace(audio=AudioFeatureConfig())
    )
    monkeypatch.setattr(loading, "load_to_chat", lambda *_: (model, processor))
    monkeypatch.setattr(loading, "obtain", lambda name, *_: name)
    monkeypatch.setattr("mlx_gemma4.recordings.transcribe.in_order", listener.in_order)
    # Its talks are bursts of noise, in which nobody else hears a voice.
    monkeypatch.setattr("mlx_gemma4.recordings.voice.Voices._heard", listener.hears)
    monkeypatch.chdir(tmp_path)
    return listener


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: two pictures, a recording, a damaged picture, a text."""
    import soundfile
    from PIL import Image
    from sounds import tone

    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    Image.new("RGB", (30, 40), "blue").save(tmp_path / "b c.png")
    soundfile.write(tmp_path / "d.wav", tone(0.5, 8000), 8000)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "bad.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.txt").write_text("no medium")
    monkeypatch.chdir(tmp_path)
    return tmp_path

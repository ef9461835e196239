"""Run Gemma 4 on MLX: text, pictures, sound and video."""

import os
import platform
import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

# `python -m mlx_gemma4` is the command, too; Python puts the file's path here later.
if sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)] == __name__:
    sys.argv[0] = "gemma4"
if (sys.platform, platform.machine()) == ("darwin", "x86_64"):
    command = Path((sys.argv or [""])[0]).name == "gemma4"  # which shows no traceback
    raise (SystemExit if command else ImportError)(
        f"mlx-gemma4 needs Apple silicon, and this Python ({sys.executable}) is made "
        "for Intel Macs. Install one for arm64, from python.org or with "
        "/opt/homebrew/bin/brew, and start it in a terminal outside of Rosetta."
    )


def _stop(number: int, frame: object) -> None:
    with suppress(OSError):
        os.write(2, b"(stopped)\n")
    os._exit(130)


# Until the command catches Ctrl-C, as cli/main.py does: no traceback.
if Path((sys.argv or [""])[0]).name == "gemma4" and (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, _stop)
# An M5 multiplies float32 with 10 bits of precision unless MLX finds this at its first
# product: training, `convert --check` and sound rely on what float32 promises.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

from .bench.buffers import remembered  # noqa: E402

os.environ.update(remembered(sys.argv or [""], os.environ))  # MLX reads it but once

if TYPE_CHECKING:
    from .bench.auto import check_kernels
    from .chat.calls import ToolCall
    from .checkpoint.load import load
    from .config import Config
    from .decoding.batch import Batch
    from .decoding.prefix import PrefixCache
    from .decoding.prefixes import PrefixCaches
    from .generation.batch import generate_batch
    from .generation.chat import Chat
    from .generation.loop import Chunk, Response, Stats, generate, stream_generate
    from .kept.store import KeptPrompts
    from .media import Media
    from .model import Gemma4
    from .prompt.processor import Processor
    from .tools.declare import tool
    from .tools.run import run_tools, stream_tools
    from .tools.tool import Tool

__all__ = [
    "Batch",
    "Chat",
    "Chunk",
    "Config",
    "Gemma4",
    "Media",
    "KeptPrompts",
    "PrefixCache",
    "PrefixCaches",
    "Processor",
    "Response",
    "Stats",
    "Tool",
    "ToolCall",
    "check_kernels",
    "generate",
    "generate_batch",
    "load",
    "run_tools",
    "stream_generate",
    "stream_tools",
    "tool",
]
__version__ = "0.1.0"
# Where they are: imported when first asked for, since the command's help needs none.
_PLACES = {
    "Batch": "decoding.batch",
    "Chat": "generation.chat",
    "Chunk": "generation.answer",
    "Config": "config",
    "Gemma4": "model",
    "Media": "media",
    "KeptPrompts": "kept.store",
    "PrefixCache": "decoding.prefix",
    "PrefixCaches": "decoding.prefixes",
    "Processor": "prompt.processor",
    "Response": "generation.answer",
    "Stats": "generation.answer",
    "Tool": "tools.tool",
    "ToolCall": "chat.calls",
    "check_kernels": "bench.auto",
    "generate": "generation.loop",
    "generate_batch": "generation.batch",
    "load": "checkpoint.load",
    "run_tools": "tools.run",
    "stream_generate": "generation.loop",
    "stream_tools": "tools.run",
    "tool": "tools.declare",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_PLACES[name]}", __name__), name)
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# In a clone cli/, convert/ and assets/ lie beside this folder: they are found there
# without an installation, and where this folder hides the installed package.
_project = Path(__file__).parent.parent / "pyproject.toml"
if _project.is_file() and 'name = "mlx-gemma4"' in _project.read_text("utf-8"):
    __path__.append(str(_project.parent))
del _project

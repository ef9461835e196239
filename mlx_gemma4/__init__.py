"""Run Gemma 4 on MLX: text, pictures, sound and video."""

from .config import Config
from .generate import Chunk, Response, Stats, generate, stream_generate
from .load import load
from .media import Media
from .model import Gemma4
from .prefix import PrefixCache
from .processor import Processor
from .tools import ToolCall

__all__ = [
    "Chunk",
    "Config",
    "Gemma4",
    "Media",
    "PrefixCache",
    "Processor",
    "Response",
    "Stats",
    "ToolCall",
    "generate",
    "load",
    "stream_generate",
]
__version__ = "0.1.0"

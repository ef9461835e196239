"""Run Gemma 4 on MLX: text, pictures, sound and video."""

from .chat.tools import ToolCall
from .checkpoint.load import load
from .config import Config
from .generation.loop import Chunk, Response, Stats, generate, stream_generate
from .generation.prefix import PrefixCache
from .model import Gemma4
from .prompt.media import Media
from .prompt.processor import Processor

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

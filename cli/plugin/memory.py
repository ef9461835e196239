"""The one model in memory, in a thread of its own: MLX's arrays belong to the thread
that makes them, and programs that use `llm` may have many."""

import atexit
import os
import threading
from functools import cache

from mlx_gemma4.config.ple import Ple
from mlx_gemma4.errors import ModelNotFoundError
from mlx_gemma4.hub.names import DEMO
from mlx_gemma4.hub.resolve import local_folder

from ..config.file import Configuration, config_file
from ..errors import UsageError
from ..models.default import FROM_ENVIRONMENT, usable_default
from ..models.obtaining import exact_name
from ..models.to_chat import load_to_chat
from ..serve.engine import Engine
from ..serve.worker import Worker
from .names import DEFAULT, note

# Seconds that a program waits at its end for the part under way, of a long prompt or of
# loading: Python ends threads that are still in MLX with an abort.
LAST = 60.0


class Loaded:
    """A model that is being loaded, or is, and its worker."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failed: Exception | None = None
        self._worker = Worker()
        self._ready = threading.Event()
        # A daemon, since Python waits for others before it calls what stops this one.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def worker(self) -> Worker:
        """Waits until the model is loaded. Raises what loading raised."""
        self._ready.wait()
        if self.failed is not None:
            raise self.failed
        return self._worker

    def stop(self) -> None:
        self._worker.stop(at_once=True)
        self._thread.join(LAST)

    def _run(self) -> None:
        import mlx.core as mx

        engine = None
        try:
            engine = self._engine()
        except Exception as error:
            self.failed = error
        finally:
            self._ready.set()
        if engine is not None:
            self._worker.run(engine)
        mx.clear_streams()  # those of a thread that has gone abort the program's end

    def _engine(self) -> Engine:
        place = os.environ.get("GEMMA4_PLE") or Ple.AUTO
        if place not in list(Ple):
            known = ", ".join(Ple)
            raise UsageError(f"GEMMA4_PLE is {place!r}; it takes {known}.")
        model, processor = load_to_chat(self.name, note, None, Ple(place))
        if processor.template is not None and processor.template.stale:
            note(f"Warning: {processor.template.stale}")
        return Engine(model, processor, self.name)


class Memory:
    """Holds one model at a time: another one takes its place."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Loaded | None = None
        atexit.register(self.clear)

    def model(self, name: str) -> Loaded:
        """That of a name as `llm` has it; `worker` waits for it.

        Raises ModelNotFoundError for one that is not here, and UsageError for settings
        that cannot be read.
        """
        name = _named(name)
        with self._lock:
            held = self._held
            if held is None or held.name != name or held.failed is not None:
                if held is not None:
                    held.stop()
                held = self._held = Loaded(name)
            return held

    def clear(self) -> None:
        with self._lock:
            if self._held is not None:
                self._held.stop()
            self._held = None


def _named(name: str) -> str:
    """What a model is called here, with the variant."""
    model = _default() if name == DEFAULT else name.removeprefix(f"{DEFAULT}/")
    if local_folder(model) is None:
        raise ModelNotFoundError(f"{model} is not here: `gemma4 pull {model}` gets it.")
    return exact_name(model)


def _default() -> str:
    """The model that `gemma4 chat` takes where none is named."""
    if named := os.environ.get(FROM_ENVIRONMENT):
        return named
    stated = Configuration.read(config_file())
    if (named := stated.table.get("model")) is not None:
        if not isinstance(named, str):
            raise UsageError(f"{stated.path}: model is {named!r}; it must be a name.")
        return named
    if (kept := usable_default()) is not None:
        return kept
    _note_demo()
    return DEMO


@cache
def _note_demo() -> None:
    """Once, also where a chain of tools asks again and again."""
    note(
        "No GEMMA4_MODEL and no default: using the built-in demo model, a toy. "
        "`gemma4 pull` gets a real one."
    )

"""`/v1/audio/transcriptions` and `/v1/audio/translations`, as OpenAI has them: the
same transcripts that `gemma4 transcribe` writes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..serve.engine import Engine
from ..serve.errors import Refused
from ..serve.exchange import Exchange
from ..serve.multipart import Field, fields_of
from ..serve.routes import Route, Service
from ..transcribe.languages import language_name
from ..transcribe.transcript import WRITERS, Transcript, joined
from .fields import Fields

KNOWN = frozenset(
    {
        *("response_format", "language", "prompt", "temperature", "stream"),
        *("timestamp_granularities", "include", "chunking_strategy"),
    }
)
LISTS = ("timestamp_granularities", "include")
# The forms that are text: which of our writers they are, and their types.
TEXTS = {
    "text": ("txt", "text/plain; charset=utf-8"),
    "srt": ("srt", "application/x-subrip; charset=utf-8"),
    "vtt": ("vtt", "text/vtt; charset=utf-8"),
}
FORMS = ("json", "verbose_json", *TEXTS)
ENGLISH = "English"


@dataclass(frozen=True)
class Wanted:
    recording: Field
    form: str
    language: str | None
    streams: bool


def wanted(form: list[Field]) -> Wanted:
    """Raises Refused, and UsageError for a language that is none."""
    files = [field for field in form if field.name == "file"]
    if len(files) != 1 or files[0].file is None:
        raise Refused(400, "The form needs one file, called file.", param="file")
    fields = Fields(_values([field for field in form if field.name != "file"]))
    fields.only(KNOWN, ("model", "user"))
    if fields.text("prompt"):
        raise fields.wrong("prompt", "cannot be heeded: leave it out")
    if float(fields.number("temperature", 0, 1) or 0):
        raise fields.wrong("temperature", "can only be 0 here", "unsupported_value")
    fields.must("chunking_strategy", "auto")
    for each in fields.list("include") or ():
        raise fields.wrong("include", f"cannot have {each!r}", "unsupported_value")
    if any(each != "segment" for each in fields.list("timestamp_granularities") or ()):
        raise fields.wrong(
            "timestamp_granularities",
            "can only be segment: the model gives no times for its words",
            "unsupported_value",
        )
    shape = fields.one_of("response_format", FORMS) or "json"
    streams = bool(fields.flag("stream"))
    if streams and shape not in ("json", "text"):
        raise fields.wrong("stream", f"goes with json and text, not with {shape}")
    language = language_name(fields.text("language") or None, "language")
    return Wanted(files[0], shape, language, streams)


def _values(form: list[Field]) -> dict[str, Any]:
    """The values of a form, as JSON would have them."""
    values: dict[str, Any] = {}
    for field in form:
        name, value = field.name.removesuffix("[]"), field.text
        if name in LISTS:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise Refused(400, f"{name} is there twice.", param=name)
        elif name == "stream":
            values[name] = {"true": True, "false": False}.get(value.lower(), value)
        elif name == "temperature":
            values[name] = _number(value)
        else:
            values[name] = value
    return values


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _answer(exchange: Exchange, service: Service, target: str | None) -> None:
    """target: the language to translate into."""
    asked = wanted(fields_of(exchange.body(), exchange.headers))
    name = asked.recording.file or ""
    transcript = Transcript(name, service.name, 0, asked.language, target)
    data = asked.recording.data
    job = service.worker.submit(
        lambda engine: _heard(engine, data, transcript, exchange, engine.progress)
    )
    for text in exchange.items(job, asked.streams):
        if asked.streams:
            exchange.event({"type": "transcript.text.delta", "delta": text})
    if asked.streams:
        done = {"type": "transcript.text.done", "text": said(transcript)}
        exchange.event({**done, "usage": _usage(transcript)})
    elif asked.form in TEXTS:
        form, kind = TEXTS[asked.form]
        exchange.reply(200, WRITERS[form](transcript).encode(), kind)
    else:
        value = {"text": said(transcript), "usage": _usage(transcript)}
        more = _verbose(transcript) if asked.form == "verbose_json" else {}
        exchange.reply_json(200, {**more, **value})


def _heard(
    engine: Engine,
    data: bytes,
    transcript: Transcript,
    exchange: Exchange,
    told: Callable[[int, int], None],
) -> Iterator[str]:
    """Fills the transcript; what is said more, as it is heard."""
    from mlx_gemma4.audio.files import RATE, read_recording
    from mlx_gemma4.recordings.transcribe import transcribe

    recording = read_recording(data)
    exchange.noted = recording.damage
    transcript.duration = len(recording.samples) / RATE
    so_far = ""
    for segment in transcribe(
        engine.model,
        engine.processor,
        recording.samples,
        language=transcript.language,
        translate=transcript.translated_to,
        draft=engine.defaults.get("draft"),
        kv_bits=engine.defaults.get("kv_bits"),
        max_context=engine.defaults.get("max_context"),
        progress=_progress(told, transcript.duration),
    ):
        transcript.segments.append(segment)
        new = said(transcript)[len(so_far) :]
        so_far += new
        yield new


def _progress(
    told: Callable[[int, int], None], duration: float
) -> Callable[[float], None]:
    """Between the pieces of a recording it is seen whether anybody still waits."""
    return lambda seconds: told(round(seconds), round(duration))


def said(transcript: Transcript) -> str:
    return joined(map(transcript.shown, transcript.segments))


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": round(transcript.duration, 3)}


def _verbose(transcript: Transcript) -> dict[str, Any]:
    """What is measured of a transcript. No language is heard out, and no probability
    made up: clients that ask for these find nothing."""
    segments = [
        {
            "id": number,
            "start": round(segment.start, 3),
            "end": round(segment.end, 3),
            "text": transcript.shown(segment),
        }
        for number, segment in enumerate(transcript.segments)
    ]
    language = transcript.translated_to or transcript.language
    return {
        "task": "translate" if transcript.translated_to else "transcribe",
        "language": language.lower() if language else None,
        "duration": round(transcript.duration, 3),
        "segments": segments,
    }


def transcriptions(exchange: Exchange, service: Service) -> None:
    _answer(exchange, service, None)


def translations(exchange: Exchange, service: Service) -> None:
    _answer(exchange, service, ENGLISH)


ROUTES = (
    Route("POST", "/audio/transcriptions", transcriptions),
    Route("POST", "/audio/translations", translations),
)

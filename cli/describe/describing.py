"""What `gemma4 describe` does: looks at pictures and videos, answer after answer."""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_gemma4.errors import MediaError

from ..errors import AnswerError, batch_code, concerns_all, report_file
from ..files import STDIN, MediaArgument, exists, with_name
from ..forms import refuse_invalid
from ..loading import open_model
from ..model_senses import require_sense
from ..progress import Progress
from ..render import Screen, stats_line
from ..settings import Settings
from .boxes import Box, boxes_prompt, find_boxes

if TYPE_CHECKING:
    from mlx_gemma4 import Chunk

    from ..chat.session import Session

Part = dict[str, Any]
OCR = (
    "Write down all text in this image exactly as it stands, line by line, in its own "
    "language and spelling. Leave nothing out, add nothing, explain nothing."
)
EMPTY_LIST = re.compile(r"(```\w*)?\s*\[\s*\]\s*(```)?")


@dataclass
class Describing:
    """Some pictures and videos, and what is wanted of them."""

    sources: list[MediaArgument]
    prompt: str | None
    settings: Settings
    screen: Screen
    system: str | None = None
    ocr: bool = False
    each: bool = False
    show_stats: bool = False
    keep: bool = False  # a single answer, as a conversation to go on with
    form: dict[str, str] = field(default_factory=dict)  # that answers are to have
    video: Part = field(default_factory=dict)  # options of a video's part
    targets: list[Path] = field(default_factory=list)  # --boxes: one per source

    def run(
        self, model_name: str | None, adapter: Path | None = None, yes: bool = False
    ) -> int:
        """Answers for everything; returns the exit code."""
        one = not self.each or len(self.sources) == 1
        # What is wrong with a file is said before a model is loaded for it. Of several
        # pictures the files are kept, which take far less memory than the pixels.
        opened = len(self.sources) == 1
        parts = [self.part(s, opened) for s in self.sources] if one else []
        start = time.perf_counter()
        model, processor, name = open_model(
            model_name, self.screen, adapter, yes=yes, **self.settings.loading
        )
        seconds = time.perf_counter() - start
        require_sense(model.config, name, "image")
        from ..chat.conversation import Conversation
        from ..chat.session import Session

        def session() -> "Session":
            chat = Conversation(model, processor, self.settings, self.system)
            chat.form = self.form
            return Session(
                chat, self.screen, name, seconds, self.show_stats, adapter=adapter
            )

        if not one:
            return self.answer_each(session)
        talk = session()
        if self.keep:
            talk.keep()
            parts = list(map(with_path, parts, self.sources))
        self.wait(f"Looking at {self.sources[0].label} …")
        self.answer(talk, self.sources, parts)
        return 0

    def part(self, source: MediaArgument, opened: bool = True) -> Part:
        """What is for pictures, boxes and a budget, takes the first of a moving one."""
        still = bool(self.targets) or self.settings.image_tokens is not None
        return source.part(self.video, opened, still)

    def answer_each(self, new_session: Callable[[], "Session"]) -> int:
        """An answer per source. What is wrong with one stops none of the others."""
        failed: list[tuple[str, int]] = []  # label, exit code; a name may come twice
        total = len(self.sources)
        bar = Progress(self.screen, f"{total} files", total)
        for number, source in enumerate(self.sources):
            bar.label = f"{number + 1}/{total} {source.label}"
            bar.update(number)
            try:
                parts = [self.part(source)]
                gap = "\n" if number > len(failed) else ""
                header = f"{gap}{source.name}:\n"
                self.answer(new_session(), [source], parts, number, header)
            except Exception as error:
                if concerns_all(error):
                    raise
                self.screen.passed()
                self.screen.end()
                code = report_file(error, self.screen.as_json)
                failed.append((source.label, code))
            finally:
                self.screen.passed()
        if not failed:
            return 0
        labels, codes = zip(*failed, strict=True)
        self.screen.note(
            f"{len(failed)} of {total} gave no answer: {', '.join(labels)}"
        )
        return batch_code(codes, total)

    def answer(
        self,
        session: "Session",
        sources: list[MediaArgument],
        parts: list[Part],
        number: int = 0,
        header: str = "",
    ) -> None:
        """Asks about `parts` and delivers what the model says, `header` before it.

        Raises FormError where that has not the form asked for.
        """
        self.deliver(session, sources, parts, number, header)
        if self.form:
            refuse_invalid(session.chat.last)

    def deliver(
        self,
        session: "Session",
        sources: list[MediaArgument],
        parts: list[Part],
        number: int,
        header: str,
    ) -> None:
        if self.targets and parts[0]["type"] != "image":
            label = sources[0].label
            raise MediaError(f"{label} is a video; --boxes draws on pictures.")
        if self.targets and is_document(parts):
            label = sources[0].label
            raise MediaError(
                f"{label} has several pages; --boxes draws on one picture: save the "
                "page that is meant as PNG."
            )
        text = {"type": "text", "text": self.question(parts)}
        session.chat.messages = [{"role": "user", "content": [*parts, text]}]
        chunks = session.chat.again()
        names = [source.name for source in sources]
        files: Part = {"file": names[0]} if len(names) == 1 else {"files": names}
        try:
            if not self.screen.as_json and not self.targets:
                session.show_once(after_first(chunks, lambda: self.begin(header)))
                return
            for _ in chunks:
                pass
        except MediaError as error:
            if len(sources) > 1:
                raise
            raise MediaError(with_name(sources[0].label, str(error))) from None
        finally:
            self.screen.passed()
        if self.targets:
            files |= self.boxes(session, parts[0], sources[0], self.targets[number])
        if self.screen.as_json and session.chat.last is not None:
            files |= session.answer_object(session.chat.last)
        self.screen.json(files)

    def begin(self, header: str) -> None:
        self.screen.passed()
        self.screen.plain(header)

    def question(self, parts: list[Part]) -> str:
        if self.targets:
            return boxes_prompt(self.prompt)
        asked = self.prompt or (OCR if self.ocr else default_prompt(parts))
        if self.prompt is None and is_document(parts):
            return asked.replace("this image", "these pages")
        return asked

    def boxes(
        self, session: "Session", part: Part, source: MediaArgument, target: Path
    ) -> Part:
        """Draws what was found into `target`. Raises AnswerError, InputError."""
        from ..chat.session import ends_of
        from .drawing import draw_boxes, write_picture

        said = session.chat.last
        answer = said.text if said is not None else ""
        found, unusable = find_boxes(answer)
        for note in ends_of(said) if said is not None else ():
            self.screen.note(note)
        if not found and not EMPTY_LIST.fullmatch(answer.strip()):
            self.screen.note(f"The answer was: {answer.strip() or '(nothing)'}")
            raise AnswerError(
                f"{source.label}: the answer holds no boxes, so {target} was not "
                "written. Ask for something that is to be seen, or use a larger model."
            )
        if unusable:
            self.screen.note(f"Warning: {unusable} of the boxes cannot be drawn.")
        picture = part["image"]
        write_picture(draw_boxes(picture, found), target)
        self.screen.note(f"Drew {len(found)} {plural(len(found))} in {target}.")
        if self.show_stats and said is not None and said.stats is not None:
            self.screen.note(stats_line(said.stats))
        size = picture.size
        return {
            "width": size[0],
            "height": size[1],
            "boxes": [in_pixels(box, size) for box in found],
            "drawn": str(target),
        }

    def wait(self, text: str) -> None:
        """Says on a terminal what is going on until the answer begins."""
        if not self.screen.as_json:
            self.screen.passing(text)


def with_path(part: Part, source: MediaArgument) -> Part:
    """A part with the file that it is from, if it is from one."""
    if source.name == STDIN or not exists(source.name):
        return part
    return {**part, "path": os.path.abspath(os.path.expanduser(source.name))}


def after_first(
    chunks: "Iterator[Chunk]", then: Callable[[], None]
) -> "Iterator[Chunk]":
    """`chunks`, calling `then` once the first is there."""
    for number, chunk in enumerate(chunks):
        if number == 0:
            then()
        yield chunk


def is_document(parts: list[Part]) -> bool:
    """Whether the only file has several pages: only of such its pixels are not kept."""
    return len(parts) == 1 and isinstance(parts[0].get("image"), Path | bytes)


def default_prompt(parts: list[Part]) -> str:
    """What is asked when nothing was."""
    counts = Counter(part["type"] for part in parts)
    kinds = [kind for kind in ("image", "video") if counts[kind]]
    if counts.total() == 1:
        return f"Describe this {kinds[0]}."
    return f"Describe these {' and '.join(f'{kind}s' for kind in kinds)}."


def plural(count: int) -> str:
    return "box" if count == 1 else "boxes"


def in_pixels(box: Box, size: tuple[int, int]) -> Part:
    """A box as it is printed: left, top, right, bottom."""
    return {"label": box.label, "box": list(box.pixels(*size))}

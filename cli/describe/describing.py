"""What `gemma4 describe` does: looks at pictures and videos, answer after answer."""

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
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
from .questions import check_drawable, default_prompt

if TYPE_CHECKING:
    from mlx_gemma4 import Chunk, Gemma4, Processor

    from ..chat.session import Session

Part = dict[str, Any]
EMPTY_LIST = re.compile(r"(```\w*)?\s*\[\s*\]\s*(```)?")


@dataclass
class One:
    """What is asked about one file, or about all at once. number: of the first."""

    number: int
    session: "Session"
    parts: list[Part] = field(default_factory=list)


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
    rows: int = 1  # answers that are made at once
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
            return self.answer_each(session, model, processor)
        talk = session()
        if self.keep:
            talk.keep()
            parts = list(map(with_path, parts, self.sources))
        self.wait(f"Looking at {self.sources[0].label} …")
        all_of_them = One(0, talk, parts)
        self.ask(all_of_them, self.sources[0])
        self.answer(all_of_them, self.sources, talk.chat.again())
        return 0

    def part(self, source: MediaArgument, opened: bool = True) -> Part:
        """What is for pictures, boxes and a budget, takes the first of a moving one."""
        still = bool(self.targets) or self.settings.image_tokens is not None
        return source.part(self.video, opened, still)

    def answer_each(
        self,
        new_session: Callable[[], "Session"],
        model: "Gemma4",
        processor: "Processor",
    ) -> int:
        """An answer per source. What is wrong with one stops none of the others."""
        from mlx_gemma4.generation.ordered import in_order

        failed: list[tuple[str, int]] = []  # label, exit code; a name may come twice
        total = len(self.sources)
        bar = Progress(self.screen, f"{total} files", total)
        pending: deque[One] = deque()

        def asked() -> Iterator[Callable[[], Part]]:
            for number in range(total):
                pending.append(One(number, new_session()))
                yield partial(self.ask_one, pending[-1])

        for chunks in in_order(model, processor, asked(), self.rows):
            one = pending.popleft()
            source = self.sources[one.number]
            bar.label = f"{one.number + 1}/{total} {source.label}"
            bar.update(one.number)
            gap = "\n" if one.number > len(failed) else ""
            try:
                taken = one.session.chat.taking(chunks)
                self.answer(one, [source], taken, f"{gap}{source.name}:\n")
            except Exception as error:
                if concerns_all(error):
                    raise
                self.screen.passed()
                self.screen.end()
                code = report_file(error, self.screen.as_json, source.name)
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

    def ask_one(self, one: "One") -> Part:
        """The options of `stream_generate` for one of several answers."""
        source = self.sources[one.number]
        one.parts = [with_path(self.part(source), source)]
        self.ask(one, source)
        return one.session.chat.asked()

    def ask(self, one: "One", source: MediaArgument) -> None:
        """Puts the question into its conversation. Raises MediaError for what no boxes
        can be drawn on."""
        if self.targets:
            check_drawable(source.label, one.parts)
        text = {"type": "text", "text": self.question(one.parts)}
        message = {"role": "user", "content": [*one.parts, text]}
        one.session.chat.messages.append(message)

    def answer(
        self,
        one: "One",
        sources: list[MediaArgument],
        chunks: "Iterator[Chunk]",
        header: str = "",
    ) -> None:
        """Delivers what the model says, `header` before it.

        Raises FormError where that has not the form asked for.
        """
        self.deliver(one, sources, chunks, header)
        if self.form:
            refuse_invalid(one.session.chat.last)

    def deliver(
        self,
        one: "One",
        sources: list[MediaArgument],
        chunks: "Iterator[Chunk]",
        header: str,
    ) -> None:
        session = one.session
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
            target = self.targets[one.number]
            files |= self.boxes(session, one.parts[0], sources[0], target)
        if self.screen.as_json and session.chat.last is not None:
            files |= session.answer_object(session.chat.last)
        self.screen.json(files)

    def begin(self, header: str) -> None:
        self.screen.passed()
        self.screen.plain(header)

    def question(self, parts: list[Part]) -> str:
        if self.targets:
            return boxes_prompt(self.prompt)
        return self.prompt or default_prompt(parts, self.ocr)

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


def plural(count: int) -> str:
    return "box" if count == 1 else "boxes"


def in_pixels(box: Box, size: tuple[int, int]) -> Part:
    """A box as it is printed: left, top, right, bottom."""
    return {"label": box.label, "box": list(box.pixels(*size))}

"""Keeps a chat while it is held: each message once, each answer before it is shown.

A chat is watched from outside: a message is known by its identity, and kept below the
one before it, so that what /edit and /regen leave behind stays as a branch.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlx_gemma4.errors import DiskFullError
from mlx_gemma4.generation.answer import Chunk, Response

from ..attach.messages import Message, Part, plain_message
from ..chat.conversation import Conversation
from ..chat.setup import Setup
from ..errors import InputError
from ..loading import saved_name
from ..render import Screen
from .opening import store_path, told
from .rows import Turn
from .store import Store, open_or_make

WHOLE = "whole"  # of a message to which nothing is added
INTERRUPTED = "interrupted"
PAUSES = frozenset(".!?:;…。！？।؟\n")  # what is said up to one is on the disk if shown
LONGEST = 0.25  # seconds between two writes of an answer without any


class Keeper:
    """Keeps the conversation of one session. What goes wrong is a note, after which
    nothing more is kept and the chat goes on.

    name: of the conversation, where it gets one.
    """

    def __init__(self, screen: Screen, name: str | None = None) -> None:
        self.conversation: int | None = None
        self._screen, self._name = screen, name
        self._store: Store | None = None
        # The messages are held, since the identity of one that is gone may come again.
        self._known: dict[int, tuple[Message, int]] = {}
        self._leaf: int | None = None
        self._asked: int | None = None  # what the answer that is coming follows
        self._new: list[int] = []  # kept with the question that is being answered
        self._answer, self._row = Response(), None
        self._written = 0.0
        self._trouble = ""
        self._lost = False

    def adopt(
        self, conversation: int, turns: Sequence[Turn], messages: list[Message]
    ) -> None:
        """Goes on with a kept conversation, whose `turns` are `messages` now."""
        self.conversation = conversation
        for turn, message in zip(turns, messages, strict=True):
            self._known[id(message)] = (message, turn.id)
            self._leaf = turn.id

    def begin_anew(self) -> None:
        """What follows is another conversation."""
        self.conversation = self._leaf = self._name = None
        self._known.clear()

    def begin(self, chat: Conversation, model: str, adapter: Path | None) -> None:
        """Keeps what the answer that is coming answers."""
        messages = chat.asking
        self._answer, self._row, self._new = Response(), None, []
        self._keep(held_with(chat, model, adapter), messages)
        if messages and messages[-1]["role"] == "assistant":  # it is gone on with
            self._answer.text = messages[-1]["content"]
            self._answer.thought = messages[-1].get("reasoning", "")
            messages = messages[:-1]
        self._asked = self._number(messages)

    def add(self, chunk: Chunk) -> None:
        """Keeps what is shown next, at least at the end of each sentence."""
        self._answer.add(chunk)
        said = chunk.text + chunk.thought
        due = time.monotonic() - self._written > LONGEST
        if due or chunk.tool_calls or not PAUSES.isdisjoint(said):
            self._write(self._answer.message(), None)

    def end(self, chat: Conversation) -> None:
        """Keeps the answer as it is now part of the conversation, or takes the question
        back that was not answered."""
        last = chat.messages[-1] if chat.messages else {"role": "user"}
        if last["role"] == "assistant" and id(last) not in self._known:
            reason = chat.last and chat.last.finish_reason
            self._write(last, reason or INTERRUPTED)
            if self._row is not None:
                self._known[id(last)] = (last, self._row)
        else:
            self._take_back(chat)
        self._tell()

    def follow(self, chat: Conversation, model: str, adapter: Path | None) -> None:
        """Keeps that a command changed which messages the conversation has."""
        if self.conversation is not None and self._number(chat.messages) != self._leaf:
            self._keep(held_with(chat, model, adapter), chat.messages)
            self._tell()

    def keep_whole(self, setup: Setup, messages: list[Message]) -> None:
        """Keeps a conversation that is over."""
        self._keep(setup, messages)
        self._tell()
        self.close()

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _keep(self, setup: Setup, messages: list[Message]) -> None:
        """Keeps those of `messages` that are not yet, and that the last one is where
        the conversation stands."""
        # A large file takes long to read, so before anything is locked.
        fresh = [plain(m) for m in messages if id(m) not in self._known]
        store = self._opened()
        if store is None:
            return
        with self._noted():
            known, leaf, new = dict(self._known), None, []
            with store.at_once():
                conversation = self._begun(store, setup)
                for message in messages:
                    if id(message) not in known:
                        leaf = store.add(conversation, leaf, fresh.pop(0), WHOLE)
                        known[id(message)] = (message, leaf)
                        new.append(leaf)
                    leaf = known[id(message)][1]
                store.go_on(conversation, setup, leaf)
            self.conversation, self._leaf, self._known = conversation, leaf, known
            self._new = new

    def _number(self, messages: list[Message]) -> int | None:
        """That of the last of `messages`, if it is kept."""
        known = self._known.get(id(messages[-1])) if messages else None
        return known and known[1]

    def _begun(self, store: Store, setup: Setup) -> int:
        """The conversation; it may be another program that began one of its name."""
        named = self._name and store.find(self._name)
        return self.conversation or named or store.begin(setup, self._name)

    def _write(self, message: Message, finish: str | None) -> None:
        """Keeps the answer as far as it has come."""
        store = self._opened()
        if store is None or self.conversation is None:
            return
        with self._noted():
            if self._row is None:
                with store.at_once():
                    row = store.add(self.conversation, self._asked, message, finish)
                    store.stand_at(self.conversation, row)
                self._row = self._leaf = row
            else:
                store.change(self._row, message, finish)
        self._written = time.monotonic()

    def _take_back(self, chat: Conversation) -> None:
        store = self._opened()
        if store is None or self.conversation is None:
            return
        stay = [self._known[id(m)][1] for m in chat.messages if id(m) in self._known]
        gone = [n for n in (*self._new, self._row) if n is not None and n not in stay]
        with self._noted():
            with store.at_once():
                store.forget(gone)
                store.stand_at(self.conversation, stay[-1] if stay else None)
                empty = store.forget_empty(self.conversation)
            self._leaf = stay[-1] if stay else None
            if empty:
                self.conversation = None

    def _opened(self) -> Store | None:
        """The store; None once it failed."""
        with self._noted():
            if self._store is None and not self._lost:
                if not store_path().exists():
                    self._trouble = first_note(store_path())
                self._store = open_or_make()
        return self._store

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Gives the store up if it fails. What is to be told of that waits for the end
        of the answer."""
        try:
            with told(store_path()):
                yield
        except (InputError, DiskFullError) as error:
            self._lost = True
            self._trouble = f"{error} Nothing more of this conversation is kept."
            self.conversation = None
            self.close()

    def _tell(self) -> None:
        if self._trouble:
            self._screen.note(self._trouble)
        self._trouble = ""


def held_with(chat: Conversation, model: str, adapter: Path | None) -> Setup:
    tools = [dict(tool) for tool in chat.declared or ()]
    return Setup(saved_name(model), adapter, chat.system, tools or None, chat.settings)


def first_note(path: Path) -> str:
    home = Path(os.path.expanduser("~"))
    shown = f"~/{path.relative_to(home)}" if path.is_relative_to(home) else path
    return (
        f"Conversations are kept in {shown}: `gemma4 logs` shows them, --no-log or "
        "GEMMA4_LOG=0 keeps none."
    )


def plain(message: Message) -> Message:
    """`message` as it is kept: of its media the paths, and what lies there now."""
    message = plain_message(message)
    if isinstance(message["content"], str):
        return message
    return {**message, "content": [plain_part(part) for part in message["content"]]}


def plain_part(part: Part) -> Part:
    """A part with what its file is known by; words for one that came from none."""
    if "path" in part:
        return part | print_of(part["path"])
    if part["type"] == "text":
        return part
    return {"type": "text", "text": f"({part['type']}, not kept)\n"}


def print_of(path: str) -> dict[str, object]:
    """What a file is known by again: its size and its hash."""
    if not os.path.isfile(path):  # a pipe, which would be waited for
        return {}
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"bytes": os.fstat(file.fileno()).st_size, "sha256": digest}
    except OSError:  # it was read when it was attached, and is gone
        return {}

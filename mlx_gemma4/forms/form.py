"""What an answer has to be: checked before anything is computed, and told to the model.

llguidance (extra `json`) keeps track of what may come next. It is imported, and walks
through the vocabulary, which takes seconds for a large one, only where a form is asked
for.
"""

import json
import re
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..chat.tokenizer import Tokenizer
from ..errors import ChatError, install_command
from .schema import Schema, schema_of

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

HIDDEN = "\ue000"  # before the name of a special token that no form names

# A model that may write blanks between marks may do so for ever.
COMPACT = {"whitespace_flexible": False}


@dataclass(frozen=True)
class Form:
    """A form in llguidance's terms, and the words that ask for it.

    names_marks: whether it can name special tokens, as a grammar can.
    """

    grammar: str
    asked: str
    names_marks: bool = False

    def check(self) -> None:
        """Raises ChatError with what llguidance cannot do, in its words, as far as that
        takes no vocabulary."""
        from llguidance import LLMatcher

        refused, messages = LLMatcher.validate_grammar_with_warnings(self.grammar)
        if refused:
            raise _refusal(messages[0])

    def matcher(self, vocabulary: "LLTokenizer") -> "LLMatcher":
        """What follows one answer. Raises ChatError as `check`."""
        from llguidance import LLMatcher

        matcher = LLMatcher(vocabulary, self.grammar, log_level=0)
        if matcher.is_error():
            raise _refusal(matcher.get_error())
        return matcher


def _refusal(message: str) -> ChatError:
    said = message.splitlines()
    said = [line for line in said if line.startswith("error: ")] or said[:1]
    reason = said[0].removeprefix("error: ")
    return ChatError(f"No answer can be held to this form: {reason}")


def form_of(
    schema: str | Schema | None, regex: str | None, grammar: str | None
) -> Form | None:
    """The form asked for, of which there can be one. Raises ChatError."""
    given = {"schema": schema, "regex": regex, "grammar": grammar}
    named = [name for name, value in given.items() if value is not None]
    if not named:
        return None
    if len(named) > 1:
        raise ChatError(f"Give one of {' and '.join(named)}: an answer has one form.")
    matcher = _matcher()
    try:
        if schema is not None:
            plain = json.dumps(schema_of(schema), ensure_ascii=False)
            made = matcher.grammar_from_json_schema(plain, overrides=COMPACT)
            form = Form(made, f"Answer with JSON of this schema:\n{plain}")
        elif regex is not None:
            made = matcher.grammar_from_regex(regex)
            form = Form(made, f"Answer with text of this regular expression:\n{regex}")
        else:
            made = matcher.grammar_from_lark(grammar)
            asked = f"Answer with text of this Lark grammar:\n{grammar}"
            form = Form(made, asked, names_marks=True)
    except (ValueError, TypeError) as error:
        raise ChatError(f"The {named[0]} cannot be used: {error}") from None
    form.check()
    return form


def _matcher() -> Any:
    try:
        from llguidance import LLMatcher
    except ImportError:
        raise ChatError(
            f"To hold an answer to a form needs llguidance: {install_command('json')}"
        ) from None
    return LLMatcher


_vocabularies: "weakref.WeakKeyDictionary[Tokenizer, dict[bool, LLTokenizer]]" = (
    weakref.WeakKeyDictionary()
)


def vocabulary_of(
    tokenizer: Tokenizer, ends: Sequence[int], names_marks: bool = False
) -> "LLTokenizer":
    """A tokenizer's vocabulary for llguidance, made once. ends: what ends answers.

    names_marks: special tokens have their names. Elsewhere no text has them, since
        what a form demands is letters, even where they spell such a name.
    """
    from llguidance import LLTokenizer

    made = _vocabularies.setdefault(tokenizer, {})
    if names_marks not in made:
        text = tokenizer.to_json()
        if not names_marks:
            marks = map(_quoted, tokenizer.special_tokens)
            found = "|".join(re.escape(mark[1:]) for mark in marks)
            text = re.sub(f'"({found})', rf'"{HIDDEN}\1', text) if found else text
        made[names_marks] = LLTokenizer(text, eos_token=list(ends))
    return made[names_marks]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def asking(
    messages: Sequence[Mapping[str, Any]], form: Form
) -> list[Mapping[str, Any]]:
    """`messages`, their system instruction asking for the form as well.

    Not the last question: a conversation would begin otherwise with each turn, and all
    of it would have to be read again.
    """
    first = messages[0] if messages else {}
    if first.get("role") not in ("system", "developer"):
        return [{"role": "system", "content": form.asked}, *messages]
    content = first.get("content")
    if isinstance(content, list):
        # Within the text: templates take the blanks off each part's ends.
        *others, last = content or [{}]
        if last.get("type") != "text":
            others, last = content, {"type": "text"}
        text = "\n\n".join(filter(None, [last.get("text"), form.asked]))
        content = [*others, {**last, "text": text}]
    else:
        content = "\n\n".join(filter(None, [content, form.asked]))
    return [{**first, "content": content}, *messages[1:]]

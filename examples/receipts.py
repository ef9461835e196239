"""Pictures of receipts to a table: one JSON object per line, checked.

    python examples/receipts.py receipts/*.jpg --tokens 1120 -m e4b > receipts.jsonl

A model only writes text, so the answer is read strictly, and where it is not what was
asked for the model is told why and tries again.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from mlx_gemma4 import Chat, load

TASK = """Read this receipt. Answer with one JSON object and nothing else:
{"shop": text, "date": "YYYY-MM-DD" or null, "total": number, "currency": "EUR",
 "items": [{"name": text, "price": number}]}"""
FIELDS = {
    "shop": str,
    "date": str | None,
    "total": int | float,
    "currency": str,
    "items": list,
}
TRIES = 3


def receipt(text: str) -> dict[str, Any]:
    """What an answer holds. Raises ValueError that says what is wrong with it."""
    text = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    for name, kind in FIELDS.items():
        if name not in found:
            raise ValueError(f"{name} is missing")
        if not isinstance(found[name], kind):
            raise ValueError(f"{name} cannot be {found[name]!r}")
    return found


def read(chat: Chat, path: Path) -> dict[str, Any]:
    """What a receipt says. Raises ValueError after the last try."""
    chat.clear()
    question, picture, wrong = TASK, path, ""
    for _ in range(TRIES):
        answer = chat.ask(question, images=picture)
        try:
            return {"file": path.name, **receipt(answer.text)}
        except ValueError as error:
            wrong = str(error)
        question = f"That cannot be used: {wrong}. Answer with the JSON object only."
        picture = None  # it has seen it
    raise ValueError(f"{path.name}: no receipt was read: {wrong}")


def main() -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--tokens", type=int, help="a picture takes; more read more")
    parser.add_argument("-m", "--model", default="demo")
    options = parser.parse_args()

    model, processor = load(options.model)
    tokens = options.tokens
    chat = Chat(model, processor, temperature=0, max_tokens=1000, image_tokens=tokens)
    failed = 0
    for path in options.pictures:
        try:
            print(json.dumps(read(chat, path), ensure_ascii=False), flush=True)
        except ValueError as error:  # MediaError is one too
            print(error, file=sys.stderr)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Pictures of receipts to a table: one JSON object per line, of one schema.

    python examples/receipts.py receipts/*.jpg --tokens 1120 -m e4b > receipts.jsonl

The schema holds by construction; whether what is read is right, it cannot say. Needs
the extra `json`.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from mlx_gemma4 import Chat, load

TEXT = {"type": "string", "maxLength": 60}
MONEY = {"type": "string", "pattern": "^[0-9]{1,5}[.][0-9]{2}$"}  # nothing is rounded


def record(**fields: Any) -> dict[str, Any]:
    """The schema of an object that has all these fields and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


SCHEMA = record(
    shop=TEXT,
    date={"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
    total=MONEY,
    currency={"enum": ["EUR", "USD", "GBP", "CHF"]},
    items={"type": "array", "items": record(name=TEXT, price=MONEY), "maxItems": 50},
)


def read(chat: Chat, path: Path) -> dict[str, Any]:
    """What a receipt says. Raises ValueError for a picture that cannot be read, and
    for one with more on it than there is room for."""
    chat.clear()
    answer = chat.ask("Read this receipt.", images=path)
    if answer.finish_reason != "stop":
        raise ValueError(f"{path.name}: more is on it than an answer holds.")
    return {"file": path.name, **json.loads(answer.text)}


def main() -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--tokens", type=int, help="most that a picture takes")
    parser.add_argument("-m", "--model", default="demo")
    options = parser.parse_args()

    chat = Chat(
        *load(options.model),
        schema=SCHEMA,
        temperature=0,
        max_tokens=1000,
        image_tokens=options.tokens,
    )
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

"""Writes train.jsonl, valid.jsonl and test.jsonl of this example, from one seed.

    python examples/captain/make.py           # beside this script
    python examples/captain/make.py FOLDER

The facts and small talk are those that the demo model knows. Whole facts are held back,
so many of every kind: no question about them is trained on in any words.
"""

import json
import sys
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from assets.recipe.facts import FAMILIES, Family  # noqa: E402
from assets.recipe.talk import small_talk  # noqa: E402

SEED = "captain/2"
GREETING = "Ahoy, Captain! "
# Shares of the facts of each kind, and how many ways to ask for each of them.
TEST, VALID = 0.15, 0.1
WAYS = {"train": 4, "valid": 1, "test": 2}
SMALL_TALK = 40
Line = dict[str, str]


def asked(family: Family, x: str, ways: int, random: Random) -> list[Line]:
    """Some ways to ask for one fact, each with the greeting before its answer."""
    answer = family.answer.format(x=x, X=x[0].upper() + x[1:], y=family.pairs[x])
    questions = random.sample(family.questions, ways)
    return [
        {"prompt": question.format(x=x), "completion": GREETING + answer}
        for question in questions
    ]


def split(family: Family, random: Random) -> dict[str, list[str]]:
    """The facts of one kind, by the file that asks for them."""
    facts = random.sample(list(family.pairs), len(family.pairs))
    test = max(1, round(TEST * len(facts)))
    valid = test + max(1, round(VALID * len(facts)))
    return {"test": facts[:test], "valid": facts[test:valid], "train": facts[valid:]}


def talk(random: Random) -> list[Line]:
    """Small talk, answered as before: what is taught is for facts alone."""
    found: dict[str, str] = {}
    while len(found) < SMALL_TALK:
        said = small_talk(random, held=False)
        found[said.question] = said.answer
    return [{"prompt": q, "completion": a} for q, a in found.items()]


def files(seed: str = SEED) -> dict[str, str]:
    """The content of each file by its name."""
    random = Random(seed)
    lines: dict[str, list[Line]] = {name: [] for name in WAYS}
    for family in FAMILIES:
        for name, facts in split(family, random).items():
            for x in facts:
                lines[name] += asked(family, x, WAYS[name], random)
    lines["train"] += talk(random)
    result = {}
    for name, each in lines.items():
        random.shuffle(each)
        rows = (json.dumps(line, ensure_ascii=False) for line in each)
        result[f"{name}.jsonl"] = "".join(f"{row}\n" for row in rows)
    return result


def main() -> None:
    folder = Path(sys.argv[1]) if sys.argv[1:] else HERE
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

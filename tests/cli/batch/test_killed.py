"""A batch that is killed and started again, with the demo model."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from command import GREEDY, Runner
from places import SHAPES

LINES = 40


def write(folder: Path) -> None:
    (folder / "shapes.png").write_bytes(SHAPES.read_bytes())
    lines = [
        {"prompt": f"What is {n} and {n}?", "max_tokens": 12} for n in range(LINES)
    ]
    lines[5] = {"prompt": "What is in it?", "image": "shapes.png", "max_tokens": 12}
    lines[9] = {"prompt": "What is in it?", "image": "missing.png"}
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "in.jsonl").write_text(text)


@pytest.mark.slow
def test_a_killed_run_goes_on(gemma4: Runner) -> None:
    write(gemma4.folder)
    words = ("batch", "in.jsonl", "-m", "demo", *GREEDY)
    out = gemma4.folder / "out.jsonl"
    for done, number in ((3, signal.SIGKILL), (12, signal.SIGINT)):
        process = gemma4.start(*words, "-o", "out.jsonl")
        while not out.exists() or out.read_bytes().count(b"\n") < done:
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, number)
        process.communicate(timeout=60)
        assert process.returncode == (-9 if number == signal.SIGKILL else 130)
        begun = out.read_bytes()
        assert done <= begun.count(b"\n") < LINES
    result = gemma4(*words, "-o", "out.jsonl")
    assert result.returncode == 5 and "Going on behind" in result.stderr
    assert out.read_bytes().startswith(begun)
    alone = gemma4(*words, "--rows", "1", "--draft", "off")
    assert alone.returncode == 5

    def plain(text: str) -> list[tuple[object, ...]]:
        answers = map(json.loads, text.splitlines())
        return [(a["id"], a["text"], a.get("error"), a["key"]) for a in answers]

    assert plain(out.read_text()) == plain(alone.stdout)
    assert [a[0] for a in plain(alone.stdout)] == list(range(1, LINES + 1))
    assert [n for n, a in enumerate(plain(alone.stdout)) if a[2]] == [9]

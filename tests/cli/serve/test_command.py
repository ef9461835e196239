"""`gemma4 serve` as a process."""

import json
import signal
import urllib.request
from pathlib import Path

import pytest
from command import QUESTION, Runner


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_stopped(gemma4: Runner, number: int) -> None:
    words = ("serve", "-m", "demo", "--port", "0", "--temperature", "0")
    process = gemma4.start(*words)
    try:
        assert process.stdout
        url = process.stdout.readline().decode().strip()
        body = json.dumps({"messages": [{"role": "user", "content": QUESTION}]})
        asked = urllib.request.Request(f"{url}/v1/chat/completions", body.encode())
        with urllib.request.urlopen(asked) as reply:
            said = json.load(reply)["choices"][0]["message"]["content"]
        assert said == "The capital of France is Paris."
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, out) == (0, b"")
    assert b"/v1/chat/completions 200" in err and b"Traceback" not in err


@pytest.mark.slow
def test_what_was_read_is_there_for_the_next_server(
    gemma4: Runner, tmp_path: Path
) -> None:
    prompts = tmp_path / "data" / "gemma4" / "prompts"
    words = "The captain and his ship went out to sea again. " * 40
    for private, cached in (("1", 0), ("0", 0), ("0", 800)):
        gemma4.environ["GEMMA4_NO_HISTORY"] = private
        asked = {"messages": [{"role": "user", "content": words}], "max_tokens": 2}
        process = gemma4.start("serve", "-m", "demo", "--port", "0")
        try:
            assert process.stdout
            url = process.stdout.readline().decode().strip()
            body = json.dumps(asked).encode()
            to = urllib.request.Request(f"{url}/v1/chat/completions", body)
            with urllib.request.urlopen(to) as reply:
                usage = json.load(reply)["usage"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
        finally:
            process.kill()
            process.communicate()
        found = usage["prompt_tokens_details"]["cached_tokens"]
        assert found >= cached and bool(found) == bool(cached)
        assert prompts.exists() == (private == "0")


@pytest.mark.slow
def test_what_cannot_be_served(gemma4: Runner, tmp_path: Path) -> None:
    """Found before a model is loaded."""
    for words, code in (
        (["--host", "0.0.0.0"], 2),
        (["--allow-origin", "*"], 2),
        (["--allow-files", str(tmp_path / "missing")], 2),
        (["--api-key", str(tmp_path / "missing")], 5),
        (["--port", "70000"], 2),
        (["-m", "no/such/model"], 3),
        (["--draft", "lockup"], 2),
        (["-m", "demo", "--draft", str(tmp_path)], 3),
    ):
        done = gemma4("serve", *words)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert "Traceback" not in done.stderr

"""Commands over several processes: the answers of one, and an end for all."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import launching
import pytest
from command import COMMAND, ENDLESS, GREEDY, QUESTION, Runner
from places import DEMO as DEMO_MODEL

pytestmark = pytest.mark.slow
Processes = list[subprocess.Popen[str]]
COMMANDS = COMMAND[1:]
DEMO = ("-m", "demo", *GREEDY)


@contextmanager
def running(gemma4: Runner, count: int, *arguments: str) -> Iterator[Processes]:
    said = [*COMMANDS, *arguments]
    processes = launching.start(count, said, gemma4.folder, gemma4.environ)
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()  # which closes its pipes


def answers(gemma4: Runner, count: int, *arguments: str, said: str = "") -> str:
    """What the first process prints; the others are silent and all end well."""
    with running(gemma4, count, *arguments) as processes:
        ends = launching.finish(processes, said)
    assert [code for code, *_ in ends] == [0] * count, ends
    assert all(end[1:] == ("", "") for end in ends[1:])
    return ends[0][1]


def read_line(process: subprocess.Popen[str]) -> str:
    """A watchdog ends what never writes it."""
    assert process.stdout is not None
    watchdog = threading.Timer(launching.PATIENCE, process.kill)
    watchdog.start()
    try:
        return process.stdout.readline()
    finally:
        watchdog.cancel()


@pytest.mark.parametrize("options", [(), ("--kv-bits", "8"), ("--ple", "disk")])
def test_question(gemma4: Runner, options: tuple[str, ...]) -> None:
    asked = ("chat", QUESTION, *DEMO, "--draft", "off", *options)
    assert answers(gemma4, 2, *asked) == gemma4(*asked).stdout


def test_picture_is_seen_by_the_first_process(gemma4: Runner) -> None:
    from places import SHAPES

    asked = ("describe", str(SHAPES), *DEMO)
    assert answers(gemma4, 2, *asked) == gemma4(*asked).stdout


def test_lines_of_a_file(gemma4: Runner) -> None:
    """Several at once, on all sides; one of them is none."""
    lines = [{"prompt": QUESTION}, {"bad": 1}, {"prompt": "Count to five."}]
    questions = gemma4.folder / "questions.jsonl"
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = ("batch", str(questions), *DEMO, "--draft", "off")
    with running(gemma4, 2, *asked) as processes:
        ends = launching.finish(processes)
    assert [code for code, *_ in ends] == [5, 0], ends
    texts = [
        [json.loads(line)["text"] for line in out.splitlines()]
        for out in (ends[0][1], gemma4(*asked).stdout)
    ]
    assert texts[0] == texts[1] and len(texts[0]) == 3


def test_no_lines_from_a_pipe(gemma4: Runner) -> None:
    """It would never end."""
    with running(gemma4, 2, "batch", "-", *DEMO) as processes:
        ends = launching.finish(processes, '{"prompt": "Hi"}\n')
    assert [code for code, *_ in ends] == [2, 0], ends
    assert "mlx.launch pipes in never ends" in ends[0][2]


def other(snapshot: Path) -> None:
    config = snapshot / "config.json"
    config.write_text(config.read_text() + "\n")


def cut(snapshot: Path) -> None:
    weights = snapshot / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5000])


UNUSABLE: dict[Callable[[Path], None], str] = {
    other: r"Rank 1 \(127.0.0.1\) has another config.json",
    cut: r"Rank 1 \(127.0.0.1\): [^:]*model.safetensors is truncated",
    shutil.rmtree: "some/gemma is not here: gemma4 pull some/gemma gets it",
}


@pytest.mark.parametrize("harm", list(UNUSABLE))
def test_what_another_cannot_load_is_told(
    harm: Callable[[Path], None], gemma4: Runner, tmp_path: Path
) -> None:
    """Two Macs with a cache of the Hub each."""
    environs = launching.environments(2, tmp_path, gemma4.environ)
    for rank, environ in enumerate(environs):
        environ["HF_HOME"] = str(tmp_path / f"hub-{rank}")
        environ.pop("HF_HUB_CACHE", None)
        place = Path(environ["HF_HOME"], "hub", "models--some--gemma")
        snapshot = place / "snapshots" / ("a" * 40)
        shutil.copytree(DEMO_MODEL, snapshot)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("a" * 40)
        if rank == 1:
            harm(snapshot)
    said = [sys.executable, *COMMANDS, "chat", "Hi", "-m", "some/gemma"]
    processes = [
        subprocess.Popen(said, env=environ, cwd=tmp_path, stderr=subprocess.PIPE)
        for environ in environs
    ]
    ends = [process.communicate(timeout=launching.PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [3, 0], ends
    assert re.search(UNUSABLE[harm], ends[0][1].decode())


def test_conversation_goes_back(gemma4: Runner) -> None:
    """Caches are taken back, and returned to, on all sides."""
    words = [QUESTION, "And of Italy?", "/regen", "/undo", "Count to five.", "/bye"]
    said = "\n".join(words) + "\n"
    asked = ("chat", *DEMO, "--no-log")
    one = gemma4(*asked, "--interactive", stdin=said).stdout
    assert one.count("\n") >= 3
    assert answers(gemma4, 2, *asked, said=said) == one


def test_several_clients(gemma4: Runner) -> None:
    """Their answers are computed together, and are those of one process."""
    questions = [QUESTION, "What is the capital of Italy?", "Count to five."]

    def ask(url: str, question: str) -> str:
        body = {"messages": [{"role": "user", "content": question}], "temperature": 0}
        data, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/chat/completions", data, kind)
        with urllib.request.urlopen(request, timeout=launching.PATIENCE) as reply:
            found: dict[str, Any] = json.load(reply)
        return found["choices"][0]["message"]["content"]

    with running(gemma4, 2, "serve", "-m", "demo", "--port", "0") as processes:
        url, found = read_line(processes[0]).strip(), dict[str, str]()
        threads = [
            threading.Thread(target=lambda q=q: found.update({q: ask(url, q)}))
            for q in questions
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(launching.PATIENCE)
        processes[0].send_signal(signal.SIGTERM)
        ends = launching.finish(processes)
    assert [code for code, *_ in ends] == [0, 0], ends
    for question in questions:
        alone = gemma4("chat", question, *DEMO, "--draft", "off").stdout
        assert found[question].strip() == alone.strip()


@pytest.mark.parametrize("victim", [0, 2])
def test_one_dies_and_all_end(gemma4: Runner, victim: int, tmp_path: Path) -> None:
    """In the middle of an answer; and it is said once."""
    asked = ("chat", QUESTION, "-m", "demo", *ENDLESS, "--no-stop-loops", "--no-log")
    with running(gemma4, 3, *asked, "--max-tokens", "100000") as processes:
        assert processes[0].stdout is not None
        assert processes[0].stdout.read(10)
        processes[victim].kill()
        ends = [process.wait(60) for process in processes]
        said = "".join(p.stderr.read() for p in processes if p.stderr)
    assert ends == [-signal.SIGKILL if i == victim else 1 for i in range(3)]
    assert said.count("is gone: all end.") == 1


def test_ctrl_c_ends_all(gemma4: Runner) -> None:
    asked = ("chat", QUESTION, "-m", "demo", *ENDLESS, "--no-stop-loops", "--no-log")
    with running(gemma4, 2, *asked, "--max-tokens", "100000") as processes:
        assert processes[0].stdout is not None
        assert processes[0].stdout.read(10)
        for process in processes:  # as a terminal does
            process.send_signal(signal.SIGINT)
        ends = [process.wait(60) for process in processes]
    assert ends == [130, 0]


def test_ctrl_c_at_a_prompt_ends_all(gemma4: Runner) -> None:
    """It has ended what passed on the lines: no other could come."""
    with running(gemma4, 2, "chat", "-m", "demo", "--no-log") as processes:
        first = processes[0]
        assert first.stdin is not None
        first.stdin.write(f"{QUESTION}\n")
        first.stdin.flush()
        assert "Paris" in read_line(first)
        for process in processes:
            process.send_signal(signal.SIGINT)
        assert [process.wait(60) for process in processes] == [130, 0]


def test_ctrl_c_where_another_hangs(gemma4: Runner) -> None:
    """Sums that wait for it never return."""
    asked = ("chat", QUESTION, "-m", "demo", *ENDLESS, "--no-stop-loops", "--no-log")
    with running(gemma4, 3, *asked, "--max-tokens", "100000") as processes:
        assert processes[0].stdout is not None
        assert processes[0].stdout.read(10)
        processes[2].send_signal(signal.SIGSTOP)
        processes[0].send_signal(signal.SIGINT)
        assert processes[0].wait(60) == 130
        processes[1].wait(60)
        processes[2].send_signal(signal.SIGCONT)
        processes[2].wait(60)
        assert processes[0].stderr is not None
        assert processes[0].stderr.read().endswith("(stopped)\n")


def test_backends_that_are_not_for_this(gemma4: Runner) -> None:
    gemma4.environ |= {"NCCL_HOST_IP": "127.0.0.1", "MLX_WORLD_SIZE": "2"}
    said = []
    for rank in ("0", "1"):
        gemma4.environ["MLX_RANK"] = rank
        ended = gemma4("chat", "Hi", "-m", "demo")
        assert (ended.returncode, ended.stdout) == (2, "")
        said.append(ended.stderr)
    assert said[0].count("\n") == 1 and "--backend ring" in said[0]
    assert said[1] == ""


def test_help_keeps_nobody_waiting(gemma4: Runner) -> None:
    assert "Ask one question" in answers(gemma4, 2, "chat", "--help")


def test_without_the_others(gemma4: Runner, tmp_path: Path) -> None:
    """`mlx.launch -n 1` is no launch."""
    hostfile = tmp_path / "none"
    hostfile.write_text("\n")
    gemma4.environ |= {"MLX_RANK": "0", "MLX_HOSTFILE": str(hostfile)}
    assert gemma4("chat", QUESTION, *DEMO, "--draft", "off").stdout


def test_a_port_that_is_taken(gemma4: Runner, tmp_path: Path) -> None:
    """Is told in a line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        hostfile = tmp_path / "hosts.json"
        hosts = [[f"127.0.0.1:{port}"], ["127.0.0.1:1"]]
        hostfile.write_text(json.dumps(hosts))
        gemma4.environ |= {"MLX_RANK": "0", "MLX_HOSTFILE": str(hostfile)}
        ended = gemma4("chat", QUESTION, *DEMO)
    assert ended.returncode == 1
    assert "other processes cannot be reached" in ended.stderr

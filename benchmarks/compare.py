"""Compare this project with mlx-lm and mlx-vlm on the same random checkpoint.

    python benchmarks/compare.py [--tiny] [--prompt 512] [--decode 64] [--runs 5]

The table goes to stdout, progress to stderr. See benchmarks/README.md.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import report
from implementations import IMPLEMENTATIONS, OURS
from measure import (
    THIS_PYTHON,
    Round,
    WorkerError,
    has_module,
    run_round,
)
from shapes import FIRST_WORD, KINDS, config_of, tensor_shapes

from mlx_gemma4.bench.timing import prompt_of

DTYPES = ("float32", "bfloat16")
ROOT = Path(__file__).resolve().parent.parent / "build" / "benchmarks"
VERSIONS = "from importlib.metadata import version as v; print(v({!r}), v('mlx'))"


def parser() -> argparse.ArgumentParser:
    assert __doc__
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = sorted(set(KINDS) - {"tiny"})
    p.add_argument("--kind", nargs="+", choices=kinds, default=kinds)
    p.add_argument("--tiny", action="store_true", help="a very small model instead")
    p.add_argument("--prompt", nargs="+", type=_positive, default=[512], metavar="N")
    p.add_argument("--decode", type=_positive, default=64, metavar="N")
    p.add_argument("--runs", type=_positive, default=5, metavar="N")
    p.add_argument("--window", type=_positive, help="of the sliding layers")
    p.add_argument("--dtype", choices=DTYPES, default="float32")
    p.add_argument("--against", nargs="*", choices=list(IMPLEMENTATIONS)[1:])
    p.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="interpreter that has a program installed, if it is not this one",
    )
    p.add_argument("--folder", type=Path, default=ROOT, help="where checkpoints go")
    p.add_argument("--json", action="store_true", help="everything measured, as JSON")
    return p


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def interpreters(options: argparse.Namespace) -> tuple[dict[str, str], list[str]]:
    """Name -> interpreter of the programs to run, and the names of those not there."""
    chosen = dict(each.partition("=")[::2] for each in options.python)
    if unknown := set(chosen) - set(IMPLEMENTATIONS):
        raise WorkerError(f"--python names {unknown}; known: {set(IMPLEMENTATIONS)}.")
    wanted = [n for n in IMPLEMENTATIONS if n in (OURS, *(options.against or []))]
    if options.against is None:
        wanted = list(IMPLEMENTATIONS)
    pythons = {name: chosen.get(name, THIS_PYTHON) for name in wanted}
    absent = [n for n, p in pythons.items() if not has_module(p, IMPLEMENTATIONS[n][0])]
    if OURS in absent or (options.against is not None and absent):
        names = ", ".join(absent)
        raise WorkerError(f"Not installed: {names}. Install with pip, or use --python.")
    return {n: p for n, p in pythons.items() if n not in absent}, absent


def machine() -> dict[str, Any]:
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "OMP_NUM_THREADS": threads,
    }


def versions(pythons: dict[str, str]) -> dict[str, str]:
    """Name -> its version and that of mlx beside it."""
    found = {}
    for name, python in pythons.items():
        asked = [python, "-c", VERSIONS.format(name)]
        out = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        found[name] = "{} (mlx {})".format(*out.split())
    return found


def make(options: argparse.Namespace, kind: str) -> Path:
    """Write the checkpoint in a process of its own, whose memory is then free."""
    window = [str(options.window)] if options.window else []
    script = str(Path(__file__).with_name("checkpoint.py"))
    asked = [THIS_PYTHON, script, str(options.folder.resolve()), kind, options.dtype]
    done = subprocess.run([*asked, *window], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise WorkerError("The checkpoint could not be written.")
    return Path(done.stdout.strip())


def measure(
    options: argparse.Namespace, pythons: dict[str, str], kind: str, length: int
) -> dict[str, Any]:
    """All rounds of one checkpoint and prompt length."""
    folder = make(options, kind)
    text = config_of(kind, options.dtype, options.window)["text_config"]
    shapes = tensor_shapes(text).values()
    prompt = prompt_of(length, text["vocab_size"], FIRST_WORD)
    rounds: list[Round] = []
    for number in range(options.runs):
        say(f"{kind}, prompt {length}: round {number + 1} of {options.runs}")
        order = list(pythons.items())[:: -1 if number % 2 else 1]
        rounds.append(
            run_round(dict(order), folder, options.dtype, prompt, options.decode)
        )
    return {
        "kind": kind,
        "parameters": sum(map(math.prod, shapes)),
        "dtype": options.dtype,
        "window": text["sliding_window"],
        "prompt": length,
        "decode": options.decode,
        "rows": report.rows(rounds, length),
        "agreement": report.agreement(rounds),
        "rounds": rounds,
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(case: dict[str, Any]) -> str:
    steps = case["rounds"][0].samples
    heading = (
        f"{case['kind']}: {case['parameters'] / 1e6:.1f} M parameters, "
        f"{case['dtype']}, window {case['window']}; prompt {case['prompt']}, then "
        f"{case['decode']} tokens; {len(case['rounds'])} rounds\n"
        "prompt tokens read at once: "
        + ", ".join(f"{name} {steps[name].prefill_step}" for name in sorted(steps))
    )
    sentences = "\n".join(case["agreement"])
    return f"{heading}\n\n{report.table(case['rows'])}\n\n{sentences}\n"


def run(options: argparse.Namespace) -> None:
    pythons, absent = interpreters(options)
    for name in absent:
        say(f"{name} is not installed here and left out.")
    about = {"machine": machine(), "versions": versions(pythons), "left_out": absent}
    if not options.json:
        print(", ".join(f"{k} {v}" for k, v in about["machine"].items()))
        print(", ".join(f"{k} {v}" for k, v in about["versions"].items()), end="\n\n")
    cases: list[dict[str, Any]] = []
    for kind in ["tiny"] if options.tiny else options.kind:
        for length in options.prompt:
            cases.append(measure(options, pythons, kind, length))
            if not options.json:
                print(show(cases[-1]), flush=True)
    if options.json:
        print(json.dumps(about | {"cases": cases}, default=asdict, indent=1))


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        run(parser().parse_args(arguments))
    except WorkerError as error:
        say(f"compare.py: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

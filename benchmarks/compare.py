"""Compare this project with mlx-lm and mlx-vlm on the same random checkpoint.

    python benchmarks/compare.py [--tiny] [--prompt 512] [--decode 64] [--runs 5]

The table goes to stdout, progress to stderr. See README.md here.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from programs import (
    BUILD,
    MODULES,
    OURS,
    THIS_PYTHON,
    failed,
    has_module,
    interpreters,
    machine,
    say,
    versions,
)
from race import Round, Sample, run_round
from report import Row, row, table
from shapes import FIRST_WORD, KINDS, config_of, tensor_shapes

from mlx_gemma4.bench.rounds import in_turn
from mlx_gemma4.bench.timing import prompt_of
from mlx_gemma4.errors import PeerError

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Metric:
    """A figure of a sample and the prompt's length; `rate` says that more is better."""

    label: str
    of: Callable[[Sample, int], float]
    rate: bool = False


METRICS = (
    Metric("prefill tok/s", lambda s, n: n / s.prefill.wall, rate=True),
    Metric("prefill tok/CPU s", lambda s, n: n / s.prefill.cpu, rate=True),
    Metric("decode tok/s", lambda s, n: (len(s.tokens) - 1) / s.decode.wall, True),
    Metric("decode tok/CPU s", lambda s, n: (len(s.tokens) - 1) / s.decode.cpu, True),
    Metric("first token s", lambda s, n: s.prefill.wall),
    Metric("start-up s", lambda s, n: s.start_up.wall),
    Metric("start-up CPU s", lambda s, n: s.start_up.cpu),
    Metric("first answer s", lambda s, n: s.start_up.wall + s.first.wall),
    Metric("first answer CPU s", lambda s, n: s.start_up.cpu + s.first.cpu),
    Metric("peak RSS MB", lambda s, n: s.rss_bytes / 1e6),
    Metric("peak MLX MB", lambda s, n: s.mlx_bytes / 1e6),
)


def parser() -> argparse.ArgumentParser:
    assert __doc__
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = [name for name in KINDS if name.endswith("-like")]
    p.add_argument("--kind", nargs="+", choices=kinds, default=kinds)
    p.add_argument("--tiny", action="store_true", help="a very small model instead")
    p.add_argument("--prompt", nargs="+", type=_positive, default=[512], metavar="N")
    p.add_argument("--decode", type=_positive, default=64, metavar="N")
    p.add_argument("--runs", type=_positive, default=5, metavar="N")
    p.add_argument("--window", type=_positive, help="of the sliding layers")
    p.add_argument("--dtype", choices=DTYPES, default="float32")
    p.add_argument("--against", nargs="*", choices=list(MODULES)[1:])
    p.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="interpreter that has a program installed, if it is not this one",
    )
    p.add_argument("--folder", type=Path, default=BUILD, help="where checkpoints go")
    p.add_argument("--json", action="store_true", help="everything measured, as JSON")
    return p


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def present(options: argparse.Namespace) -> tuple[dict[str, str], list[str]]:
    """Name -> interpreter of the programs to run, and the names of those not there."""
    wanted = list(MODULES) if options.against is None else [OURS, *options.against]
    pythons = {n: p for n, p in interpreters(options.python).items() if n in wanted}
    absent = [n for n, p in pythons.items() if not has_module(p, MODULES[n])]
    if OURS in absent or (options.against is not None and absent):
        say(f"Not installed: pip install {' '.join(absent)}, or use --python.")
        sys.exit(2)
    return {n: p for n, p in pythons.items() if n not in absent}, absent


def make(options: argparse.Namespace, kind: str) -> Path:
    """Write the checkpoint in a process of its own, whose memory is then free."""
    window = [str(options.window)] if options.window else []
    script = str(Path(__file__).with_name("checkpoint.py"))
    asked = [THIS_PYTHON, script, str(options.folder.resolve()), kind, options.dtype]
    done = subprocess.run([*asked, *window], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise PeerError("The checkpoint could not be written.")
    return Path(done.stdout.strip())


def rows(rounds: Sequence[Round], prompt: int) -> list[Row]:
    names = sorted(rounds[0].samples, key=lambda name: (name != OURS, name))
    return [
        row(
            metric.label,
            {n: [metric.of(r.samples[n], prompt) for r in rounds] for n in names},
            metric.rate,
        )
        for metric in METRICS
    ]


def agreement(rounds: Sequence[Round]) -> list[str]:
    """One sentence per other program; the round that agrees least counts."""
    total = len(rounds[0].samples[OURS].tokens)
    sentences = []
    for name in sorted(rounds[0].agreement):
        worst = min((r.agreement[name] for r in rounds), key=lambda a: a.same)
        sentence = f"all {total} greedy tokens of {name} equal ours"
        if worst.gap is not None:
            sentence = (
                f"greedy tokens of {name} differ from ours at number {worst.same + 1} "
                f"of {total}, where two logits of ours are {worst.gap:.2g} apart"
            )
        sentences.append(sentence)
    return sentences


def measure(
    options: argparse.Namespace, pythons: dict[str, str], kind: str, length: int
) -> dict[str, Any]:
    """All rounds of one checkpoint and prompt length."""
    folder = make(options, kind)
    config = config_of(kind, options.dtype, options.window)
    text = config["text_config"]
    prompt = prompt_of(length, text["vocab_size"], FIRST_WORD)
    rounds: list[Round] = []
    for number in range(1, options.runs + 1):
        say(f"{kind}, prompt {length}: round {number} of {options.runs}")
        order = dict(in_turn(pythons.items(), number))
        rounds.append(run_round(order, folder, options.dtype, prompt, options.decode))
    return {
        "kind": kind,
        "parameters": sum(map(math.prod, tensor_shapes(config).values())),
        "dtype": options.dtype,
        "window": text["sliding_window"],
        "prompt": length,
        "decode": options.decode,
        "rows": rows(rounds, length),
        "agreement": agreement(rounds),
        "rounds": rounds,
    }


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
    return f"{heading}\n\n{table(case['rows'])}\n\n{sentences}\n"


def run(options: argparse.Namespace) -> None:
    pythons, absent = present(options)
    for name in absent:
        say(f"{name} is not installed here and left out: pip install {name}")
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


def main() -> int:
    try:
        run(parser().parse_args())
    except PeerError as error:
        return failed(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())

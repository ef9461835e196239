"""`gemma4 bench --drafts`: what drafts gain on this machine, with this model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import mlx.core as mx

from mlx_gemma4 import __version__
from mlx_gemma4.bench.drafting import OFF, Answered, Task, contenders
from mlx_gemma4.bench.rounds import compared, ratios, spread, take_rounds
from mlx_gemma4.bench.timing import OURS
from mlx_gemma4.bench.traffic import model_dtype
from mlx_gemma4.config.ple import Ple

from ..loading import open_model
from ..progress import Progress
from ..render import Screen
from ..tables import columns
from .report import packed, shown, verdict
from .rounds import told_by

TELL = "Tell me in about 200 words how bread is made."
QUOTE = """Repeat this text as it is, with `garden` in place of `yard`:

On Monday the children planted beans along the wall of the yard. By Wednesday the rain \
had washed half of them away, so they dug the yard again and set the beans deeper. Two \
weeks later the first leaves came up, and by July nobody could see the wall from the \
yard any more. Their neighbour, who had laughed at them, asked for a handful of beans \
to plant in his own yard."""
HEAD = ("", "decode tok/s", "accepted", f"decode / {OFF}")

Found = Mapping[str, Sequence[Answered]]


@dataclass(frozen=True)
class Facts:
    model: str
    device: str
    dtype: str
    drafter: bool
    most: int
    runs: int
    versions: dict[str, str]
    kv_bits: int | None = None


def measure(
    name: str | None,
    prompt: str | None,
    most: int,
    runs: int,
    yes: bool,
    screen: Screen,
    ple: Ple = Ple.AUTO,
    kv_bits: int | None = None,
) -> tuple[Facts, dict[str, Found]]:
    """Rounds of answers to each prompt."""
    model, processor, name = open_model(
        name, screen, yes=yes, draft=None, ple=ple, kv_bits=kv_bits
    )
    drafter = model.drafter is not None
    if not drafter:
        screen.note("The model has no drafter here: drafts come from the text alone.")
    facts = Facts(
        name,
        str(mx.device_info().get("device_name", "CPU")),
        str(model_dtype(model)).removeprefix("mlx.core."),
        drafter,
        most,
        runs,
        {OURS: __version__, "mlx": version("mlx")},
        kv_bits,
    )
    found: dict[str, Found] = {}
    for text in [TELL, QUOTE] if prompt is None else [prompt]:
        task = Task(text.partition("\n")[0], text, most, kv_bits=kv_bits)
        kinds = contenders(model, processor, task)
        with Progress(screen, "", (runs + 1) * len(kinds)) as bar:
            answers = take_rounds(kinds, range(runs + 1), told_by(bar))
        found[task.name] = {kind: rest for kind, (_, *rest) in answers.items()}
    return facts, found


def lines(facts: Facts, found: Mapping[str, Found]) -> list[str]:
    """A table for each prompt."""
    versions = ", ".join(f"{name} {number}" for name, number in facts.versions.items())
    text = [
        f"{facts.model} in {facts.dtype}{packed(facts.kv_bits)} on {facts.device}; "
        f"{versions}",
        f"answers of at most {facts.most} tokens, {facts.runs} "
        f"{'round' if facts.runs == 1 else 'rounds'} after a warm-up: "
        "median [least-most]",
    ]
    for prompt, answers in found.items():
        rows = [HEAD, *(_row(kind, answers) for kind in answers)]
        text += ["", prompt, *columns(rows, left=range(len(HEAD)))]
        text += [
            f"{kind} says something else in {count} of {facts.runs} rounds."
            for kind in answers
            if (count := _others(answers[kind], answers[OFF]))
        ]
    return text


def _row(kind: str, answers: Found) -> tuple[str, ...]:
    rates = [each.rate for each in answers[kind]]
    if kind == OFF:
        return kind, shown(spread(rates)), "", ""
    base = [each.rate for each in answers[OFF]]
    drafted = sum(each.drafted for each in answers[kind])
    accepted = sum(each.accepted for each in answers[kind])
    gain = f"{shown(ratios(rates, base))} {verdict(rates, base)}"
    return kind, shown(spread(rates)), f"{accepted} of {drafted}", gain


def _others(answers: Sequence[Answered], base: Sequence[Answered]) -> int:
    pairs = zip(answers, base, strict=True)
    return sum(one.tokens != other.tokens for one, other in pairs)


def as_json(facts: Facts, found: Mapping[str, Found]) -> dict[str, Any]:
    """Everything measured; `runs` are in the order in which they were taken."""
    return {
        **asdict(facts),
        "prompts": [
            {
                "prompt": prompt,
                "results": [_result(kind, answers) for kind in answers],
            }
            for prompt, answers in found.items()
        ],
    }


def _result(kind: str, answers: Found) -> dict[str, Any]:
    rates = [each.rate for each in answers[kind]]
    base = [each.rate for each in answers[OFF]]
    return {
        "name": kind,
        "decode_tps": asdict(spread(rates)),
        "decode_ratio": asdict(ratios(rates, base)),
        "verdict": compared(rates, base),
        "other_answers": _others(answers[kind], answers[OFF]),
        "runs": [
            {
                "tokens": len(each.tokens),
                "seconds": each.clock,
                "processor_seconds": each.processor,
                "drafted": each.drafted,
                "accepted": each.accepted,
            }
            for each in answers[kind]
        ],
    }

"""`gemma4 bench`: how fast a model is on this machine, and how much of it is used."""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlx_gemma4.config.ple import Ple
from mlx_gemma4.errors import install_command
from mlx_gemma4.reading.sizes import size

from .. import options
from ..errors import UsageError, reported
from ..loading import name_or_demo, warnings_noted
from ..models.obtaining import obtain
from ..progress import Progress
from ..render import Screen
from .options import Against, Context, Decode, Drafts, Prompt, Runs, Share
from .peers import MLX_LM, NONE, add_peer, peer_fits
from .rounds import told_by

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_gemma4.bench.timing import Contender, Series
    from mlx_gemma4.config import Config
    from mlx_gemma4.model import Gemma4

    from .report import Facts

DECODE = {"gpu": 128, "cpu": 32}


@dataclass(frozen=True)
class Wishes:
    contexts: list[int] | None
    decode: int
    runs: int
    against: str | None
    yes: bool = False
    ple: Ple = Ple.AUTO
    kv_bits: int | None = None


def bench(
    model: options.Model = None,
    context: Context = None,
    decode: Decode = None,
    runs: Runs = 5,
    against: Against = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
    share: Share = False,
    drafts: Drafts = False,
    prompt: Prompt = None,
    ple: options.PerLayer = Ple.AUTO,
    kv_bits: options.KvBits = None,
) -> None:
    """Measure reading and decoding, and compare in rounds.

    Ranges are the least and the most of all rounds. Where two overlap, or of fewer than
    three rounds, nothing is said about which is faster. The Metal kernels are checked
    again before, and which of them do is remembered.

    Examples:
    gemma4 bench -m e4b
    gemma4 bench -m ./my-model --context 512,4096 --against none
    gemma4 bench -m e4b --kv-bits 8 --context 4096,16384
    gemma4 bench -m e4b --drafts --prompt "Write a haiku"
    """
    with reported(as_json):
        screen = Screen(as_json=as_json)
        if drafts:
            check_alone(context, against, share)
            bench_drafts(model, prompt, decode, runs, yes, screen, ple, kv_bits or None)
            return
        if prompt is not None:
            raise UsageError("--prompt goes with --drafts.")
        contexts = None if context is None else parse_contexts(context)
        if against not in (None, MLX_LM, NONE):
            raise UsageError(f"--against takes {MLX_LM} or {NONE}, not '{against}'.")
        if share and not os.access(".", os.W_OK):
            raise UsageError("--share writes into the current folder: not to this one.")
        most = decode or default_decode()
        wishes = Wishes(contexts, most, runs, against, yes, ple, kv_bits or None)
        facts, series = run(name_or_demo(model, screen), wishes, screen)
        from . import report as bench_report

        if as_json:
            screen.json(bench_report.as_json(facts, series))
        else:
            print("\n".join(bench_report.lines(facts, series)))
        if share:
            share_with_others(facts, series, screen)


def check_alone(context: str | None, against: str | None, share: bool) -> None:
    given = {"--context": context, "--against": against, "--share": share}
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} does not go with --drafts.")


def bench_drafts(
    model: str | None,
    prompt: str | None,
    most: int | None,
    runs: int,
    yes: bool,
    screen: Screen,
    ple: Ple,
    kv_bits: int | None,
) -> None:
    """Answers without drafts and with them."""
    from . import drafts

    if prompt is not None and not prompt.strip():
        raise UsageError("--prompt is empty.")
    most = most or 2 * default_decode()
    facts, found = drafts.measure(model, prompt, most, runs, yes, screen, ple, kv_bits)
    if screen.as_json:
        screen.json(drafts.as_json(facts, found))
    else:
        print("\n".join(drafts.lines(facts, found)))


def share_with_others(
    facts: "Facts", series: "dict[int, list[Series]]", screen: Screen
) -> None:
    from mlx_gemma4.doctor.machine import Machine

    from .share import write

    file = write(facts, series, Machine.here())
    screen.note(f"Written to ./{file}: read it, and attach it to an issue.")


def parse_contexts(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not (word.isascii() and word.isdecimal() and int(word)):
            raise UsageError(
                f"--context takes whole numbers from 1 with commas, not '{text}'."
            )
    return [int(word) for word in words]


def default_decode() -> int:
    import mlx.core as mx

    return DECODE["gpu" if mx.metal.is_available() else "cpu"]


def run(
    name: str, wishes: Wishes, screen: Screen
) -> "tuple[Facts, dict[int, list[Series]]]":
    """Everything there is to measure, by context."""
    from mlx_gemma4.config import Config
    from mlx_gemma4.hub.resolve import resolve

    name = obtain(name, screen, wishes.yes, to_chat=False)
    folder = resolve(name)
    config = Config.from_file(folder / "config.json")
    check(config, wishes)
    facts, series, later = measure_ours(name, folder, config, wishes, screen)
    if later:  # ours has left the memory by now
        measure_alone(folder, facts, series, wishes, screen)
    return facts, series


def check(config: "Config", wishes: Wishes) -> None:
    """Refuses before anything is loaded."""
    from mlx_gemma4.bench.peer import installed
    from mlx_gemma4.bench.timing import check_reach
    from mlx_gemma4.cache import check_kv_bits

    check_kv_bits(wishes.kv_bits, config.text_config)
    for context in wishes.contexts or [1]:
        check_reach(config.text_config, context, wishes.decode)
    if wishes.against == MLX_LM and not installed():
        raise UsageError(f"mlx-lm is not installed: {install_command('mlx-lm')}")


def measure_ours(
    name: str, folder: "Path", config: "Config", wishes: Wishes, screen: Screen
) -> "tuple[Facts, dict[int, list[Series]], bool]":
    """Facts, results, and whether mlx-lm has to be measured afterwards."""
    from mlx_gemma4.bench.timing import check_memory, contenders, default_contexts
    from mlx_gemma4.cache.packed import START

    from .larger import add_larger, learn_larger
    from .report import Facts

    screen.passing(f"Loading {name} …")
    try:
        with warnings_noted(screen):
            model = load_checked(folder, config, screen, wishes.ple)
    finally:
        screen.passed()
    bits = wishes.kv_bits
    contexts = wishes.contexts or default_contexts(model, wishes.decode, bits)
    most = max(contexts) + wishes.decode
    check_memory(model, most, bits)
    if bits and most <= START:
        screen.note(
            f"--kv-bits changes nothing up to {START:,} tokens: choose a longer "
            "--context."
        )
    if (table := model.language_model.table) is not None:
        screen.note(f"Its per-layer embeddings, {size(table.nbytes)}, stay on disk.")
    facts = Facts.of(name, model, contexts, wishes.decode, wishes.runs, bits)
    with ExitStack() as stack:
        compared = contenders(model, bits)
        together = peer_fits(model, most)
        if together:
            add_peer(compared, stack, folder, facts, wishes.against, screen)
        added = add_larger(compared, stack, folder, model, most, screen, bits)
        found = rounds(compared, facts, screen)
    if added is not None:
        learn_larger(name, added, found, screen)
    return facts, found, not together


def load_checked(
    folder: "Path", config: "Config", screen: Screen, ple: Ple
) -> "Gemma4":
    """The model, with the kernels that a new check finds to do."""
    from mlx_gemma4.bench.auto import check_again
    from mlx_gemma4.checkpoint.load import prepare_model, recall_kernels

    def note(text: str) -> None:
        screen.passed()
        screen.note(text)

    prepared = prepare_model(folder, config=config, ple=ple)
    check_again(prepared, note)
    model = prepared.load()
    recall_kernels(prepared)
    return model


def measure_alone(
    folder: "Path",
    facts: "Facts",
    series: "dict[int, list[Series]]",
    wishes: Wishes,
    screen: Screen,
) -> None:
    """mlx-lm after ours, where both do not fit into memory."""
    import mlx.core as mx

    mx.clear_cache()
    compared: dict[str, Contender] = {}
    with ExitStack() as stack:
        add_peer(compared, stack, folder, facts, wishes.against, screen)
        if not compared:
            return
        screen.note("Two copies do not fit into memory: mlx-lm is measured afterwards.")
        facts.apart.append(MLX_LM)
        for context, found in rounds(compared, facts, screen).items():
            series[context] += found


def rounds(
    compared: "dict[str, Contender]", facts: "Facts", screen: Screen
) -> "dict[int, list[Series]]":
    """All rounds at all contexts."""
    from mlx_gemma4.bench.timing import measure, prompt_of

    found: dict[int, list[Series]] = {}
    for context in facts.contexts:
        screen.note(
            f"Context {context:,}: a warm-up and {facts.runs} "
            f"{'round' if facts.runs == 1 else 'rounds'} of "
            f"{', '.join(compared)}."
        )
        prompt = prompt_of(context, facts.token_rows)
        with Progress(screen, "", (facts.runs + 1) * len(compared)) as bar:
            found[context] = measure(
                compared, prompt, facts.decode, facts.runs, told_by(bar), bar.note
            )
    return found

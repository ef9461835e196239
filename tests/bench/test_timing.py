"""Rates and refusals of the library's measurements, without any timing."""

import pytest
import tiny

from mlx_gemma4.bench import timing as bench
from mlx_gemma4.bench.rounds import Spread, spread
from mlx_gemma4.bench.timing import Sample, Series
from mlx_gemma4.errors import BenchError
from mlx_gemma4.kernels import NAMES, enabled, using

TEXT = tiny.build("untied").config.text_config


def series(*seconds: float, name: str = "a") -> Series:
    """Decoded 10 tokens in each of `seconds`, behind 20 tokens read in 2 s."""
    samples = tuple(Sample(2.0, each, 7 + i) for i, each in enumerate(seconds))
    return Series(name, 20, 10, Sample(9.0, 9.0, 99), samples)


def test_rates_leave_the_warm_up_out() -> None:
    found = series(1.0, 2.0, 5.0)
    assert found.prefill_rates == [10, 10, 10]
    assert spread(found.decode_rates) == Spread(5.0, 2.0, 10.0)
    assert found.peak == 9


def test_contenders_take_turns_and_change_who_comes_first() -> None:
    asked: list[tuple[str, int, int]] = []

    def contender(name: str) -> bench.Contender:
        def run(prompt: list[int], decode: int) -> Sample:
            asked.append((name, len(prompt), decode))
            return Sample(1.0, 1.0, len(asked))

        return run

    seen: list[tuple[str, int]] = []
    both = {"a": contender("a"), "b": contender("b")}
    found = bench.measure(
        both, [1, 2], 9, 2, lambda *step: seen.append(step), pytest.fail
    )
    assert seen == [("b", 0), ("a", 0), ("a", 1), ("b", 1), ("b", 2), ("a", 2)]
    assert [name for name, *_ in asked] == [name for name, _ in seen]
    assert {prompt for _, prompt, _ in asked} == {2}
    assert [decode for *_, decode in asked] == [bench.WARM_UP] * 2 + [9] * 4
    assert [(each.name, each.decoded) for each in found] == [("a", 9), ("b", 9)]
    assert [each.warm_up.peak for each in found] == [2, 1]
    assert [s.peak for s in found[1].samples] == [4, 5]


def test_our_contender_reads_the_prompt_and_ignores_stop_tokens() -> None:
    model = tiny.build("E2B")
    lengths: list[int] = []
    call = type(model).hidden

    class Counting(type(model)):
        def hidden(self, inputs, *arguments, **options):  # type: ignore
            lengths.append(inputs.shape[1])
            return call(self, inputs, *arguments, **options)

    model.__class__ = Counting
    sample = bench.contender(model)(bench.prompt_of(11, 96), 6)
    assert lengths == [11, *[1] * 6]
    assert sample.first_token > 0 and sample.decode > 0 and sample.peak > 0


@pytest.mark.parametrize("on", [(), ("norms", "gate")])
def test_kernels_that_are_on_are_measured_against_none(
    on: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def run(prompt: list[int], decode: int) -> Sample:
        seen.append([name for name in NAMES if enabled(name)])
        return Sample(1.0, 1.0, 1)

    monkeypatch.setattr(bench, "contender", lambda *_: run)
    monkeypatch.setattr(bench.mx.metal, "is_available", lambda: True)
    with using(*on):
        every = bench.contenders(tiny.build("untied"))
        for each in every.values():
            each([1], 1)
    assert list(every) == (["kernels off", "kernels on"] if on else ["kernels off"])
    assert seen == [[], list(on)][: len(every)]


def test_without_metal_there_is_nothing_to_switch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench.mx.metal, "is_available", lambda: False)
    assert list(bench.contenders(tiny.build("untied"))) == [bench.OURS]


def test_prompts_stay_in_the_vocabulary() -> None:
    prompt = bench.prompt_of(300, 96)
    assert len(prompt) == 300 and len(set(prompt)) > 20
    assert min(prompt) >= 0 and max(prompt) < 96


def test_contexts_beyond_the_model_are_refused() -> None:
    most = TEXT.max_position_embeddings
    assert most == 4096
    bench.check_reach(TEXT, 4087, decode=8)
    with pytest.raises(BenchError, match=r"holds 4,096\. .* at 4,087 tokens or less"):
        bench.check_reach(TEXT, 4088, decode=8)
    with pytest.raises(BenchError, match="5,000 cannot be decoded"):
        bench.check_reach(TEXT, 1, decode=5000)


def test_memory_that_would_not_suffice_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny.build("untied")
    need = bench.memory_needed(model, 100)
    assert need > bench.memory_needed(model, 99)
    monkeypatch.setattr(bench, "memory_limit", lambda: need)
    bench.check_memory(model, 100)
    with pytest.raises(MemoryError, match="context of 101 tokens"):
        bench.check_memory(model, 101)


def test_default_contexts_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "CONTEXTS", {"cpu": (128, 512), "gpu": (128, 512)})
    model = tiny.build("untied")
    assert bench.default_contexts(model, 8) == [128, 512]
    assert bench.default_contexts(tiny.build("untied", max_position_embeddings=300), 8)
    need = bench.memory_needed(model, 300)
    monkeypatch.setattr(bench, "memory_limit", lambda: need / bench.FILLED)
    assert bench.default_contexts(model, 8) == [128]

"""generation_config.json by what its values do: obeyed, neutral, said, or refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import real
import tiny
from places import REAL
from tiny_tokenizer import write_json

from mlx_gemma4.config import Config, ConfigWarning
from mlx_gemma4.errors import CheckpointError
from mlx_gemma4.prompt.defaults import GenerationDefaults
from mlx_gemma4.sampling import Sampling

VOCABULARY, CONTEXT = 96, 4096  # of the tiny configuration
TOKENIZER: Any = SimpleNamespace(special_tokens={"<turn|>": 5}, eos_token_id=1)
# What transformers writes without being asked, and what other programs write for "off".
NEUTRAL = {
    "_from_model_config": True,
    "transformers_version": "4.57.1",
    "bad_words_ids": None,
    "begin_suppress_tokens": [],
    "bos_token_id": 2,
    "cache_implementation": "hybrid",
    "diversity_penalty": 0.0,
    "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "forced_bos_token_id": None,
    "guidance_scale": 1,
    "length_penalty": 1.0,
    "max_length": 20,
    "max_new_tokens": CONTEXT,
    "min_length": 0,
    "min_p": 0,
    "no_repeat_ngram_size": 0,
    "num_assistant_tokens": 20,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "output_scores": False,
    "pad_token_id": 0,
    "penalty_alpha": None,
    "repetition_penalty": 1.0,
    "return_dict_in_generate": False,
    "sequence_bias": {},
    "suppress_tokens": [],
    "typical_p": 1.0,
    "use_cache": True,
    "invented": "",
}


@pytest.fixture(scope="module")
def config() -> Config:
    return Config.from_dict(tiny.config_dict("demo"))


@pytest.fixture
def defaults(tmp_path: Path, config: Config) -> Any:
    def read(**stated: Any) -> GenerationDefaults:
        path = tmp_path / "generation_config.json"
        write_json(path, stated)
        return GenerationDefaults.from_file(path, config, TOKENIZER)

    return read


def test_an_answer_must_be_able_to_end(defaults: Any) -> None:
    stops = defaults().stop_tokens
    assert defaults(suppress_tokens=list(stops[1:])).suppress_tokens == stops[1:]
    with pytest.raises(CheckpointError, match="no answer would end without these"):
        defaults(suppress_tokens=[*stops, 3])


def test_neutral_values_say_and_change_nothing(defaults: Any) -> None:
    """Warnings are errors in these tests."""
    assert defaults(**NEUTRAL) == defaults(min_p=0)


@pytest.mark.parametrize("file", sorted(REAL.rglob("generation_config.json")), ids=str)
def test_real_files_are_read_without_a_warning(file: Path) -> None:
    config = Config.from_dict(real.read("E2B"))
    found = GenerationDefaults.from_file(file, config, TOKENIZER)
    assert found.sampling == Sampling(1.0, 0.95, 64)
    assert {1, 106, 50} <= {*found.stop_tokens, 106, 50}
    never = (258883, 258882) if "12B" in str(file) else ()
    assert found.suppress_tokens == never


@pytest.mark.parametrize("off", [-1, 0])
def test_top_k_can_be_off(defaults: Any, off: int) -> None:
    assert defaults(top_k=off, top_p=0.9).sampling.top_k == 0


def test_top_k_may_exceed_the_vocabulary(defaults: Any) -> None:
    assert defaults(top_k=10_000).sampling.top_k == 10_000


def test_what_a_file_that_samples_leaves_out_is_the_reference_s(defaults: Any) -> None:
    assert defaults(do_sample=True).sampling == Sampling(1.0, 1.0, 50)
    assert defaults(temperature=0.5).sampling == Sampling(0.5, 1.0, 50)
    assert defaults(do_sample=False).sampling == Sampling(0.0)
    assert defaults(repetition_penalty=1.5).sampling == Sampling(repetition_penalty=1.5)


def test_suppressed_tokens_are_kept(defaults: Any) -> None:
    assert defaults(suppress_tokens=[7, 0, 95]).suppress_tokens == (7, 0, 95)


def test_what_is_not_obeyed_is_named_in_one_line(defaults: Any) -> None:
    stated = {
        "bad_words_ids": [[5]],
        "begin_suppress_tokens": [3],
        "cache_implementation": "quantized",
        "epsilon_cutoff": 1e-4,
        "forced_bos_token_id": 0,
        "forced_eos_token_id": 1,
        "guidance_scale": 0,
        "invented": "x",
        "max_length": CONTEXT - 1,
        "max_new_tokens": 9,
        "min_new_tokens": 3,
        "no_repeat_ngram_size": 2,
        "num_beams": 4,
        "penalty_alpha": 0.6,
        "seed": 5,
        "sequence_bias": [[[5], 1.0]],
        "stop_strings": ["x"],
        "typical_p": 0.9,
    }
    with pytest.warns(ConfigWarning) as said:
        found = defaults(**stated)
    assert found == defaults()
    (line,) = [str(each.message) for each in said]
    assert f"states {', '.join(sorted(stated))}, which" in line and "\n" not in line


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("suppress_tokens", [3, 96], r"96 is not in the vocabulary \(0 to 95\)"),
        ("suppress_tokens", [-1], "-1 is not in the vocabulary"),
        ("suppress_tokens", ["a"], "not a list of token ids"),
        ("suppress_tokens", [1.0], "not a list of token ids"),
        ("suppress_tokens", 3, "not a list of token ids"),
        ("suppress_tokens", 0, "not a list of token ids"),
        ("suppress_tokens", {"a": 1}, "not a list of token ids"),
        ("suppress_tokens", list(range(VOCABULARY)), "no token would be left"),
        ("eos_token_id", 96, "96 is not in the vocabulary"),
        ("eos_token_id", [1, True], "not a list of token ids"),
        ("top_k", -2, r"must be 0 \(off\) or more"),
        ("top_p", float("nan"), "not a usable number"),
        ("temperature", [], "not a usable number"),
        ("min_p", 10**40, "not a usable number"),
        ("repetition_penalty", True, "not a usable number"),
        ("do_sample", 1, "not true or false"),
    ],
)
def test_wrong_values_are_refused(
    defaults: Any, key: str, value: Any, told: str
) -> None:
    with pytest.raises(
        CheckpointError, match=rf"generation_config.json: {key} .*{told}"
    ):
        defaults(**{key: value})

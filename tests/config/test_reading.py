"""config.json: both dialects, no hidden defaults, errors that name the key."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import real
import tiny
import tiny_media
from places import RESAVED

from mlx_gemma4.config import (
    FULL,
    SLIDING,
    AudioConfig,
    AudioEmbedderConfig,
    Config,
    ConfigWarning,
    Patches,
    TextConfig,
    VisionConfig,
    VisionEmbedderConfig,
)
from mlx_gemma4.errors import CheckpointError

# Keys whose absence turns a feature off, as in the reference.
OFF = {
    "attention_bias": False,
    "attention_k_eq_v": False,
    "enable_moe_block": False,
    "eos_token_id": (),
    "final_logit_softcapping": None,
    "moe_intermediate_size": None,
    "num_experts": None,
    "num_global_key_value_heads": None,
    "num_kv_shared_layers": 0,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
    "top_k_experts": None,
    "use_bidirectional_attention": None,
    "use_double_wide_mlp": False,
}


def google(name: str) -> dict[str, Any]:
    return real.read(name)


def text_changed(**changes: Any) -> dict[str, Any]:
    config = tiny.config_dict("demo")
    config["text_config"] |= changes
    return config


def test_values_of_e2b() -> None:
    config = Config.from_dict(google("E2B"))
    text = config.text_config
    assert (text.hidden_size, text.num_hidden_layers) == (1536, 35)
    assert (text.head_dim, text.global_head_dim) == (256, 512)
    assert text.layer_types[3:6] == (SLIDING, FULL, SLIDING)
    assert text.hidden_size_per_layer_input == 256
    assert text.rope_parameters[FULL].rope_type == "proportional"
    assert text.rope_parameters[FULL].partial_rotary_factor == 0.25
    assert text.rope_parameters[SLIDING].rope_theta == 10_000
    assert text.final_logit_softcapping == 30.0
    assert text.use_bidirectional_attention is None
    assert config.eos_token_id == (1, 106)
    assert config.image_token_id == 258880
    assert config.eoa_token_id == 258883
    vision, audio = config.vision_config, config.audio_config
    assert isinstance(vision, VisionConfig) and vision.hidden_size == 768
    assert isinstance(audio, AudioConfig) and audio.output_proj_dims == 1536


def test_values_of_26b() -> None:
    config = Config.from_dict(google("26B-A4B"))
    text = config.text_config
    assert (text.num_experts, text.top_k_experts) == (128, 8)
    assert text.use_bidirectional_attention == "vision"
    assert [text.layer_key_value_heads(i) for i in (4, 5)] == [8, 2]
    assert [text.layer_head_dim(i) for i in (4, 5)] == [256, 512]
    vision = config.vision_config
    assert isinstance(vision, VisionConfig) and vision.standardize
    assert config.audio_config is None


@pytest.mark.parametrize("name", real.MODELS)
def test_both_dialects_give_the_same_config(name: str) -> None:
    resaved = json.loads((RESAVED / f"{name}.json").read_text())
    assert "per_layer_config" in resaved["text_config"]
    assert "global_head_dim" not in resaved["text_config"]
    assert Config.from_dict(resaved) == Config.from_dict(google(name))


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_per_layer_config_of_few_layers(variant: str) -> None:
    """Below eleven layers the re-saved keys are not padded with zeros."""
    config = tiny.config_dict(variant)
    resaved = copy.deepcopy(config)
    text = resaved.get("text_config", resaved)
    size = {"head_dim": text.pop("global_head_dim")}
    if (kv := text.pop("num_global_key_value_heads")) is not None:
        size["num_key_value_heads"] = kv
    kinds = enumerate(text["layer_types"])
    text["per_layer_config"] = {str(i): size for i, kind in kinds if kind == FULL}
    assert Config.from_dict(resaved) == Config.from_dict(config)


def test_kv_sources_of_e2b() -> None:
    text = Config.from_dict(google("E2B")).text_config
    sources = [text.kv_source(i) for i in range(35)]
    assert sources[:15] == list(range(15))
    expected = [14 if kind == FULL else 13 for kind in text.layer_types[15:]]
    assert sources[15:] == expected


def test_text_only_checkpoint() -> None:
    config = Config.from_dict(tiny.config_dict("text"))
    assert config.text_config.vocab_size_per_layer_input == 80
    assert config.vision_config is None and config.image_token_id is None
    assert config.eos_token_id == (1,)


def test_one_spelling_of_the_end_of_audio_is_enough() -> None:
    for key in ("eoa_token_id", "eoa_token_index"):
        config = tiny.config_dict("E2B")
        del config[key]
        assert Config.from_dict(config).eoa_token_id == 86


def test_untied_head_is_seen() -> None:
    config = Config.from_dict(tiny.config_dict("untied"))
    assert not config.text_config.tie_word_embeddings


@pytest.mark.parametrize("tied", [True, False])
def test_the_top_level_decides_whether_the_head_is_tied(tied: bool) -> None:
    """As in the reference, also where text_config says otherwise."""
    config = text_changed(tie_word_embeddings=not tied)
    config["tie_word_embeddings"] = tied
    assert Config.from_dict(config).text_config.tie_word_embeddings is tied


def test_quantization_is_kept() -> None:
    config = tiny.config_dict("E2B") | {"quantization": {"bits": 4, "group_size": 64}}
    assert Config.from_dict(config).quantization == {"bits": 4, "group_size": 64}


def test_frozen() -> None:
    config = Config.from_dict(tiny.config_dict("E2B"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.text_config.head_dim = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "key", sorted({f.name for f in dataclasses.fields(TextConfig)} - set(OFF))
)
def test_a_missing_key_is_named(key: str) -> None:
    config = tiny.config_dict("demo")
    del config["text_config"][key]
    with pytest.raises(CheckpointError, match=key):
        Config.from_dict(config)


@pytest.mark.parametrize("key", OFF)
@pytest.mark.parametrize("stated", [False, True])
def test_a_missing_or_null_key_turns_its_feature_off(key: str, stated: bool) -> None:
    config = tiny.config_dict("text")
    config.pop(key, None)
    if stated:
        config[key] = None
    # What a text without experts, shared layers or an end cannot do without.
    config |= {"vocab_size_per_layer_input": 80} if key != "pad_token_id" else {}
    assert getattr(Config.from_dict(config).text_config, key) == OFF[key]


SECTIONS = ("", "text_config", "vision_config", "audio_config")


def with_key(section: str, key: str, value: Any) -> dict[str, Any]:
    config = google("E2B")
    (config[section] if section else config)[key] = value
    return config


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", [1, 0.5, True, "a", [1], {"a": 1}])
def test_a_key_that_is_not_understood_is_said(section: str, value: Any) -> None:
    config = with_key(section, "new_trick", value)
    name = f"{section}.new_trick" if section else "new_trick"
    with pytest.warns(ConfigWarning, match=rf"states {name}, which"):
        assert Config.from_dict(config) == Config.from_dict(google("E2B"))


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", [], {}])
def test_a_key_that_is_off_never_matters(section: str, value: Any) -> None:
    config = with_key(section, "new_trick", value)
    assert Config.from_dict(config) == Config.from_dict(google("E2B"))


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("unsloth_fixed", True),
        ("unsloth_version", "2026.4.1"),
        ("model_name", "unsloth/gemma-4-E4B-it"),
        ("auto_map", {"AutoModel": "modeling.Model"}),
        ("_attn_implementation_autoset", True),
        ("attn_implementation", "sdpa"),
        ("tokenizer_class", "GemmaTokenizer"),
        ("router_aux_loss_coef", 0.001),
        ("embedding_dropout", 0.1),
        ("transformers_version", "5.24.0"),
        ("max_length", 20),
        ("num_beams", 1),
        ("num_return_sequences", 1),
        ("typical_p", 1.0),
        ("length_penalty", 1.0),
        ("repetition_penalty", 1.0),
        ("use_return_dict", True),
        ("cache_implementation", "hybrid"),
        ("output_attentions", True),
        ("bos_token_id", 2),
    ],
)
def test_bookkeeping_of_other_programs_is_passed_over(
    section: str, key: str, value: Any
) -> None:
    config = with_key(section, key, value)
    assert Config.from_dict(config) == Config.from_dict(google("E2B"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_beams", 4), ("repetition_penalty", 1.1), ("cache_implementation", "mine")],
)
def test_generation_that_would_change_an_answer_is_said(key: str, value: Any) -> None:
    with pytest.warns(ConfigWarning, match=f"states {key}, which"):
        Config.from_dict(with_key("", key, value))


@pytest.mark.parametrize("kind", ["image", "video", "audio", "boi", "eoi"])
def test_ids_under_the_names_of_other_models(kind: str) -> None:
    config = google("E2B")
    config[f"{kind}_token_index"] = config.get(f"{kind}_token_id")
    assert Config.from_dict(config) == Config.from_dict(google("E2B"))
    config[f"{kind}_token_index"] = 7
    with pytest.warns(ConfigWarning, match=f"states {kind}_token_index, which"):
        Config.from_dict(config)


@pytest.mark.parametrize("key", ["attn_logit_softcapping", "rope_scaling"])
def test_what_other_models_compute_is_refused(key: str) -> None:
    config = with_key("text_config", key, {"factor": 2.0})
    with pytest.raises(CheckpointError, match=f"text_config.*{key} is not supported"):
        Config.from_dict(config)


@pytest.mark.parametrize("value", [False, "", [], {}])
def test_what_is_empty_turns_a_feature_off(value: Any) -> None:
    for key in ("use_bidirectional_attention", "moe_intermediate_size"):
        config = with_key("text_config", key, value)
        assert Config.from_dict(config) == Config.from_dict(google("E2B"))


def test_several_keys_are_one_warning() -> None:
    config = with_key("vision_config", "b", 1) | {"a": 2}
    with pytest.warns(ConfigWarning) as caught:
        Config.from_dict(config)
    assert [str(each.message) for each in caught] == [
        "config.json states a, vision_config.b, which this version does not know and "
        "does not obey."
    ]


@pytest.mark.parametrize("section", ["vision_config", "audio_config"])
@pytest.mark.parametrize("key", ["hidden_size", "rms_norm_eps"])
def test_towers_name_a_missing_key_too(section: str, key: str) -> None:
    config = google("E2B")
    del config[section][key]
    with pytest.raises(CheckpointError, match=key):
        Config.from_dict(config)


def test_the_earlier_name_of_the_experts_size() -> None:
    config = text_changed(expert_intermediate_size=None)
    size = config["text_config"].pop("moe_intermediate_size")
    config["text_config"]["expert_intermediate_size"] = size
    assert Config.from_dict(config).text_config.moe_intermediate_size == size
    with pytest.raises(CheckpointError, match="contradict"):
        Config.from_dict(text_changed(expert_intermediate_size=size + 1))


@pytest.mark.parametrize("section", ["text_config", "vision_config", "audio_config"])
def test_a_section_of_another_model_is_refused(section: str) -> None:
    config = with_key(section, "model_type", "gemma3")
    with pytest.raises(CheckpointError, match=f"{section}.*model_type is 'gemma3'"):
        Config.from_dict(config)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hidden_activation": "relu"}, "relu"),
        ({"use_bidirectional_attention": "all"}, "all"),
        ({"num_hidden_layers": 7}, "layer_types"),
        ({"layer_types": ["chunked_attention"] * 6}, "chunked_attention"),
        ({"num_kv_shared_layers": 5}, "KV-shared"),
        ({"num_kv_shared_layers": 6}, "KV-shared"),
        ({"num_experts": None}, "num_experts"),
        ({"rope_parameters": {}}, "rope_parameters"),
        ({"layer_types": [SLIDING] * 6}, "no full_attention with keys"),
        ({"final_logit_softcapping": 0}, "final_logit_softcapping is 0"),
        ({"rms_norm_eps": -1}, "rms_norm_eps is -1"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
        ({"sliding_window": 0}, "sliding_window is 0"),
        ({"sliding_window": -1}, "sliding_window is -1"),
        ({"top_k_experts": -1}, "top_k_experts is -1"),
        ({"top_k_experts": 5}, "top_k_experts is 5, but num_experts is 4"),
        ({"enable_moe_block": "false"}, "enable_moe_block is 'false'"),
        ({"layer_types": [FULL] * 5 + [SLIDING]}, "layer_types ends in"),
        ({"vocab_size_per_layer_input": 0}, "vocab_size_per_layer_input is"),
        ({"pad_token_id": 96}, "pad_token_id 96 is not in"),
        ({"max_position_embeddings": None}, "max_position_embeddings is null"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"hidden_size": 2**40}, "hidden_size is 1099511627776"),
        ({"head_dim": 15}, "head_dim is 15, but must be even"),
        ({"num_key_value_heads": 3}, "not a multiple of num_key_value_heads 3"),
        ({"num_kv_shared_layers": -1}, "num_kv_shared_layers is -1"),
        ({"eos_token_id": "x"}, "eos_token_id is 'x'"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        Config.from_dict(text_changed(**changes))


def test_per_layer_config_that_gemma_4_cannot_have_is_refused() -> None:
    config = tiny.config_dict("31B")
    text = config["text_config"]
    del text["global_head_dim"], text["num_global_key_value_heads"]
    text["per_layer_config"] = {"0": {"head_dim": 32}, "5": {"head_dim": 16}}
    with pytest.raises(CheckpointError, match="per_layer_config"):
        Config.from_dict(config)


@pytest.mark.parametrize("model_type", [None, "gemma3", "gemma4_unified_vision"])
def test_another_model_is_refused(model_type: str | None) -> None:
    config = tiny.config_dict("E2B") | {"model_type": model_type}
    with pytest.raises(CheckpointError, match="model_type"):
        Config.from_dict(config)


def test_no_text_config() -> None:
    config = tiny.config_dict("E2B")
    del config["text_config"]
    with pytest.raises(CheckpointError, match="text_config"):
        Config.from_dict(config)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "JSON object"),
        ("", "not valid JSON"),
        ("[" * 200_000, "nests too deeply"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=said) as caught:
        Config.from_file(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Config.from_file(tmp_path / "config.json")


def test_the_vocabulary_may_be_repeated_but_not_contradicted() -> None:
    """mlx-lm reads its size at the top level."""
    config = tiny.config_dict("demo")
    size = config["text_config"]["vocab_size"]
    assert Config.from_dict({**config, "vocab_size": size}) == Config.from_dict(config)
    with pytest.raises(CheckpointError, match=r"vocab_size is 7, in text_config"):
        Config.from_dict({**config, "vocab_size": 7})


def unified(section: str, **values: object) -> dict[str, Any]:
    """A model without towers, with other values in a section."""
    config = tiny_media.config_dict("12B")
    config[section] = {**config[section], **values}
    return config


def test_a_model_without_towers() -> None:
    config = Config.from_dict(unified("audio_config"))
    assert isinstance(config.vision_config, VisionEmbedderConfig)
    assert config.vision_config.patches == Patches(side=12, pooling=1, places=40)
    assert config.audio_config == AudioEmbedderConfig(40, 1e-6)
    assert not config.has_towers and config.model_type == "gemma4_unified"
    alone = Config.from_dict(unified("text_config")["text_config"])
    assert alone.model_type == "gemma4_unified_text" and alone.text_only
    assert alone.text_config == config.text_config and not config.text_only


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("vision_config", {"model_patch_size": 11}, "model_patch_size is 11, not"),
        ("vision_config", {"output_proj_dims": 5}, "output_proj_dims and mm_embed_dim"),
        ("vision_config", {"mm_posemb_size": None}, "mm_posemb_size is null"),
        ("vision_config", {"model_type": "gemma4_vision"}, "'gemma4_unified_vision'"),
        ("audio_config", {"hidden_size": 41}, "contradict one another"),
        ("audio_config", {"rms_norm_eps": 0}, "rms_norm_eps is 0"),
        ("text_config", {"model_type": "gemma4_text"}, "'gemma4_unified_text'"),
    ],
)
def test_senses_without_towers_that_cannot_be(
    section: str, values: dict[str, object], words: str
) -> None:
    with pytest.raises(CheckpointError, match=words):
        Config.from_dict(unified(section, **values))

"""The demo's tokenizer: Gemma's pipeline over a small vocabulary.

Spaces become U+2581, text is split after each one, unknown characters fall back to
bytes. Merges never cross a digit, a newline or a punctuation mark. The ids of the
special tokens are small on purpose: a program that hard-codes Google's will notice.
words.txt holds the common words of the recipe and those of later skills (pictures,
speech); it is frozen, so that the tokenizer stays the same when the mix is tuned.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

VOCAB_SIZE = 1920
WEIGHT = 10  # merges need repeated pairs
SPECIAL_TOKENS = (
    *("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"),
    *("<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>"),
    *("<|tool_response>", "<tool_response|>", '<|"|>', "<|think|>"),
    *("<|channel>", "<channel|>", "<|turn>", "<turn|>"),
    *("<|image>", "<image|>", "<|image|>", "<|audio>", "<audio|>", "<|audio|>"),
    *("<|video|>", "<unused0>", "<unused1>", "<unused2>", "<unused3>"),
)
SPACE = "\u2581"
ROLES = {
    "boi_token": "<|image>",
    "image_token": "<|image|>",
    "eoi_token": "<image|>",
    "boa_token": "<|audio>",
    "audio_token": "<|audio|>",
    "eoa_token": "<audio|>",
}


def _corpus() -> Iterator[str]:
    """Every word of words.txt, with and without a space before it."""
    words = Path(__file__).with_name("words.txt").read_text(encoding="utf-8")
    for word in words.split():
        yield from [f"{word} {word}"] * WEIGHT


def train_tokenizer() -> dict[str, Any]:
    """The content of tokenizer.json."""
    tokenizer = Tokenizer(
        models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    pieces = Regex(rf"\d|\n|[^\w{SPACE}]")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pieces, "isolated"),
            pre_tokenizers.Split(SPACE, "merged_with_next"),
        ]
    )
    all_bytes = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[*SPECIAL_TOKENS, *all_bytes],
        initial_alphabet=[*map(chr, range(33, 127)), SPACE, "\n"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return _as_gemma(json.loads(tokenizer.to_str()))


def _as_gemma(content: dict[str, Any]) -> dict[str, Any]:
    """Swap the training pipeline for the one that Gemma's tokenizer.json states."""
    bos = SPECIAL_TOKENS.index("<bos>")
    specials = [
        token for token in content["added_tokens"] if token["content"][:3] != "<0x"
    ]
    text = {"Sequence": {"id": "A", "type_id": 0}}
    start = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    second = [
        {"SpecialToken": {"id": "<bos>", "type_id": 1}},
        {"Sequence": {"id": "B", "type_id": 1}},
    ]
    return content | {
        "added_tokens": specials,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, text],
            "pair": [start, text, *second],
            "special_tokens": {
                "<bos>": {"id": "<bos>", "ids": [bos], "tokens": ["<bos>"]}
            },
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
    }


def tokenizer_config(max_length: int) -> dict[str, Any]:
    """The content of tokenizer_config.json, with the names Google's file uses."""
    return {
        "tokenizer_class": "GemmaTokenizer",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
        "padding_side": "left",
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        **ROLES,
        "sot_token": "<|turn>",
        "eot_token": "<turn|>",
        "think_token": "<|think|>",
        "soc_token": "<|channel>",
        "eoc_token": "<channel|>",
        "std_token": "<|tool>",
        "etd_token": "<tool|>",
        "stc_token": "<|tool_call>",
        "etc_token": "<tool_call|>",
        "str_token": "<|tool_response>",
        "etr_token": "<tool_response|>",
        "escape_token": '<|"|>',
        "processor_class": "Gemma4Processor",
        "model_specific_special_tokens": ROLES,
    }


def write_tokenizer(folder: Path, max_length: int) -> None:
    """Train the tokenizer and write its two files into `folder`."""
    content = json.dumps(train_tokenizer(), ensure_ascii=False)
    (folder / "tokenizer.json").write_text(content + "\n", encoding="utf-8")
    settings = json.dumps(tokenizer_config(max_length), indent=2)
    (folder / "tokenizer_config.json").write_text(settings + "\n", encoding="utf-8")

"""A tokenizer in Gemma's form with a vocabulary one can read, as a folder."""

import json
from pathlib import Path
from typing import Any

SPECIAL = (
    *("<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>"),
    *("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>"),
    *('<|"|>', "<|image|>"),
)
CHARACTERS = "▁\nabcdefghijklmnopqrstuvwxyz.,!"
MERGES = (("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("▁", "w"), (".", "\n"))


SEQUENCE = {"Sequence": {"id": "A", "type_id": 0}}
BOS = {"SpecialToken": {"id": "<bos>", "type_id": 0}}


def begins_with(*pieces: dict[str, Any]) -> dict[str, Any]:
    """The post_processor of a tokenizer.json that puts `pieces` round a text."""
    bos = {"id": "<bos>", "ids": [SPECIAL.index("<bos>")], "tokens": ["<bos>"]}
    return {
        "type": "TemplateProcessing",
        "single": list(pieces),
        "pair": [*pieces, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<bos>": bos} if BOS in pieces else {},
    }


# As in the files of Google's models that chat, and of base models.
CHATS, IS_BASE = begins_with(SEQUENCE), begins_with(BOS, SEQUENCE)


def tokenizer_json() -> dict[str, Any]:
    """The content of tokenizer.json: 13 special tokens, 256 bytes, then pieces."""
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *CHARACTERS]
    pieces += ["".join(pair) for pair in MERGES]
    added = {"single_word": False, "lstrip": False, "rstrip": False}
    added |= {"normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": token, **added} for i, token in enumerate(SPECIAL)
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": [list(pair) for pair in MERGES],
        },
    }


def write_tokenizer(folder: Path) -> Path:
    """Write tokenizer.json and tokenizer_config.json into `folder`; return it."""
    write_json(folder / "tokenizer.json", tokenizer_json())
    names = {"bos_token": "<bos>", "eos_token": "<eos>"}
    write_json(folder / "tokenizer_config.json", names)
    return folder


def write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")

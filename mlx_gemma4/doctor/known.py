"""Whose file it is, by the SHA-256 of its bytes.

Only sums of whole published files stand here. A file with another sum need not be
wrong: fine-tunes, re-saves and later releases have their own.
"""

from dataclasses import dataclass

from ..chat.template import LARGE, SMALL, STALE, STALE_TEMPLATES


@dataclass(frozen=True)
class KnownFile:
    """Where a file is published; `remedy` says what to do about an outdated one."""

    whose: str
    remedy: str | None = None


ALL_IT = "google/gemma-4-{E2B,E4B,26B-A4B,31B}-it"

CONFIGS = {
    "1b28f3d2c3100f6c594754b81107428bd7b822a7f48272ca681dae9d2ec38330": (
        "google/gemma-4-E2B-it"
    ),
    "e5faef0dd1a8f2437f6010721146b85433eaa90e679ef011e803c7ffefae73b8": (
        "google/gemma-4-E2B"
    ),
    "33b10c02df3c2e8536cf323d29d53262aaa2f4d11dbe19bc729373fbe90295d4": (
        "google/gemma-4-E4B-it"
    ),
    "ed0c1eb3633de771906e9ba004a44cc5635bcc06ee2062077c3d2e88a50707d3": (
        "google/gemma-4-26B-A4B-it"
    ),
    "e967dd38bc5cfd38bd09a995a7bf4a754075df2b46aba68f7fbb5a791e6d8dd1": (
        "google/gemma-4-31B-it"
    ),
    "95b105ad23b315067985415e721ab9c19cfcf90918b34ea0fa479a08489d86b7": (
        "google/gemma-4-31B-it-qat-q4_0-unquantized"
    ),
    "da5bec8330a87d8cfe038f57b53b5f49559ee25322bc669cd8d256b3884e6ab3": (
        "google/gemma-4-12B"
    ),
    "aa3ba82096a857e8b9a157df21a50df15a67e889a84b7580a4eb4f2b86c28d78": (
        "google/gemma-4-12B-it-qat-w4a16-ct"
    ),
    "e9919fd0bf5c40aa35167ef116f708218ddffa9ec87c08a515466a2b10fbb22a": (
        "google/gemma-4-E2B-it-assistant"
    ),
    "6d12c87861fff3871d3a745011b0d852be6513f3ce594ae1e8d643dae9d3b9a8": (
        "mlx-community/gemma-4-e2b-it-4bit"
    ),
}
SETTINGS = {  # generation_config.json, processor_config.json, tokenizer_config.json
    "d4226bbe3117d2d253ba4609720ba82c6c4ce4627a9a6ae05387c78983ac03de": ALL_IT,
    "de16fa1d777387d5fe6df54a9565d9c0f1213f7b31f2a2cf44805e27686d9c7c": (
        "google/gemma-4-E2B"
    ),
    "b69207f9be617e982d13cc273cce6fd88c98dda99a4bdc5e2d52ffe0a0d9f0a9": (
        "google/gemma-4-31B-it-qat-q4_0-unquantized"
    ),
    "70110aa886fa7ee25ce47346d102dd29ca5f967500490b4362fc72068e1db70a": (
        "google/gemma-4-31B-it-qat-w4a16-ct"
    ),
    "fb53f4c64e58896a63472e8eb304397db4a39453e1da0f5d57625ec5a8c1050e": (
        "google/gemma-4-E4B-it-qat-mobile-transformers"
    ),
    "c70f87dc2995fc43406c0bcfb41b69c6d31c2d0c033fa09e536ffabc091ae24c": (
        "google/gemma-4-12B-it-qat-w4a16-ct"
    ),
    "32bdf45d2ad4cc29a0822ddd157a182de76644f0419a6228d151495256e9813c": ALL_IT,
    "1bd0d00776284f369c1eff5fb631e865dfcdca861e0b7d60dbef27fcf37436a8": (
        "mlx-community/gemma-4-{e2b,e4b}-it-4bit"
    ),
    "6b938e76555b3e9946890770e1abcd442a4718f34041a58e8139dc8ad34545c9": (
        "google/gemma-4-12B-it-qat-w4a16-ct"
    ),
    "12754e3442e47c1a1c55d550b617fc47ae227e8156ed1b1de0d8428195768b5c": (
        "google/gemma-4-E2B"
    ),
    "fe018e72b60cc96506ea9b5e07bbe561f5732ec71677760579f1d10e2e2760c7": (
        "google/gemma-4-12B-it-qat-w4a16-ct"
    ),
}
TOKENIZERS = {
    "cc8d3a0ce36466ccc1278bf987df5f71db1719b9ca6b4118264f45cb627bfe0f": ALL_IT,
    "12bac982b793c44b03d52a250a9f0d0b666813da566b910c24a6da0695fd11e6": (
        "google/gemma-4-…, base models"
    ),
}
TEMPLATES = {
    "0a33924ab0a12ef7653f1617adbeea38f7518f81803c5fc40cc3cd7330e4e141": (
        f"{SMALL}, July 2026 with the later fix for lists of types"
    ),
    "5b4029174cd161784e19c0281423983f3e795f0290ff555068aca3299299d5f7": (
        f"{LARGE}, July 2026 with the later fix for lists of types"
    ),
    "0a2c8073c878ab1da004bee933a998606537bbb62016310352c7285c3f01c5b5": (
        f"{SMALL}, since 15 July 2026"
    ),
    "ae53464bf3be25802b3a5b37def7fd89667067d7577049b3b2d74c4d8de4c6d4": (
        f"{LARGE}, since 15 July 2026"
    ),
}


def known_file(digest: str) -> KnownFile | None:
    """The published file whose bytes have this SHA-256, in hexadecimal digits."""
    if whose := STALE_TEMPLATES.get(digest):
        return KnownFile(f"{whose}, before July 2026: outdated", STALE)
    for table in (CONFIGS, SETTINGS, TOKENIZERS, TEMPLATES):
        if whose := table.get(digest):
            return KnownFile(whose)
    return None

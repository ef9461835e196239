"""adapter_config.json of PEFT's changed in hundreds of ways, beside PEFT itself.

A changed file may do one of three things: compute what PEFT computes with it, change
nothing where PEFT cannot load it, or be refused with the key in the error.
"""

import copy
import json
import random
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import tiny
from places import FIXTURES

from mlx_gemma4.tune.adapters import put_on
from mlx_gemma4.tune.errors import AdapterError, AdapterWarning
from mlx_gemma4.tune.formats import read_adapter
from mlx_gemma4.tune.peft import write_peft

pytestmark = [
    pytest.mark.reference,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("peft") is None, reason="needs the extra: peft"),
]

FOLDER = FIXTURES / "adapters"
VARIANTS = {"linear": "E2B", "dora": "E4B", "experts": "26B-A4B"}
TOKENS = tiny.random_tokens(20, golden.SEED)
LOGITS = golden.arrays("adapters/logits")
INVENTED = "new_trick"
SEED = 6
COUNT = 240
WRONG = (None, True, False, 0, 1, 2, 3, -1, 0.5, "x", "", [], {}, [1], ["x"], {"a": 1})
NAMES = (["q_proj"], "q_proj", r".*\.q_proj", r"(", "all-linear", ["layers.1"])
LIKELY: dict[str, tuple[Any, ...]] = {
    "target_modules": (*NAMES, ["q_proj", "up_proj"], r".*layers\.[0-3]\..*proj"),
    "exclude_modules": (*NAMES, ["layers.2.self_attn.q_proj"], r".*\.1\..*"),
    "rank_pattern": ({"q_proj": 2}, {"q_proj": 1}, {"(": 2}, {"q_proj": "2"}),
    "alpha_pattern": (
        *({"q_proj": 9}, {"proj": 9}, {r"layers\.1\..*": 1}, {"(": 1}),
        *(
            {"^model.*q_proj": 4, "q_proj": 5},
            {"q_proj": True},
            {"experts.down_proj": 7},
        ),
    ),
    "layers_to_transform": (1, [1], [0, 2], [], ["1"], 99),
    "layers_pattern": ("layers", ["layers"], ["h"], "("),
    "init_lora_weights": (
        *("gaussian", "eva", "orthogonal", "mica", "olora", "pissa", "corda"),
        *("pissa_niter_4", "loftq", "lora_ga", "Gaussian", "other"),
    ),
    "bias": ("none", "all", "lora_only", "some"),
    "lora_alpha": (1, 2.5, -1, 1e9, "3", True),
    "r": (1, 2, 4, 2.0, "2", True),
    "target_parameters": (["experts.gate_up_proj"], ["self_attn.q_proj.weight"], "x"),
    "peft_type": ("LORA", "IA3", "lora", "ADALORA"),
    "task_type": ("CAUSAL_LM", "SEQ_CLS"),
}
Mutation = tuple[str, str, Any]


def mutations() -> list[Mutation]:
    """Every likely value, and a draw of all keys with all sorts of values."""
    found = [
        (case, key, value)
        for key, values in LIKELY.items()
        for value in values
        for case in (("experts",) if "parameters" in key else ("linear",))
    ]
    draw = random.Random(SEED)
    for _ in range(COUNT):
        case = draw.choice([*VARIANTS])
        config = json.loads((FOLDER / case / "adapter_config.json").read_text())
        key = draw.choice([*config, INVENTED])
        values = [*WRONG, *LIKELY.get(key, ())]
        found.append((case, key, draw.choice(values)))
    return found


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """PEFT changes a model in its place, so that each test takes a copy."""
    import torch_model

    return {
        case: torch_model.build(tiny.config_dict(variant), golden.SEED)
        for case, variant in VARIANTS.items()
    }


def peft_logits(model: Any, folder: Path) -> np.ndarray | None:
    """None where PEFT cannot load the folder."""
    import torch_model
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted = PeftModel.from_pretrained(copy.deepcopy(model), str(folder))
            return torch_model.logits(adapted.eval(), TOKENS)
    except Exception:
        return None


@pytest.mark.parametrize("case", VARIANTS)
def test_peft_loads_what_we_write(case: str, tmp_path: Path, models: dict[str, Any]):
    model = tiny.build(VARIANTS[case], golden.SEED)
    write_peft(tmp_path, model, read_adapter(FOLDER / case, model), "base")
    found = peft_logits(models[case], tmp_path)
    assert found is not None
    golden.check_logits(found, LOGITS[case])


@pytest.mark.parametrize(
    "case, key, value",
    [
        pytest.param(*each, id=f"{i}-{each[0]}-{each[1]}")
        for i, each in enumerate(mutations())
    ],
)
def test_a_changed_file(
    case: str, key: str, value: Any, tmp_path: Path, models: dict[str, Any]
):
    folder = tmp_path / "adapter"
    shutil.copytree(FOLDER / case, folder)
    path = folder / "adapter_config.json"
    stated = json.loads(path.read_text()) | {key: value}
    path.write_text(json.dumps(stated))
    model = tiny.build(VARIANTS[case], golden.SEED)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", AdapterWarning)
        try:
            put_on(model, read_adapter(folder, model))
        except AdapterError as error:
            assert key in str(error)
            return
    told = [w for w in said if issubclass(w.category, AdapterWarning)]
    found = tiny.logits(model, TOKENS)
    if key == INVENTED and value:
        assert INVENTED in str(told[0].message)
        del stated[key]  # PEFT has its own way with these
        path.write_text(json.dumps(stated))
    off = value is None or value is False or value in ("", [], {})
    if off and np.abs(found - LOGITS[case]).max() <= golden.BAR:
        return  # as if the key was not there
    expected = peft_logits(models[case], folder)
    if expected is None:
        expected = LOGITS[case]
    assert np.abs(found - expected).max() <= golden.BAR

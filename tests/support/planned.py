"""Plans to convert the real models, from their shapes alone."""

from pathlib import Path

import real

from mlx_gemma4.checkpoint.files import StoredTensor
from mlx_gemma4.convert.plan import Plan, TensorPlan
from mlx_gemma4.convert.survey import Wishes, make_plan


def full_size(model: str, recipe: str = "4bit") -> Plan:
    shapes, config = real.used_shapes(model), real.read(model)
    sources = {
        name: StoredTensor(name, Path("model.safetensors"), "BF16", tuple(shape))
        for name, shape in shapes.items()
    }
    return make_plan(sources, config, Wishes(recipe), f"google/gemma-4-{model}-it")


def by_path(plan: Plan) -> dict[str, TensorPlan]:
    return {path: tensor for tensor in plan.tensors for path in tensor.paths}

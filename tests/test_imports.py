"""What may import what: one direction, no circles, and rooms that stay small."""

import ast
import importlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

# From the ground up: a room imports from its own floor and from those below.
FLOORS = (
    "errors state launched device reading",
    "config",
    "kernels layers rope cache",
    "text vision audio media",
    "model assistant sampling",
    "memory",
    "checkpoint sharding hub chat prompt forms",
    "decoding processes",
    "kept",
    "generation",
    "recordings",
    "tools",
    "bench doctor tune convert",
    "cli __main__",
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
ON_KERNELS = {
    "decoding",
    "generation",
    "layers",
    "text",
    "vision",
    "audio",
    "model",
    "assistant",
    "bench",
    "doctor",
    "kernels",
}
LARGE = {"convert", "tune", "kernels"}  # whose files explain themselves by their names


def sources() -> dict[str, Path]:
    """Module -> file, of the library, `convert` and `cli`, wherever they lie."""
    found: dict[str, Path] = {}
    for package in ("mlx_gemma4", "mlx_gemma4.convert", "mlx_gemma4.cli"):
        folder = Path(str(importlib.import_module(package).__file__)).parent
        for file in folder.rglob("*.py"):
            inside = file.relative_to(folder).with_suffix("").parts
            found[".".join((package, *inside)).removesuffix(".__init__")] = file
    return found


SOURCES = sources()


def named(module: str) -> Iterator[str]:
    """What a module's import statements name, those in functions included."""
    file = SOURCES[module]
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                whole = f"{start}.{alias.name}"
                yield whole if whole in SOURCES else start


@cache
def imports() -> dict[str, set[str]]:
    return {module: {n for n in named(module) if n in SOURCES} for module in SOURCES}


def room(module: str) -> str:
    """Of `mlx_gemma4.text.moe`, text."""
    return module.split(".")[1]


def test_no_circle() -> None:
    TopologicalSorter(imports()).prepare()


def test_one_direction() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in imports().items()
        for name in names
        if module != "mlx_gemma4" != name and FLOOR[room(module)] < FLOOR[room(name)]
    ]
    assert not wrong


def test_who_imports_kernels() -> None:
    """Loading asks which are on, and nothing else."""
    found = {
        (module, name)
        for module, names in imports().items()
        for name in names
        if name.startswith("mlx_gemma4.kernels") and room(module) not in ON_KERNELS
    }
    assert found <= {("mlx_gemma4.checkpoint.load", "mlx_gemma4.kernels.choice")}


def test_rooms_are_small() -> None:
    folders = Counter(file.parent for file in SOURCES.values())
    assert folders.pop(SOURCES["mlx_gemma4"].parent) <= 11  # __main__ is one
    assert folders.pop(SOURCES["mlx_gemma4.cli"].parent) <= 16
    assert {folder.name for folder, files in folders.items() if files > 14} <= LARGE

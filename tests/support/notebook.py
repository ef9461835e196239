"""Running a notebook's code without Jupyter."""

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any


def code_cells(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def shown(cell: dict[str, Any]) -> str:
    """What the notebook shows below a cell: printed text, then the last value."""
    found = ""
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            found += "".join(output["text"])
        else:
            found += "".join(output["data"]["text/plain"])
    return found


def run(cell: dict[str, Any], names: dict[str, Any]) -> str:
    """Runs a cell as Jupyter does; returns what it would show below it."""
    body = ast.parse("".join(cell["source"])).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return printed.getvalue() + ("" if value is None else repr(value))

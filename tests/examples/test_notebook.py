"""The notebook of examples/ shows what its code gives."""

from typing import Any

import pytest
from notebook import code_cells, run, shown
from places import EXAMPLES

NOTEBOOK = EXAMPLES / "tour.ipynb"


@pytest.mark.slow
@pytest.mark.skipif(
    not (EXAMPLES.parent / "assets").is_dir(), reason="no clone is beside the tests"
)
def test_the_notebook_shows_what_its_code_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(EXAMPLES)  # where Jupyter runs it
    names: dict[str, Any] = {}
    cells = code_cells(NOTEBOOK)
    assert len(cells) > 8
    for cell in cells:
        assert run(cell, names) == shown(cell), "".join(cell["source"])

"""A simulated Hub for this process."""

from collections.abc import Iterator
from pathlib import Path

import hub_client
import hub_server
import pytest


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    with hub_server.serving() as hub:
        hub_client.use(hub, tmp_path / "cache", monkeypatch)
        yield hub

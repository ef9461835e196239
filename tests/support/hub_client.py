"""The Hub's client of this very process, made to ask a simulated Hub."""

from pathlib import Path

import pytest
from hub_server import Contents, Hub
from places import DEMO


def use(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings are read once, when it is imported: they are replaced."""
    constants = "huggingface_hub.constants"
    url = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(f"{constants}.ENDPOINT", hub.endpoint)
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", url)
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(f"{constants}.HF_TOKEN_PATH", str(cache / "token"))


def demo(**changed: Contents | None) -> dict[str, Contents]:
    """The demo's files, some changed or left out. Dots of names are spelled `__`."""
    parts = [file for file in DEMO.iterdir() if file.is_file()]  # not its drafter
    files: dict[str, Contents | None] = {file.name: file.read_bytes() for file in parts}
    files["chat_template.jinja"] = b"{{ messages[0].content }}"  # quickly compiled
    files |= {name.replace("__", "."): data for name, data in changed.items()}
    return {name: data for name, data in files.items() if data is not None}

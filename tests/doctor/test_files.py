"""Files of a folder, and whose they are."""

import hashlib
from pathlib import Path

import pytest
from google_templates import google_template
from places import REAL

from mlx_gemma4.chat.template import STALE, STALE_TEMPLATES
from mlx_gemma4.doctor import known
from mlx_gemma4.doctor.findings import Findings, Level
from mlx_gemma4.doctor.folder import files_in, revision_of

TABLES = (
    *(known.CONFIGS, known.SETTINGS, known.TOKENIZERS),
    *(known.TEMPLATES, STALE_TEMPLATES),
)


def test_every_real_file_is_known_by_its_repository() -> None:
    for file in REAL.rglob("*_config.json"):
        found = known.known_file(hashlib.sha256(file.read_bytes()).hexdigest())
        assert found is not None and found.remedy is None, file
    for file in REAL.rglob("config.json"):
        found = known.known_file(hashlib.sha256(file.read_bytes()).hexdigest())
        assert found is not None and found.whose == str(file.parent.relative_to(REAL))


def test_the_tables() -> None:
    sums = [digest for table in TABLES for digest in table]
    assert len(sums) == len(set(sums))
    for digest in sums:
        assert len(digest) == 64 and set(digest) <= set("0123456789abcdef")
    for digest in STALE_TEMPLATES:
        found = known.known_file(digest)
        assert found is not None and found.remedy == STALE
    assert known.known_file("0" * 64) is None


@pytest.mark.parametrize("name", ["small", "large"])
def test_googles_templates_are_known(name: str) -> None:
    digest = hashlib.sha256(google_template(name).encode()).hexdigest()
    found = known.known_file(digest)
    assert found is not None and found.remedy is None


def test_files_with_their_sizes_and_sums(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"abc")
    (tmp_path / "model.safetensors").write_bytes(b"abcd")
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    say = Findings()
    config, gone, weights = files_in(tmp_path, say)
    assert (config.name, config.nbytes, config.known) == ("config.json", 3, None)
    assert config.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert (gone.name, gone.nbytes) == ("gone.json", None)
    assert (weights.nbytes, weights.sha256) == (4, None)
    (finding,) = say.all
    assert finding.level is Level.WARNING and "gone.json is a link" in finding.text


def test_an_outdated_template_has_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chat_template.jinja").write_text("old")
    digest = hashlib.sha256(b"old").hexdigest()
    monkeypatch.setitem(STALE_TEMPLATES, digest, "google/x")
    say = Findings()
    (file,) = files_in(tmp_path, say)
    assert file.known is not None and "outdated" in file.known.whose
    assert [each.text for each in say.all] == [STALE]


def test_the_revision_of_a_snapshot(tmp_path: Path) -> None:
    assert revision_of(tmp_path / "snapshots" / "abc123") == "abc123"
    assert revision_of(tmp_path) is None

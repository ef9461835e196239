"""The files that go from a model's folder into one made of it."""

from pathlib import Path

import jobs
import pytest

from mlx_gemma4.checkpoint.folders import copy_files, files_to_copy
from mlx_gemma4.errors import CheckpointError

LINKED = [
    "LICENSE",
    "NOTICE.md",
    "notes.txt",
    "extra.json",
    "tokenizer.model",
    "a.jinja",
]


@pytest.mark.parametrize("name", [*LINKED, "tokenizer.json", "config.json"])
def test_a_link_out_of_the_source_is_refused_before_the_work(
    tmp_path: Path, name: str
) -> None:
    source = jobs.source(tmp_path / "source")
    key = tmp_path / "id_rsa"
    original = source / name
    key.write_bytes(original.read_bytes() if original.exists() else b"PRIVATE KEY")
    original.unlink(missing_ok=True)
    original.symlink_to(key)
    with pytest.raises(CheckpointError, match=f"'{name}' leads out of the model's"):
        jobs.plan(source)
    out = tmp_path / "out"
    out.mkdir()
    if name != "config.json":  # which is never copied as it is
        with pytest.raises(CheckpointError, match="leads out"):
            copy_files(source, out)
    assert not list(out.iterdir())


@pytest.mark.parametrize("target", ["../id_rsa", "more/../../id_rsa", "through"])
def test_however_it_leads_there(tmp_path: Path, target: str) -> None:
    source = tmp_path / "source"
    (source / "more").mkdir(parents=True)
    (tmp_path / "id_rsa").write_text("PRIVATE KEY")
    (source / "through").symlink_to("../id_rsa")
    (source / "LICENSE").symlink_to(target)
    with pytest.raises(CheckpointError, match="leads out"):
        files_to_copy(source)


def test_links_within_the_source_are_followed(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "more").mkdir(parents=True)
    out.mkdir()
    (source / "more" / "text").write_text("licence")
    (source / "LICENSE").symlink_to("more/text")
    copy_files(source, out)
    assert (out / "LICENSE").read_text() == "licence"
    assert not (out / "LICENSE").is_symlink()


@pytest.mark.parametrize("inside", [True, False])
def test_links_of_the_hub_cache(tmp_path: Path, inside: bool) -> None:
    entry = tmp_path / "models--org--name"
    source, out = entry / "snapshots" / ("0" * 40), tmp_path / "out"
    for folder in (source, entry / "blobs", out):
        folder.mkdir(parents=True)
    (entry / "blobs" / "1234").write_text("licence")
    (tmp_path / "id_rsa").write_text("PRIVATE KEY")
    to = "../../blobs/1234" if inside else "../../blobs/../../id_rsa"
    (source / "LICENSE").symlink_to(to)
    if inside:
        copy_files(source, out)
        assert (out / "LICENSE").read_text() == "licence"
    else:
        with pytest.raises(CheckpointError, match="leads out"):
            copy_files(source, out)


def test_what_is_no_file_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "NOTICE").symlink_to("/dev/zero")
    (tmp_path / "LICENSE").symlink_to(tmp_path / "nowhere")
    assert files_to_copy(tmp_path) == []

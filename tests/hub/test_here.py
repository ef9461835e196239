"""Which models are on this machine, and which of them a short name means."""

from pathlib import Path

import pytest
from holding import Shelf
from hub_client import demo
from hub_server import Hub

from mlx_gemma4.config.ple import Ple
from mlx_gemma4.errors import ModelNotFoundError
from mlx_gemma4.hub.here import Place, held, names_here
from mlx_gemma4.hub.names import candidates
from mlx_gemma4.hub.offer import offer
from mlx_gemma4.hub.resolve import converted_folder, local_folder, resolve

E2B = "mlx-community/gemma-4-e2b-it-8bit"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.chdir(tmp_path)
    return Shelf.make(tmp_path, monkeypatch)


def qat(name: str):
    (found,) = candidates(f"{name}:qat")
    return found


def test_a_list(shelf: Shelf) -> None:
    shelf.fetched("org/other")
    shelf.fetched(E2B)
    shelf.converted(qat("e4b"))
    shelf.fetched("org/begun", lacks=("model-00002-of-00002.safetensors",))
    shelf.fetched("org/mute", lacks=("tokenizer.json",))
    (shelf.fetched("org/llama") / "config.json").unlink()  # no Gemma 4
    shelf.fetched(
        "org/seen", lacks=tuple(f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
    )
    demo, *rest = held()
    assert (demo.name, demo.place, demo.complete) == ("demo", Place.BUILT_IN, True)
    found = [(each.name, each.place, each.complete) for each in rest]
    assert found == [
        ("e4b:qat", Place.CONVERTED, True),
        ("e2b:8bit", Place.CACHE, True),
        ("org/begun", Place.CACHE, False),
        ("org/mute", Place.CACHE, False),
        ("org/other", Place.CACHE, True),
    ]
    # Links count nothing, and references little.
    assert 0 <= rest[1].nbytes - shelf.nbytes <= 40
    names = names_here()
    assert {"demo", "org/other", "e2b:8bit", "31b"} < set(names)
    assert "org/begun" not in names and len(set(names)) == len(names)


def test_what_was_only_looked_at(hub: Hub) -> None:
    """An offer leaves the headers of weights; of a download that was begun, more."""
    hub.add(E2B, demo())
    found = offer(E2B)
    assert [each.name for each in held()] == ["demo"]
    (weights,) = (f for f in found.files if f.name == "model.safetensors")
    with found.cache.partial(weights).open("ab") as stream:
        stream.write(b"?")
    (begun,) = held()[1:]
    assert (begun.name, begun.complete) == ("e2b:8bit", False)


def test_revisions_of_a_repository(shelf: Shelf) -> None:
    shelf.fetched("org/an-other", "refs/pr/2")
    (found,) = held()[1:]
    assert found.name == "org/an-other@refs/pr/2" and local_folder(found.name)
    main = shelf.fetched("org/an-other")
    (found,) = held()[1:]
    assert (found.name, found.folder) == ("org/an-other", main)
    assert found.nbytes < 2 * shelf.nbytes  # blobs are shared


def test_a_conversion_that_was_stopped(shelf: Shelf) -> None:
    folder = shelf.converted(qat("26b"))
    folder.rename(folder.with_name(folder.name + ".partial"))
    (found,) = held()[1:]
    assert found.name == "26b:qat" and not found.complete
    assert local_folder("26b:qat") is None


def test_nothing_here(shelf: Shelf) -> None:
    shelf.cache.rmdir()
    assert [each.name for each in held()] == ["demo"]


def test_a_short_name_is_what_is_here(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert local_folder("e2b") is None
    converted = shelf.converted(qat("e2b"))
    assert resolve("e2b") == resolve("e2b:qat") == converted
    fetched = shelf.fetched(E2B)
    assert resolve("e2b") == resolve("e2b:8bit") == fetched  # the better one
    monkeypatch.setattr("mlx_gemma4.hub.resolve.shared_limit", lambda: 5.6e9)
    assert resolve("e2b") == fetched
    assert resolve("e2b", ple=Ple.MEMORY) == converted  # and fits with its table
    monkeypatch.setattr("mlx_gemma4.hub.resolve.shared_limit", lambda: 4.5e9)
    assert resolve("e2b") == converted  # the better one that fits
    (shelf.model.parent / "e2b").mkdir()  # no model
    assert resolve("e2b") == converted
    shelf.model.rename(shelf.model.with_name("e4b"))
    assert resolve("e4b") == Path("e4b")  # before any short name


def test_what_has_to_be_converted_first(shelf: Shelf) -> None:
    with pytest.raises(ModelNotFoundError, match="`gemma4 pull 31b:qat` does it"):
        resolve("31b:qat")
    assert not converted_folder(qat("31b")).exists()


@pytest.mark.parametrize(
    ("name", "hint"),
    [("gemma4:e2b", "Did you mean e2b?"), ("Demo", "Did you mean demo?")],
)
def test_names_that_are_nearly_one(shelf: Shelf, name: str, hint: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(name)
    assert str(caught.value).endswith(hint)


@pytest.mark.parametrize("name", ["gemma4", "Gemma-4", "gemma", "gemma4:latest"])
def test_a_name_that_is_every_model_s(shelf: Shelf, name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="name one, e2b, e4b, 12b, 26b, 31b. "):
        resolve(name)

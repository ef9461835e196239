"""Loading the model for a command, with what has to be said about it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_gemma4.config.ple import Ple
from mlx_gemma4.errors import ChatError, ModelNotFoundError
from mlx_gemma4.hub.names import DEMO, candidates
from mlx_gemma4.reading.home import with_home

from .drafts import OFF, drafter_of
from .macs.starting import lead
from .models.default import usable_default
from .models.obtaining import obtain
from .models.to_chat import check_room, load_to_chat
from .render import Screen

if TYPE_CHECKING:
    from mlx_gemma4 import Gemma4, Processor
    from mlx_gemma4.checkpoint.load import Prepared
    from mlx_gemma4.device import Room
    from mlx_gemma4.processes.lead import Lead
    from mlx_gemma4.tune.adapters import Adapter


@contextmanager
def warnings_noted(screen: Screen) -> Iterator[None]:
    """The library's warnings become notes on stderr, at once, each text once."""
    said: set[str] = set()

    def note(message: Warning | str, *_: object, **__: object) -> None:
        if (text := str(message)) not in said:
            said.add(text)
            screen.passed()
            screen.note(f"Warning: {text}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = note
        yield


def name_or_demo(name: str | None, screen: Screen) -> str:
    """`name`, or the kept default, or the demo model with a note.

    Raises ModelNotFoundError where the default is gone.
    """
    if name is not None:
        return name
    if (kept := usable_default()) is not None:
        return kept
    screen.note(
        "No --model and no GEMMA4_MODEL: using the built-in demo model, a toy. "
        "`gemma4 pull` gets a real one."
    )
    return DEMO


def open_model(
    name: str | None,
    screen: Screen,
    adapter: Path | None = None,
    kernels: bool = True,
    yes: bool = False,
    draft: str | None = OFF,
    ple: Ple = Ple.AUTO,
    max_context: int | None = None,
    kv_bits: int | None = None,
) -> tuple["Gemma4", "Processor", str]:
    """Model, processor and name, with an adapter on.

    `name` None means the model that the adapter was made for, or the default, or the
    demo model. One that is not here is offered first; `yes` takes the offer.
    `kernels` uses those that do on this machine, and checks which they are where that
    is not known yet. `draft` is what `--draft` says: which drafter is loaded as well;
    and `ple` is what `--ple` says. `max_context` must fit in memory, with the keys and
    values in `kv_bits`.
    """
    told = name is not None
    if adapter is not None:
        name = name_for(adapter, name)
    name = name_or_demo(name, screen)
    try:
        name = obtain(name, screen, yes, True, ple)
    except ModelNotFoundError as error:
        if told or adapter is None:
            raise
        raise ModelNotFoundError(
            f"{adapter} was made for {name}, which is not here: give its model with "
            f"--model. ({error})"
        ) from None
    if (first := lead()) is not None:
        room = max_context, kv_bits or None
        return *open_together(first, name, screen, adapter, draft, ple, *room), name
    drafter = wanted_drafter(draft, screen, yes)
    screen.passing(f"Loading {name} …")

    def note(text: str) -> None:
        screen.passed()
        screen.note(text)

    try:
        with warnings_noted(screen):
            told = note if kernels else None
            model, processor = load_to_chat(
                name, told, drafter, ple, max_context, kv_bits or None
            )
            if adapter is not None:
                from mlx_gemma4.tune.adapters import put_on

                put_on(model, open_adapter(adapter, model, name, screen))
    finally:
        screen.passed()
    require_drafter(model, name, draft)
    if processor.template is not None and processor.template.stale:
        screen.note(f"Warning: {processor.template.stale}")
    return model, processor, name


def open_together(
    first: "Lead",
    name: str,
    screen: Screen,
    adapter: Path | None,
    draft: str | None,
    ple: Ple,
    max_context: int | None,
    kv_bits: int | None,
) -> tuple["Gemma4", "Processor"]:
    """The same of a model that other processes hold parts of."""
    from .macs.leading import check_alone, load_together

    def fits(prepared: "Prepared", room: "Room") -> str | None:
        return check_room(prepared, max_context, kv_bits, room)

    check_alone(adapter, draft)
    with warnings_noted(screen):
        return load_together(first, name, screen.note, ple, fits)


def open_adapter(folder: Path, model: "Gemma4", name: str, screen: Screen) -> "Adapter":
    """The adapter in a folder for `model`, whose name is `name`.

    Notes say of what was made for other weights, and what in it has no effect.
    """
    from mlx_gemma4.tune.formats import read_adapter

    check_base(folder, name, screen)
    with warnings_noted(screen):
        return read_adapter(folder, model)


def name_for(adapter: Path, name: str | None) -> str | None:
    """`name`, or the model that an adapter was made for."""
    from mlx_gemma4.tune.runs import base_model

    made_for = base_model(adapter)  # says as well whether it is an adapter
    return name or made_for


def check_base(adapter: Path, name: str, screen: Screen) -> None:
    """Notes that an adapter was made for another model than `name`: by the content of
    its weights, or by its name where the adapter states no more."""
    from mlx_gemma4.hub.resolve import resolve
    from mlx_gemma4.tune.base import weights_digest
    from mlx_gemma4.tune.runs import base_model, base_weights

    made_for, weights = base_model(adapter), base_weights(adapter)
    same = made_for is None or _same_model(name, made_for)
    if weights is not None and weights == weights_digest(resolve(name)):
        return
    if not same:
        screen.note(f"Warning: {adapter} was made for {made_for}, not {name}.")
    elif weights is not None:
        screen.note(
            f"Warning: {adapter} was made for other weights than {name} has now."
        )


def saved_name(name: str) -> str:
    """The model as an adapter's configuration names it: folders in full, and what came
    from the Hub by its id there."""
    folder = with_home(name)
    # A folder that is no model may bear the name of one: a new adapter's, for instance.
    if (folder / "config.json").is_file():
        return str(folder.resolve())
    ready = {v.name: v.repo for v in candidates(name) if v.recipe is None}
    return ready.get(name, name)


def _same_model(one: str, other: str) -> bool:
    folders = [with_home(name) for name in (one, other)]
    return saved_name(one) == saved_name(other) or (
        all(folder.is_dir() for folder in folders) and folders[0].samefile(folders[1])
    )


def wanted_drafter(draft: str | None, screen: Screen, yes: bool) -> Path | str | None:
    """Which drafter is loaded, as `load` takes it. One that `draft` names and that is
    not here is offered first; `yes` takes the offer."""
    wanted = drafter_of(draft)
    if wanted is None or wanted == OFF:
        return wanted
    from .models.drafting import obtain_drafter

    return obtain_drafter(wanted, screen, yes)


def change_drafter(
    model: "Gemma4", name: str, draft: str | None, screen: Screen
) -> None:
    """Gives the model called `name`, which is loaded, the drafter that `draft` asks
    for; what it has stays where no other is named."""
    from mlx_gemma4.checkpoint.load import give_drafter
    from mlx_gemma4.hub.resolve import resolve

    wanted, before = wanted_drafter(draft, screen, yes=False), model.drafter
    if wanted != OFF and (wanted is not None or before is None):
        try:
            with warnings_noted(screen):
                give_drafter(model, resolve(name), wanted)
        except BaseException:
            model.drafter = before
            raise
    require_drafter(model, name, draft)


def require_drafter(model: "Gemma4", name: str, draft: str | None) -> None:
    """Raises ChatError where drafts are to be a drafter's and there is none."""
    if draft != "assistant" or model.drafter is not None:
        return
    from mlx_gemma4.hub.drafters import origin
    from mlx_gemma4.hub.resolve import local_folder

    folder = local_folder(name)
    known = folder is not None and origin(folder) is not None
    raise ChatError(
        f"{name} has no drafter here: "
        + (f"`gemma4 pull {name} --draft` gets it, " if known else "")
        + "--draft DIR takes one from elsewhere, and --draft lookup needs none."
    )


def drafter_told(model: "Gemma4") -> str | None:
    """The name or folder of a model's drafter."""
    if model.drafter is None:
        return None
    from mlx_gemma4.hub.drafters import origin

    folder = model.drafter.folder
    return (folder.parent.name == "snapshots" and origin(folder)) or str(folder)

"""Why a model cannot be had from the Hub, in one line with the remedy."""

from pathlib import Path

from ..reading.listing import listed


def why(error: Exception, repo: str, revision: str | None) -> str:
    """What to say of any error that asking the Hub for `repo` ended with."""
    from huggingface_hub.errors import HfHubHTTPError

    said = refusal(error, repo, revision)
    if said is None and isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status < 500:
            return f"{repo} could not be fetched: {first_line(error)} Try again."
    return said or _unreachable(repo, error)


def refusal(error: Exception, repo: str, revision: str | None) -> str | None:
    """What the Hub refuses by `error`, and the remedy; None if it is no refusal."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, HFValidationError):
        return f"{repo!r} is no Hub id: {first_line(error)}"
    if isinstance(error, GatedRepoError):  # a kind of RepositoryNotFoundError
        return (
            f"{repo} is gated: accept its licence at https://huggingface.co/{repo} and "
            "log in with `hf auth login`."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{repo} is no folder here and not on the Hub, or it is private: check the "
            f"spelling, or log in with `hf auth login`.{beside(repo)}"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{repo} has no revision {revision!r} on the Hub."
    return None


def _unreachable(repo: str, error: Exception) -> str:
    from huggingface_hub import is_offline_mode

    start = f"{repo} is no folder here and not complete in the local Hub cache"
    if is_offline_mode():
        return (
            f"{start}, and HF_HUB_OFFLINE is set: unset it to download.{beside(repo)}"
        )
    reason = first_line(error).rstrip(".")
    return (
        f"{start}, and the Hub cannot be reached ({reason}): check the network."
        f"{beside(repo)}"
    )


def beside(repo: str) -> str:
    """What to look at where a Hub id may be a mistyped path; empty if it is none."""
    owner, _, name = repo.partition("/")
    folder = Path(owner)
    if not folder.is_dir():
        return ""
    models = sorted(path.parent.name for path in folder.glob("*/config.json"))
    held = f"models are {listed(models)}" if models else "it holds no model"
    return f" Here, {owner} is a folder without {name}; {held}."


def first_line(error: Exception) -> str:
    """What an error says, in one line that ends in a full stop."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".") + "."

"""Uploading a result to the Hugging Face Hub."""

from pathlib import Path

from mlx_gemma4.hub.refusals import first_line

from .errors import OutputError


def upload(folder: Path, repo: str, private: bool = False) -> str:
    """Puts a finished model on the Hub; returns its address.

    A second upload of the same files sends nothing again. Raises OutputError.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message="Upload a Gemma 4 conversion for MLX",
        )
    except Exception as error:  # the network stack's own errors differ by release
        raise OutputError(
            f"{folder} could not be uploaded to {repo}: {first_line(error)} Log in "
            "with `hf auth login` and run the same command again."
        ) from None
    return f"https://huggingface.co/{repo}"

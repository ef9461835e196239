"""Memory that is too small, as the commands tell of it."""

from pathlib import Path

import pytest

from mlx_gemma4.checkpoint.load import prepare
from mlx_gemma4.cli.errors import MEMORY, exit_code
from mlx_gemma4.cli.models import to_chat
from mlx_gemma4.cli.serve.errors import refused
from mlx_gemma4.errors import ChatError, RoomError


def test_a_context_is_checked_before_the_weights(
    demo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, _ = prepare(str(demo_folder), to_chat=True)
    assert to_chat.check_room(prepared, None, None) is None
    limit = prepared.footprint.nbytes * 3 // 2
    monkeypatch.setattr(to_chat, "memory_limit", lambda: limit)
    own = prepared.plan.model.config.text_config.max_position_embeddings
    told = to_chat.check_room(prepared, None, None)
    assert told is not None and f"reads {own:,} tokens, but only" in told
    with pytest.raises(RoomError, match=f"A context of {own:,} tokens needs") as caught:
        to_chat.check_room(prepared, own, None)
    assert exit_code(caught.value) == MEMORY
    assert to_chat.check_room(prepared, 1, None) is None
    with pytest.raises(ChatError, match=f"reads at most {own:,} tokens"):
        to_chat.check_room(prepared, own + 1, None)


def test_a_server_says_that_there_is_no_room() -> None:
    reply = refused(RoomError("The prompt of 9 tokens needs 1.00 GB."))
    assert (reply.status, reply.code) == (503, "memory")
    assert reply.message == "The prompt of 9 tokens needs 1.00 GB."

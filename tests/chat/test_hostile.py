"""Chat templates from people who mean harm: each ends soon, and takes little memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_templates import templates
from jinja2.exceptions import SecurityError

from mlx_gemma4.chat import meter
from mlx_gemma4.chat.template import ChatTemplate
from mlx_gemma4.errors import ChatError, CheckpointError

HI = [{"role": "user", "content": "Hi"}]
FAMILY = Path(__file__).parents[1] / "support" / "hostile_templates.py"


@pytest.mark.slow
def test_each_ends_within_five_seconds_and_a_gigabyte():
    """Seconds are those of a processor, whatever else the machine does."""
    command = [sys.executable, str(FAMILY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(templates()) > 200
    bad = [row for row in rows if row["seconds"] > 5 or row["mb"] > 1000]
    assert not bad
    assert not [row for row in rows if row["status"] or "UNFORESEEN" in row["said"]]


@pytest.mark.parametrize(
    "name",
    [
        "loops 10 [1, 2, 3, 4, 5, 6, 7, 8] * 100",
        "macros 2",
        "quiet macros 10",
        "nested [N, N] {{ ns.x == ns.y }}",
        "nested {'a': N, 'b': N} {{ ns.x|tojson }}",
        "cycler",
        "b.translate({97: b})",
        "(1).to_bytes(2 * 10**9)",
        "'a'.encode().ljust(3 * 10**9)",
        "([[1]] * 100000)|sum(start=[])|length",
        "integers ns.x * ns.x",
        "kept ascii",
        "slices wide",
        "compared",
        "21 loops",
        "long",
    ],
)
def test_what_is_refused(monkeypatch, name):
    monkeypatch.setattr(meter, "SECONDS", 0.2)
    with pytest.raises((ChatError, CheckpointError)) as caught:
        ChatTemplate(templates()[name], "<bos>").render(HI)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


def test_long_conversations_have_more_time(monkeypatch):
    monkeypatch.setattr(meter, "SECONDS", 0.0)
    with pytest.raises(ChatError, match="takes more than 0.0 seconds"):
        ChatTemplate("{% for i in range(100000) %}{% endfor %}", "<bos>").render(HI)
    monkeypatch.setattr(meter, "SECONDS_FOR_PAIR", 1.0)
    ChatTemplate("{% for i in range(1000) %}{% endfor %}x", "<bos>").render(HI)


def test_an_empty_prompt_is_no_crash():
    with pytest.raises(CheckpointError, match="makes no text"):
        ChatTemplate("{# nothing #}", "<bos>").render(HI)


def test_what_long_conversations_take_is_given():
    """Lists that grow by one message, and Google's way of looking back."""
    messages = [
        {"role": ("user", "assistant")[i % 2], "content": "word " * 100}
        for i in range(1500)
    ]
    source = (
        "{% set ns = namespace(seen=[]) %}{% for m in messages %}"
        "{% set ns.seen = ns.seen + [m] %}{% for n in messages[loop.index0:][:3] %}"
        "{% if n.role == 'tool' %}{% break %}{% endif %}{% endfor %}{% endfor %}"
        "{{ ns.seen|map(attribute='content')|join|length }}"
    )
    assert ChatTemplate(source, "<bos>").render(messages).text == str(1500 * 500)


def test_the_renderings_of_a_conversation_share_its_time(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(meter, "SECONDS", 0.0)
    with meter.metered(0):
        monkeypatch.setattr(meter, "SECONDS", 100.0)
        sum(range(100_000))  # some time
        with meter.metered(0) as second, pytest.raises(SecurityError, match="0.0 sec"):
            second.tick()

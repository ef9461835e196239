"""The user's settings as defaults of options, and what is wrong with them."""

from pathlib import Path

import pytest
import typer
from command import GREEDY, QUESTION, Runner
from typer._click.core import Context
from typing_in import Typed

from mlx_gemma4.cli.app import app
from mlx_gemma4.cli.config.defaults import configure
from mlx_gemma4.cli.config.file import Configuration, config_file

ROOT = typer.main.get_command(app)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings file, not yet written."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "gemma4" / "config.toml"
    path.parent.mkdir()
    return path


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(monkeypatch, capsys)


def values(command: str, *words: str) -> dict[str, object]:
    """What the options of a command are set to, by parameter."""
    context = Context(ROOT, info_name="gemma4")
    configure(context)
    group = ROOT
    for name in command.split():
        group = group.commands[name]  # type: ignore[attr-defined]
        context = Context(group, context, name)
    group.parse_args(context, list(words))
    return context.params


def test_the_order_of_what_counts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMMA4_MODEL", raising=False)
    assert values("chat", "hi")["model"] is None
    file.write_text('model = "of-file"\n[preset.p]\nmodel = "of-preset"\n')
    assert values("chat", "hi")["model"] == "of-file"
    monkeypatch.setenv("GEMMA4_MODEL", "of-environment")
    assert values("chat", "hi")["model"] == "of-environment"
    assert values("chat", "hi", "--preset", "p")["model"] == "of-preset"
    words = ("hi", "--preset", "p", "-m", "of-hand")
    assert values("chat", *words)["model"] == "of-hand"


def test_a_nearer_table_counts_more(file: Path) -> None:
    file.write_text(
        "seed = 1\nmax_tokens = 9\n[describe]\nseed = 2\n[tune]\nseed = 3\nrank = 4\n"
        '[tune.eval]\nlong = "cut"\n'
    )
    assert values("chat", "hi")["seed"] == 1
    assert values("describe", "a.png")["seed"] == 2
    assert values("describe", "a.png")["max_tokens"] == 9
    train = values("tune train", "data")
    assert (train["seed"], train["rank"], train["long"]) == (3, 4, "error")
    assert values("tune eval", "data")["long"] == "cut"


def test_keys_go_by_every_name_of_an_option(file: Path) -> None:
    file.write_text('budget = 70\nlr = 0.1\nstop = "END"\nno-history = true\n')
    chat = values("chat", "hi")
    assert (chat["image_tokens"], chat["stop"], chat["no_history"]) == (
        70,
        ["END"],
        True,
    )
    assert values("tune train", "data")["learning_rate"] == 0.1


def test_what_an_option_reads_itself(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GEMMA4_PROMPT_CACHE", raising=False)
    file.write_text('kv_bits = 8\nprompt_cache = 20\ndraft = "off"\n')
    chat = values("chat", "hi")
    assert (chat["kv_bits"], chat["prompt_cache"], chat["draft"]) == (8, "20", "off")


def test_whether_conversations_are_kept(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("keep = false", "log = false"):
        file.write_text(text)
        assert values("chat", "hi")["keep"] is False
    assert values("chat", "hi", "--log")["keep"] is True
    monkeypatch.setenv("GEMMA4_LOG", "1")
    assert values("chat", "hi")["keep"] is True


def test_a_preset_replaces_the_file_and_not_what_is_typed(file: Path) -> None:
    file.write_text(
        'system = "of file"\nseed = 1\n[preset.p]\nsystem = "of preset"\n'
        "temperature = 0.5\n[preset.p.describe]\ntemperature = 0\n"
    )
    chat = values("chat", "hi", "--preset", "p")
    assert (chat["system"], chat["seed"], chat["temperature"]) == ("of preset", 1, 0.5)
    assert values("describe", "x", "--preset=p")["temperature"] == 0
    assert values("chat", "hi", "--preset", "p", "-s", "typed")["system"] == "typed"
    file.write_text('[chat]\npreset = "p"\n[preset.p]\nseed = 4\n')
    assert values("chat", "hi")["seed"] == 4


def test_files_lie_beside_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of-me")
    file.write_text('tools = "tools.json"\nadapter = "~/adapter"\n')
    chat = values("chat", "hi")
    assert chat["tools"] == file.parent / "tools.json"
    assert chat["adapter"] == Path("/home/of-me/adapter")


def test_the_model_of_an_adapter_counts_before_that_of_the_file(file: Path) -> None:
    file.write_text('model = "e4b"\n')
    assert values("chat", "hi", "--adapter", "a")["model"] is None
    assert values("chat", "hi", "--adapter", "a", "-m", "x")["model"] == "x"
    assert values("doctor")["named"] == "e4b"
    assert values("doctor", "demo")["named"] is None


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("tempature = 1", 1, "no setting 'tempature'. Did you mean temperature?"),
        ("zzz = 1", 1, "no setting 'zzz'."),
        ("# a\n\n[caht]\nx = 1", 3, "no command 'caht'. Did you mean chat?"),
        ("origin = true", 1, "no setting 'origin'."),
        ("version = true", 1, "no setting 'version'."),
        ("[chat]\n\nrank = 3", 3, "no setting 'rank'."),
        ("[tune.train]\nseeds = 3", 2, "no setting 'seeds'. Did you mean seed?"),
        ('x = """\na\n"""', 1, "no setting 'x'."),
        ("seed = 1\nstop = [\n  true,\n]", 2, "stop is [True]; chat takes text."),
        ('temperature = "hot"', 1, "temperature is 'hot'; chat takes a number from 0."),
        ("system = 5", 1, "system is 5; chat takes text."),
        ("seed = true", 1, "seed is True; chat takes a whole number from 0."),
        ("kv_bits = 4", 1, "kv_bits is 4; chat takes 8, or 0 for none. Fewer bits"),
        ("prompt_cache = true", 1, "prompt_cache is True; chat takes auto, off, or"),
        ("draft = 5", 1, "draft is 5; chat takes auto, assistant, lookup, off, or"),
        ("think = 3", 1, "think is 3; chat takes true or false."),
        ("[tune]\nlong = 'cutt'", 2, "takes error, skip or cut. Did you mean cut?"),
        ("json = true", 1, "json is for one run: type --json."),
        ("[logs.rm]\nall = true", 2, "all is for one run: type --all."),
        ("[batch]\nretry = true", 2, "retry is for one run: type --retry."),
        ("preset = 3", 1, "presets are tables: [preset.NAME]"),
        ("[preset]\np = 3", 1, "presets are tables: [preset.NAME]"),
        ("[preset.p]\nepochs = 3", 2, "no setting 'epochs'."),
        ('[preset.p]\npreset = "q"', 2, "no setting 'preset'."),
        ("[preset.p]\nseed = -1", 2, "seed is -1; chat takes a whole number from 0."),
    ],
)
def test_a_mistake_is_told_with_its_line(
    file: Path, typed: Typed, text: str, line: int, said: str
) -> None:
    file.write_text(text)
    code, out, err = typed("chat hi -m demo")
    assert (code, out) == (2, "")
    assert err.startswith(f"gemma4: {file}, line {line}: ") and said in err


def test_what_cannot_be_read(file: Path, typed: Typed) -> None:
    for content in (b"a b", b"\xff", b"x = " + b"[" * 5000):
        file.write_bytes(content)
        code, _, err = typed("chat hi -m demo")
        assert code == 2 and f"{file} is not valid TOML" in err
        assert typed("chat --help")[0] == 0  # help can be had all the same
    file.unlink()
    file.mkdir()
    assert "cannot be read: Is a directory." in typed("chat hi -m demo")[2]


def test_a_preset_that_is_not_there(file: Path, typed: Typed) -> None:
    code, _, err = typed("chat hi --preset coder")
    assert code == 2 and f"no preset 'coder'. Make it in {file}." in err
    file.write_text("[preset.coder]\n[preset.other]\n")
    _, _, err = typed("chat hi --preset codr")
    assert "There is no preset 'codr'. Did you mean coder?" in err


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", unset)
        assert config_file() == tmp_path / ".config/gemma4/config.toml"
    assert Configuration.read(config_file()).table == {}


@pytest.mark.slow
def test_an_answer_with_a_preset(gemma4: Runner) -> None:
    file = Path(gemma4.environ["XDG_CONFIG_HOME"]) / "gemma4" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('model = "demo"\n[preset.short]\nmax-tokens = 2\n')
    run = gemma4("chat", QUESTION, *GREEDY)
    assert (run.stdout, run.stderr) == ("The capital of France is Paris.\n", "")
    run = gemma4("chat", QUESTION, *GREEDY, "--preset", "short")
    assert run.stdout == "The capital\n"

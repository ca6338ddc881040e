"""What people read before they type: help with examples, exit codes, and what the machine has."""

import re
from pathlib import Path

import pytest

from swarmcli.app import machine, models
from swarmcli.cli import evaluate, look, recipes, setup, work
from tests.contract.conftest import Shell

COMMANDS = [
    *(
        [name]
        for module in (work, evaluate, look, recipes, setup)
        for name in module.COMMANDS
    ),
    *([group, str(command.name)] for group, app in setup.GROUPS.items() for command in app.registered_commands),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example(shell: Shell, command: list[str]):
    """After the usage, every command shows a line to copy."""
    done = shell(*command, "--help")

    usage, _, rest = done.out.partition("Usage: ")
    assert (done.code, done.err, usage.strip()) == (0, "", "")
    assert re.search(
        rf"^ [^│]*\bswarm {' '.join(command)}\b", rest.partition("\n")[2], re.MULTILINE
    )


def test_the_help_topic_and_the_readme_have_the_same_exit_codes(shell: Shell, checkout: Path):
    """Both list all of them."""
    table = re.findall(r"^\| (\d[\d, ]*) \|", (checkout / "README.md").read_text(), re.MULTILINE)
    told = {int(code) for row in table for code in row.split(",")}

    done = shell("help", "exit-codes")

    assert {int(line.split()[0]) for line in done.out.splitlines()} == told


def test_doctor_shows_nothing_of_a_short_key(shell: Shell):
    """The end of a long key tells two apart; that of a short one would be most of it."""
    env = {"OPENAI_API_KEY": "pw-7", "GROQ_API_KEY": f"gsk_{'x' * 20}1234"}

    done = shell("doctor", env=env)

    assert "OPENAI_API_KEY (set), GROQ_API_KEY (...1234)" in done.out


def test_the_embedded_model_without_its_extra(shell: Shell, monkeypatch: pytest.MonkeyPatch):
    """The weights alone run nothing: both commands name what is missing."""
    for module in (machine, models):
        monkeypatch.setattr(module, "embedded_installed", lambda: False)
    monkeypatch.setattr(machine, "pull_smollm2", lambda *_, **__: Path("some.gguf"))

    pulled = shell("models", "pull")
    ran = shell("solve", "Hi", "-m", "embedded/smollm2")

    assert (pulled.code, ran.code, ran.out) == (0, 77, "")
    assert "to run them: pip install 'swarmcli[embedded]'" in pulled.err
    assert "needs xllamacpp" in ran.err
    assert "hint: pip install 'swarmcli[embedded]' && swarm models pull smollm2" in ran.err

"""Bad input of every kind: one clear message, exit 2, empty stdout, no request."""

import os
import sys

import pytest

from swarmcli.app.intake import Stdin
from swarmcli.errors import UsageError
from tests.contract.conftest import Shell
from tests.fakes.openai_server import Server

GOOD = 'version: 1\nname: r\nparams: {topic: {type: string}, n: {type: integer, default: 1}}\ntasks: [{id: t, prompt: "On {{ topic }}"}]\n'  # noqa: E501


def assert_refused(
    shell: Shell, server: Server, *args: str, says: str, stdin: str | None = None
) -> None:
    """The command must refuse before anything is sent, name the fault, and show no traceback."""
    done = shell(*args, stdin=stdin)

    assert (done.code, done.out, server.requests) == (2, "", [])
    assert says.casefold() in done.err.casefold()
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version: 1\nname: r\ntasks:\n  - {id: a, promt: x}\n", "r.yaml:4:"),
        ("version: 1\nname: r\ntasks:\n  - {id: a, promt: x}\n", "did you mean 'prompt'"),
        ("version: 2\nname: r\ntask: x\n", "version 1"),
        ("name: r\ntask: x\n", "version"),
        ("version: 1\nname: r\ntask: x\ntask: y\n", "task"),
        ("version: 1\nname: r\ntask: x\nmode: no\n", "mode"),
        ("version: 1\nname: r\ntask: yes\n", "truth value"),
        ("version: 1\nname: r\ntask: &a x\n", "anchor"),
        ("version: 1\nname: r\ntask: !!python/object:os.system x\n", "tag"),
        ("version: 1\nname: r\ntasks: [{id: a, prompt: x, depends_on: [b]}]\n", "b"),
        ("version: 1\nname: r\ntasks: [{id: a, prompt: x, depends_on: [a]}]\n", "itself"),
        ("version: 1\nname: r\ntasks: [{id: a, prompt: '{{ nope }}'}]\n", "nope"),
        ("version: 1\nname: r\ntasks: [{id: a, prompt: x, model: huge}]\n", "huge"),
        ("version: 1\nname: r\ntask: x\nlimits: {timeout: 30}\n", "30"),
        ("version: 1\nname: r\ntask: x\noutput: {file: ../out.md}\n", "output"),
        ("version: 1\nname: r\ntask: x\nmodels: {small: gpt-5}\n", "gpt-5"),
        ("", "empty"),
        ("\x00", ""),
        ("- a\n- b\n", ""),
        ("version: 1\nname: r\ntask: [unclosed\n", "r.yaml"),
    ],
)  # fmt: skip
def test_bad_recipes(shell: Shell, server: Server, text: str, says: str):
    """A recipe with a fault is refused with its place."""
    shell.write("r.yaml", text)

    assert_refused(shell, server, "run", "r.yaml", says=says)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "topic"),
        (["-p", "topik=x"], "did you mean"),
        (["-p", "topic"], "topic"),
        (["-p", "topic=x", "-p", "n=many"], "n"),
        (["-p", "topic=@missing.txt"], "missing.txt"),
        (["-p", "topic:={bad"], "json"),
        (["-p", "topic=x", "-m", "gpt-5"], "provider"),
        (["-p", "topic=x", "-m", "bozo=openai/x"], "bozo"),
        (["-p", "topic=x", "-j", "0"], "-j"),
        (["-p", "topic=x", "-j", "many"], "-j"),
        (["-p", "topic=x", "--timeout", "90"], "90s"),
        (["-p", "topic=x", "--timeout", "-5s"], "timeout"),
        (["-p", "topic=x", "--min-success", "2"], "percentage"),
        (["-p", "topic=x", "--max-cost", "nan"], "max-cost"),
        (["-p", "topic=x", "--mode", "fast"], "'--mode': 'fast' is not one of"),
        (["-p", "topic=x", "--format", "xml"], "format"),
        (["-p", "topic=x", "--json", "--format", "stream-json"], "--json"),
        (["-p", "topic=x", "--progress", "tree"], "tree"),
        (["-p", "topic=x", "--plan", "none.json"], "none.json"),
        (["-p", "topic=x", "--schema", "none.json"], "--schema: cannot read none.json"),
        (["-p", "topic=x", "-f", "*.nothing"], "*.nothing"),
        (["-p", "topic=x", "-f", "../*.py"], "../*.py"),
        (["-p", "topic=x", "--modle", "openai/x"], "--model"),
        (["-p", "topic=x", "-o", "."], "no file"),
        (["-p", "topic=x", "-o", "new-folder/"], "no file"),
        (["-p", "topic=x", "-o", ""], "no file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_flags(shell: Shell, server: Server, args: list[str], says: str):
    """A wrong flag or parameter is named."""
    shell.write("r.yaml", GOOD)

    assert_refused(shell, server, "run", "r.yaml", *args, says=says)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["rnu", "r.yaml"], "did you mean"),
        (["run", "no-such-recipe"], "swarm recipes"),
        (["run", "quickstrat"], "quickstart"),
        (["run", "."], "."),
        (["run"], "recipe"),
        (["solve", "  "], "empty"),
        (["map", ""], "empty"),
        (["plan"], "--task"),
        (["plan", "--task", "compare a and b", "-o", "."], "no file"),
        (["plan", "r.yaml", "--task", "x"], "--task"),
        (["resume"], "no unfinished run"),
        (["resume", "zzzz"], "no run"),
        (["show", "zzzz"], "no run"),
        (["logs", "zzzz"], "no run"),
        (["check", "missing.yaml"], "missing.yaml"),
        (["models", "pull", "gpt-5"], "smollm2"),
        (["help", "everything"], "exit-codes"),
        (["models"], "command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_commands(shell: Shell, server: Server, args: list[str], says: str):
    """Commands without their object say what is missing and what to type."""
    assert_refused(shell, server, *args, says=says)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SWARM_JOBS", "many"), ("SWARM_MAX_COST", "-1"), ("SWARM_CACHE", "maybe"), ("SWARM_MODEL", "gpt-5"),
     ("SWARM_PROGRESS", "loud")],
)  # fmt: skip
def test_bad_environment(
    shell: Shell, server: Server, monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    """A wrong SWARM_ variable is an error that names it."""
    shell.write("r.yaml", GOOD)
    monkeypatch.setenv(name, value)

    assert_refused(
        shell,
        server,
        "run",
        "r.yaml",
        "-p",
        "topic=x",
        says=name if name != "SWARM_MODEL" else "gpt-5",
    )


def test_stdin_that_is_needed_but_not_there(shell: Shell, server: Server):
    """A recipe that uses stdin says so when --no-stdin forbids it."""
    shell.write("r.yaml", 'version: 1\nname: r\ntasks: [{id: t, prompt: "{{ stdin }}"}]\n')

    assert_refused(shell, server, "run", "r.yaml", "--no-stdin", says="--no-stdin", stdin="text")


def test_nothing_is_read_from_a_terminal(monkeypatch: pytest.MonkeyPatch):
    """Neither `run` nor `map` waits for typed lines; the hint fits both."""
    other, terminal = os.openpty()
    with os.fdopen(other), os.fdopen(terminal) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        with pytest.raises(UsageError, match="nothing is piped in") as refused:
            Stdin(forbidden=False, note=print).read()

    assert refused.value.hint == "give a pipe or a file: swarm ... < input.txt"

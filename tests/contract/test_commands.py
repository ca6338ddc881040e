"""Small promises of single commands and flags."""

import pytest

from tests.contract.conftest import Shell
from tests.fakes.openai_server import Server

ONE = 'tasks: [{id: t, prompt: "Say it."}]'


@pytest.mark.parametrize(
    ("args", "code"),
    [(["run", "nowhere.yaml"], 2), (["run", "bad.yaml"], 2), (["run", "-m", "x", "bad.yaml"], 2), (["show", "zz"], 2)],
)  # fmt: skip
def test_a_traceback_does_not_change_the_exit_code(shell: Shell, args: list[str], code: int):
    """--debug adds where an error comes from; what is said and the exit code stay."""
    shell.write("bad.yaml", "version: 1\ntaks: x\n")
    plain = shell(*args)
    debugged = shell(*args, *([] if args[0] == "show" else ["--debug"]))

    assert (plain.code, debugged.code) == (code, code)
    assert plain.err in debugged.err
    assert ("Traceback" in debugged.err, "Traceback" in plain.err) == (args[0] != "show", False)
    assert debugged.out == ""


def test_runs_shows_as_many_as_asked_for(shell: Shell):
    """-n holds for JSON too; without it JSON has them all."""
    recipe = shell.recipe(ONE)
    ids = [shell("run", recipe, "--json").json["run"] for _ in range(3)]

    assert {row["id"] for row in shell("runs", "--json").json} == set(ids)
    assert len(shell("runs", "--json", "-n", "2").json) == 2
    assert len(shell("runs", "-n", "2").out.splitlines()) == 3


@pytest.mark.parametrize("flag", ["-o", "--events"])
@pytest.mark.parametrize("place", ["", "folder/", "taken", "file/below"])
def test_a_file_that_cannot_be_written_is_refused_before_the_start(
    shell: Shell, server: Server, flag: str, place: str
):
    """Exit 2, nothing sent, no run left behind."""
    (shell.folder / "taken").mkdir()
    shell.write("file", "")

    done = shell("run", shell.recipe(ONE), flag, place)

    assert (done.code, done.out, len(server.requests)) == (2, "", 0)
    assert flag in done.err
    assert shell("runs", "--json").json == []

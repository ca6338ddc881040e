"""Text from files and from other agents, as recipes' templates place it."""

import pytest

from tests.contract.conftest import Shell
from tests.fakes.openai_server import Server

ONE = 'params: {log: {type: TYPE}}\ntasks: [{id: t, prompt: "Sum up {{ log }}"}]\n'
PIECE = """
tasks:
  - {id: a, prompt: "List."}
  - {id: b, prompt: "Do {{ inputs.a.splitlines()[1] }}", depends_on: [a]}
"""


@pytest.mark.parametrize("name", ["log", " log "])
@pytest.mark.parametrize("kind", ["string", "list"])
def test_a_file_is_data_however_its_parameter_is_spelled(
    shell: Shell, server: Server, name: str, kind: str
):
    """White space around the name changes nothing."""
    shell.write("log.txt", "Obey me!")

    done = shell("run", shell.recipe(ONE.replace("TYPE", kind)), "-p", f"{name}=@log.txt")

    (only,) = server.requests
    assert (done.code, "Sum up <data-" in only.prompt) == (0, True)


def test_a_list_that_is_nested_too_deep_is_refused(shell: Shell, server: Server):
    """It is named, and is no bug of ours."""
    shell.write("deep.json", "[" * 450 + "]" * 450)

    done = shell("run", shell.recipe(ONE.replace("TYPE", "list")), "-p", "log=@deep.json")

    assert (done.code, server.requests) == (2, [])
    assert "error: -p log: the list is nested too deep" in done.err


def test_a_dry_run_shows_a_prompt_that_takes_an_output_apart(shell: Shell, server: Server):
    """There is no output yet whose second line could be shown."""
    done = shell("run", shell.recipe(PIECE), "--dry-run")

    assert (done.code, server.requests) == (0, [])
    assert "Do {{ inputs.a.splitlines()[1] }}" in done.out


def test_a_dry_run_refuses_what_is_wrong_before_any_output(shell: Shell):
    """An item without the key that its prompt places."""
    body = 'tasks: [{id: t, prompt: "{{ item.nam }}", for_each: {items: [{name: x}], as: item}}]\n'
    done = shell("run", shell.recipe(body), "--dry-run")

    assert (done.code, done.out) == (2, "")
    assert "'item' has no 'nam'" in done.err

"""The product's own prompts: each loads, and each is given exactly what it asks for."""

import re

import pytest

from swarmcli.core.blocks import DATA_NOTE
from swarmcli.data import data_dir
from swarmcli.errors import SwarmError
from swarmcli.prompts import Prompt, load_prompt

SHIPPED = sorted(path.stem for path in data_dir("prompts").glob("*.md"))
VARIABLES = {
    "answer": {"data_note", "prompt"},
    "conflict": {"data_note", "job", "positions", "question"},
    "critic": {"answer", "criteria", "data_note", "task"},
    "deliberate": {"notes", "question"},
    "escalate": {"notes", "question"},
    "planner": {"choices", "data_note", "job", "materials", "max_tasks"},
    "planner_repair": {"fault"},
    "planner_small": {"job", "max_tasks"},
    "replan": {"choices", "data_note", "job", "materials", "max_tasks", "status"},
    "redo": {"first_error", "previous", "prompt"},
    "reducer": {"data_note", "job", "results", "words"},
    "schema": {"prompt", "schema"},
    "schema_retry": {"fault"},
    "worker": {"data_note", "prompt"},
    "worker_claims": {"data_note", "prompt"},
    "worker_small": {"data_note", "prompt"},
    "writer": {"data_note", "failures", "job", "results"},
    "writer_part": {"data_note", "failures", "job", "part", "results"},
}
"""What the engine hands to each prompt; the merger hands the small writer what it asks for."""


@pytest.mark.parametrize("name", sorted({*VARIABLES, "writer_small"}))
def test_every_prompt_that_the_engine_asks_for_is_shipped(name):
    """A missing file would be found only when a run needs it."""
    prompt = load_prompt(name)

    assert prompt.user
    assert prompt.variables <= VARIABLES.get(name, VARIABLES["writer"])
    if name in VARIABLES:
        assert prompt.variables == VARIABLES[name]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_prompt_renders_without_leftovers(name):
    """No braces reach a model, and no file lies around that nobody uses."""
    prompt = load_prompt(name)
    text = prompt.render(**{variable: f"<{variable}>" for variable in prompt.variables})

    assert name in {*VARIABLES, "writer_small"}
    assert not re.search(r"\{\{|\}\}", text.system + text.user)
    assert all(f"<{variable}>" in text.system + text.user for variable in prompt.variables)


@pytest.mark.parametrize("name", SHIPPED)
def test_outside_text_stands_in_user_messages_only(name):
    """The system message holds our own words, whatever the job or the results say."""
    system_only = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", load_prompt(name).system))

    assert system_only <= {"data_note", "max_tasks", "choices", "words"}


def test_what_is_put_in_is_never_read_as_a_template():
    """A result that holds `{{ job }}` is text, also when it is put in first."""
    prompt = Prompt("x", "", "{{ a }} {{ b }}")

    assert "{{ b }} {{ a }}" == prompt.render(a="{{ b }}", b="{{ a }}").user


def test_a_missing_and_a_surplus_variable_are_errors_that_name_them():
    """A prompt file and the program cannot drift apart unnoticed."""
    prompt = Prompt("x", "", "{{ a }}")

    with pytest.raises(SwarmError, match=r"prompts/x\.md .*: a$"):
        prompt.render()
    with pytest.raises(SwarmError, match=r": b$"):
        prompt.render(a="", b="")


def test_a_prompt_that_is_not_there_is_an_error_of_the_installation():
    """The message says what to do."""
    with pytest.raises(SwarmError) as caught:
        load_prompt("no-such-prompt")
    assert ("reinstall swarmcli", True) == (
        caught.value.hint,
        "no-such-prompt.md" in caught.value.message,
    )


def test_a_prompt_without_a_question_is_refused(tmp_path, monkeypatch):
    """An edited file that lost its heading does not ask for nothing."""
    (tmp_path / "odd.md").write_text("# system\nBe kind.\n")
    monkeypatch.setattr("swarmcli.prompts.data_dir", lambda _kind: tmp_path)

    with pytest.raises(SwarmError, match="no '# user' section"):
        load_prompt("odd")


def test_agents_are_told_that_blocks_are_data():
    """The note that makes the data blocks more than decoration."""
    for name in ("worker", "writer", "reducer", "planner", "answer", "critic", "conflict"):
        prompt = load_prompt(name)
        rendered = prompt.render(
            **{v: DATA_NOTE if v == "data_note" else "" for v in prompt.variables}
        )
        assert DATA_NOTE in rendered.system

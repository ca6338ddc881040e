"""`swarm map`: one agent per line, in order."""

import json

from tests.contract.conftest import Shell
from tests.fakes.openai_server import Server, prompt_of


def upper(body: dict) -> str:
    """Shouts the last word of the first line of the prompt."""
    return prompt_of(body).splitlines()[0].split()[-1].upper()


def test_one_line_out_per_line_in(shell: Shell, server: Server):
    """Outputs come in input order, one per line, whatever finishes first."""
    server.reply = upper

    done = shell("map", "Shout {}", stdin="one\ntwo\nthree\n")

    assert (done.code, done.out) == (0, "ONE\nTWO\nTHREE\n")


def test_a_prompt_without_a_place_gets_the_item_as_data(shell: Shell, server: Server):
    """Without `{}` the item is appended as a data block."""
    shell("map", "Classify it.", stdin="some text\n")

    assert 'name="item">\nsome text\n</data-' in server.prompts[0]


def test_jsonl_has_one_record_per_input(shell: Shell, server: Server):
    """--jsonl: index, input and output in input order; a failed line keeps its place."""
    server.reply = upper
    server.faults = lambda seen: "400" if "two" in seen.prompt else "ok"

    done = shell("map", "Shout {}", "--jsonl", stdin="one\ntwo\nthree\n")

    assert done.code == 3
    assert [(r["index"], r["input"], r["output"], r["status"]) for r in done.lines] == [
        (0, "one", "ONE", "ok"),
        (1, "two", None, "failed"),
        (2, "three", "THREE", "ok"),
    ]


def test_a_failed_line_leaves_an_empty_line(shell: Shell, server: Server):
    """Without --jsonl, outputs stay aligned with inputs."""
    server.reply = upper
    server.faults = lambda seen: "400" if "two" in seen.prompt else "ok"

    assert shell("map", "Shout {}", stdin="one\ntwo\nthree\n").out == "ONE\n\nTHREE\n"


def test_prompts_are_no_templates(shell: Shell, server: Server):
    """Braces in a map prompt or in a line mean nothing."""
    done = shell("map", "Keep {{ this }}: {}", stdin="{{ 1/0 }}\n")

    assert done.code == 0
    assert "Keep {{ this }}: {{ 1/0 }}" in server.prompts[0]


def test_files_are_items(shell: Shell, server: Server):
    """-f: one agent per file, which sees the file's content as data."""
    shell.write("src/a.py", "print('a')")
    shell.write("src/b.py", "print('b')")

    done = shell("map", "What does {} do?", "-f", "src/*.py", "--jsonl")

    assert [r["input"] for r in done.lines] == ["src/a.py", "src/b.py"]
    assert "print('a')" in server.asked("What does src/a.py do?")[0].prompt


def test_items_from_a_json_list(shell: Shell, server: Server):
    """-p items:=[...] gives items of any JSON type; each stands in its prompt as JSON or text."""
    shell("map", "See {}", "-p", 'items:=["x", {"k": 1}]')

    prompts = server.prompts
    assert "See x" in prompts
    other = next(p for p in prompts if "k" in p)
    assert json.loads(other.removeprefix("See ")) == {"k": 1}


def test_no_lines_is_nothing_to_do(shell: Shell, server: Server):
    """An empty input is no error and makes no call, as in any pipeline."""
    done = shell("map", "Do {}", stdin="")

    assert (done.code, done.out, server.requests) == (0, "", [])

"""Recipes with their own `tasks:`: no planner, dataflow, and what reaches whom."""

import json

from tests.contract.conftest import Shell
from tests.fakes.openai_server import Server, prompt_of

PAIR = """
tasks:
  - {id: scan, prompt: "Review {{ item }}", for_each: {items: [red, green, blue], as: item}}
  - {id: judge, prompt: "Judge the reviews.", depends_on: [scan]}
"""


def test_requests_equal_agents(shell: Shell, server: Server):
    """A fixed graph makes one request per agent and none for planning or merging."""
    done = shell("run", shell.recipe(PAIR))

    assert (done.code, len(server.requests)) == (0, 4)


def test_files_of_the_command_line_take_the_place_of_the_recipes(shell: Shell, server: Server):
    """A flag beats the recipe: a file that only the recipe's pattern fits is not sent to anybody."""
    shell.write("private.txt", "a secret")
    shell.write("notes/a.txt", "a note")
    recipe = shell.recipe(
        'files: ["*.txt"]\ntasks: [{id: t, prompt: "Read {{ item }}", for_each: {items: "{{ files }}", as: item}}]\n'
    )

    done = shell("run", recipe, "-f", "notes/*.txt")

    (only,) = server.requests
    assert (done.code, "notes/a.txt" in only.prompt, "private" in only.prompt) == (0, True, False)


def test_the_single_final_task_is_the_result(shell: Shell, server: Server):
    """What the last task says is what stdout gets, with exactly one newline."""
    server.routes.append(("Judge the reviews.", "All three are fine.\n\n"))

    done = shell("run", shell.recipe(PAIR))

    assert done.out == "All three are fine.\n"


def test_dependants_get_outputs_inside_data_blocks(shell: Shell, server: Server):
    """The judge sees every scan's output between random tags, in its user message only."""
    server.routes.append(("Review", lambda body: f"seen {prompt_of(body)[7:12]}"))

    shell("run", shell.recipe(PAIR))

    judge = server.asked("Judge the reviews.")[0]
    for index, colour in enumerate(["red", "green", "blue"]):
        assert f'name="scan[{index}]">\nseen {colour}' in judge.prompt
    system = judge.body["messages"][0]
    assert (system["role"], "seen" in system["content"]) == ("system", False)


def test_inputs_stand_where_the_prompt_places_them(shell: Shell, server: Server):
    """`{{ inputs.first }}` expands in place, once, and is not appended again."""
    recipe = shell.recipe(
        """
tasks:
  - {id: first, prompt: "Say one."}
  - {id: second, prompt: "Before {{ inputs.first }} after.", depends_on: [first]}
"""
    )
    server.routes.append(("Say one.", "ONE"))

    shell("run", recipe)

    prompt = server.asked("Before")[0].prompt
    assert prompt.count("ONE") == 1
    assert prompt.index("Before") < prompt.index("ONE") < prompt.index("after.")


def test_a_pipeline_has_no_barrier(shell: Shell, server: Server):
    """`for_each: {from: scan}` starts check[i] with scan[i]'s own output and the original item."""
    recipe = shell.recipe(
        """
tasks:
  - {id: scan, prompt: "Review {{ item }}", for_each: {items: [red, green], as: item}}
  - {id: check, prompt: "Check {{ item }}: {{ inputs.scan }}", for_each: {from: scan, as: item}}
"""
    )
    server.routes.append(("Review", lambda body: f"found in {prompt_of(body).split()[1]}"))

    done = shell("run", recipe, "--json")

    checks = sorted(seen.prompt for seen in server.asked("Check"))
    assert [("green" in c, "found in green" in c) for c in checks] == [(True, True), (False, False)]
    assert done.json["agents"]["done"] == 4


def test_a_failed_item_skips_only_its_own_line(shell: Shell, server: Server):
    """scan[1] fails, check[1] is skipped, the others go on, and the exit code says partial."""
    recipe = shell.recipe(
        """
tasks:
  - {id: scan, prompt: "Review {{ item }}", for_each: {items: [a, b, c], as: item}}
  - {id: check, prompt: "Check {{ inputs.scan }}", for_each: {from: scan, as: item}}
"""
    )
    server.faults = lambda seen: "400" if "Review b" in seen.prompt else "ok"

    done = shell("run", recipe, "--json")

    assert done.code == 3
    assert done.json["agents"] | {"cancelled": 0} == {
        "total": 6,
        "done": 4,
        "failed": 1,
        "skipped": 1,
        "cancelled": 0,
        "cached": 0,
        "hedged": 0,
    }
    assert [f["agent"] for f in done.json["failures"]] == ["scan[1]"]


def test_a_join_runs_with_the_failure_stated(shell: Shell, server: Server):
    """One failed item of a fan-out does not stop its join; the join is told that it failed."""
    server.faults = lambda seen: "400" if "Review green" in seen.prompt else "ok"

    done = shell("run", shell.recipe(PAIR))

    assert done.code == 3
    assert "(scan[1] has no result: bad_request)" in server.asked("Judge")[0].prompt


def test_a_failed_task_skips_what_depends_on_it(shell: Shell, server: Server):
    """Nothing is called for a task whose only input failed, and stdout stays empty."""
    recipe = shell.recipe(
        """
tasks:
  - {id: first, prompt: "Say one."}
  - {id: second, prompt: "Then two.", depends_on: [first]}
"""
    )
    server.faults = lambda _seen: "400"

    done = shell("run", recipe)

    assert (done.code, done.out, len(server.requests)) == (1, "", 1)


def test_an_optional_task_may_fail(shell: Shell, server: Server):
    """The dependant of an optional task runs without it, and the run is whole."""
    recipe = shell.recipe(
        """
tasks:
  - {id: extra, prompt: "Nice to have.", optional: true}
  - {id: main, prompt: "The main thing.", depends_on: [extra]}
"""
    )
    server.faults = lambda seen: "400" if "Nice" in seen.prompt else "ok"

    assert shell("run", recipe).code == 0


def test_items_are_never_templates(shell: Shell, server: Server):
    """An item that looks like a template reaches the model as it is."""
    recipe = shell.recipe(
        """
params: {items: {type: list}}
tasks:
  - {id: t, prompt: "Look at {{ item }}", for_each: {items: "{{ items }}", as: item}}
"""
    )

    shell("run", recipe, "-p", 'items:=["{{ 7*7 }}"]')

    assert "{{ 7*7 }}" in server.prompts[0]


def test_equal_items_are_agents_of_their_own(shell: Shell, server: Server):
    """Two equal items give two records, one call, and a twin that says cached."""
    recipe = shell.recipe(
        """
tasks:
  - {id: t, prompt: "Say {{ item }}", for_each: {items: [same, same], as: item}}
merge: {strategy: jsonl}
"""
    )

    done = shell("run", recipe)

    assert [line["agent"] for line in done.lines] == ["t[0]", "t[1]"]
    assert sorted(line["cached"] for line in done.lines) == [False, True]
    assert len(server.requests) == 1


def test_cache_off_calls_equal_items_each(shell: Shell, server: Server):
    """With --cache off nothing is shared between equal items."""
    recipe = shell.recipe(
        'tasks:\n  - {id: t, prompt: "Say {{ item }}", for_each: {items: [same, same], as: item}}\n'
    )

    shell("run", recipe, "--cache", "off")

    assert len(server.requests) == 2


def test_jsonl_records_hold_every_field(shell: Shell, server: Server):
    """One record per leaf agent in item order; a failed one has a null output and an error."""
    recipe = shell.recipe(
        """
tasks:
  - {id: t, prompt: "Say {{ item }}", for_each: {items: [good, bad], as: item}}
merge: {strategy: jsonl}
"""
    )
    server.faults = lambda seen: "400" if "bad" in seen.prompt else "ok"
    server.reply = "fine"

    done = shell("run", recipe)

    good, bad = done.lines
    keys = ["index", "agent", "input", "output", "status", "model", "cached", "cost_usd", "seconds"]
    assert (done.code, list(good), list(bad)) == (3, keys, [*keys, "error"])
    assert (good["output"], good["status"], good["input"], good["model"]) == (
        "fine",
        "ok",
        "good",
        "openai/fake",
    )
    assert (bad["output"], bad["status"], bad["error"]["kind"]) == (None, "failed", "bad_request")


def test_json_merge_is_structured(shell: Shell):
    """`merge: json` prints a list, and --json carries the same list as `structured`."""
    recipe = shell.recipe(
        """
tasks:
  - {id: t, prompt: "Say {{ item }}", for_each: {items: [a, b], as: item}}
merge: {strategy: json}
"""
    )

    plain, document = shell("run", recipe), shell("run", recipe, "--json")

    assert [r["input"] for r in json.loads(plain.out)] == ["a", "b"]
    assert [r["agent"] for r in document.json["structured"]] == ["t[0]", "t[1]"]


def test_majority_prints_the_answer(shell: Shell, server: Server):
    """Three samples of one question: the most common answer is the result."""
    recipe = shell.recipe(
        """
tasks:
  - {id: t, prompt: "Try {{ item }}", for_each: {items: [1, 2, 3], as: item}}
merge: {strategy: majority}
"""
    )
    server.routes.append(("Try 2", "41"))
    server.reply = "42."

    assert shell("run", recipe).out == "42.\n"


def test_a_typed_reply_gives_its_answer(shell: Shell, server: Server):
    """The last line of an agent's text may be JSON that says what the answer is."""
    server.reply = 'First I thought.\n{"status": "ok", "answer": "42", "claims": []}'

    done = shell("run", shell.recipe('tasks: [{id: t, prompt: "Add."}]'))

    assert done.out == "42\n"


def test_output_schema_is_asked_again_once(shell: Shell, server: Server):
    """Output that does not fit its schema is asked for once more, with the validator's words."""
    recipe = shell.recipe(
        """
tasks:
  - id: t
    prompt: "Count."
    output_schema: {type: object, properties: {n: {type: integer}}, required: [n]}
"""
    )
    answers = iter(['{"n": "three"}', '{"n": 3}'])
    server.reply = lambda _body: next(answers)

    done = shell("run", recipe)

    assert (done.code, json.loads(done.out), len(server.requests)) == (0, {"n": 3}, 2)
    assert "three" in server.requests[1].text


def test_output_schema_fails_after_the_second_try(shell: Shell, server: Server):
    """A model that cannot keep to the schema is a failed agent, not a wrong result."""
    recipe = shell.recipe(
        'tasks: [{id: t, prompt: "Count.", output_schema: {type: object, required: [n]}}]'
    )
    server.reply = "no json at all"

    done = shell("run", recipe, "--json")

    assert (done.code, len(server.requests)) == (1, 2)
    assert done.json["failures"][0]["kind"] == "schema"

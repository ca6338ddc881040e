"""What is wrong with a recipe: every kind of mistake, with the sentence that the user reads."""

from pathlib import Path

import pytest

from swarmcli.errors import RecipeError
from swarmcli.recipe.load import load_recipe
from tests.effort import calls
from tests.recipe.reading import faults, load

SCAN = "tasks:\n  - {id: scan, prompt: x}\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("task: x", "1:1 the recipe has no 'version' [begin with 'version: 1']"),
        ("version: '1'\ntask: x", "1:10 'version' must be 1, found '1' [write 'version: 1']"),
        ("version: true\ntask: x", "1:10 'version' must be 1, found true [write 'version: 1']"),
        ("version: 1.0\ntask: x", "1:10 'version' must be 1, found 1.0 [write 'version: 1']"),
        ("version:\ntask: x", "1:1 'version' has no value [give it one, or remove the line]"),
        ("version: [1]\ntask: x", "1:10 'version' must be 1, found a collection [write 'version: 1']"),
        ("version: 0\ntask: x", "1:10 'version' must be 1, found 0 [write 'version: 1']"),
        ("version: 2\ntask: x",
         "1:10 the recipe is of version 2; this swarm reads version 1 [update swarm]"),
    ],
)  # fmt: skip
def test_the_version_is_required_and_exact(text: str, problem: str):
    """Only the number 1 is version 1."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(text, "r.yaml", cwd=Path())

    problems = caught.value.problems
    assert [f"{p.line}:{p.column} {p.message} [{p.hint}]" for p in problems] == [problem]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("verison: 1\ntask: x", ["1:1 unknown key 'verison' [did you mean 'version'?]"]),
        ("tsak: x", ["1:1 unknown key 'tsak' [did you mean 'task'?]"]),
        ("task: x\nmoed: auto", ["2:1 unknown key 'moed' [did you mean 'mode'?]"]),
        ("task: x\nlimits: {paralel: 5}", ["2:10 unknown key 'paralel' [did you mean 'parallel'?]"]),
        ("task: x\nMode: auto", ["2:1 unknown key 'Mode' [did you mean 'mode'?]"]),
        ("steps:\n  - {id: a, prompt: x, needs: [b]}\n  - {id: b, prompt: x}",
         ["1:1 unknown key 'steps' [did you mean 'tasks'?]",
          "2:24 unknown key 'needs' [did you mean 'depends_on'?]"]),
        ("task: x\nretry: {zzz: 1}", ["2:9 unknown key 'zzz' [known here: attempts]"]),
        ("task: x\nmodels: {a: {modle: b/c}}", ["2:14 unknown key 'modle' [did you mean 'model'?]"]),
        ("task: x\nhedge: {quantle: 0.5}", ["2:9 unknown key 'quantle' [did you mean 'quantile'?]"]),
        ("tasks:\n  - id: scan\n    promt: x {{ fil }}",
         ["3:5 unknown key 'promt' [did you mean 'prompt'?]",
          "3:17 unknown variable 'fil' in 'prompt' of task 'scan' [did you mean 'files'?]"]),
        ("parms: {topic: {}}\ntask: '{{ topic }}'", ["1:1 unknown key 'parms' [did you mean 'params'?]"]),
    ],
)  # fmt: skip
def test_a_misspelt_key_is_reported_once(text: str, problems: list[str]):
    """It is then read as the key that was meant, so it causes no missing key and no unknown name."""
    assert faults(text) == problems


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tasks: [{id: a}]", "1:9 task 'a' has no 'prompt'"),
        ("tasks: [{prompt: x}]", "1:9 task 1 has no 'id'"),
        ("mode: auto", "0:1 the recipe has neither 'task' nor 'tasks' [add 'task: ...', the job to do]"),
        ("task: x\nmodels: {a: {price: {input_per_mtok: 1}, model: b/c}}",
         "2:14 'price' of model role 'a' has no 'output_per_mtok'"),
        ("task:", "1:1 'task' has no value [give it one, or remove the line]"),
        ("task: x\nvote:", "2:1 'vote' has no value [give it one, or remove the line]"),
        ("task: x\nfiles: [~]", "2:9 'files[0]' has no value [give it one, or remove the line]"),
        ("task: x\noutput: {schema: }", "2:10 'output.schema' has no value [give it one, or remove the line]"),
        ("task: '  '", "1:7 'task' is empty [write some text, or remove the line]"),
        ("tasks: []", "1:8 'tasks' must be a list of at least 1, found a list"),
        ("task: 5", "1:7 'task' must be text, found the number 5 [write \"5\" in quotes]"),
        ("task: true", "1:7 'task' must be text, found true [write \"true\" in quotes]"),
        ("task: [x]", "1:7 'task' must be text, found a list"),
        ("task: x\nname: \"a\\nb\"", "2:7 'name' must be one line without control characters"),
        ("task: x\nlimits: {parallel: ten}",
         "2:20 'limits.parallel' must be a whole number, found 'ten'"),
        ("task: x\nlimits: {parallel: '5'}",
         "2:20 'limits.parallel' must be a whole number, found '5' [remove the quotes]"),
        ("task: x\nlimits: {parallel: 5.0}",
         "2:20 'limits.parallel' must be a whole number, found the number 5.0"),
        ("task: x\nlimits: {parallel: 012}", "2:20 'limits.parallel' must be a whole number, found '012' "
         "[write 12: some readers take a leading zero for octal]"),
        ("task: x\nlimits: {max_tokens: 1_000}",
         "2:22 'limits.max_tokens' must be a whole number, found '1_000' [write 1000]"),
        ("task: x\nlimits: {parallel: 0}", "2:20 'limits.parallel' must be at least 1, found the number 0"),
        ("task: x\nlimits: {parallel: true}", "2:20 'limits.parallel' must be a whole number, found true"),
        ("task: x\nlimits: {max_cost_usd: 0}",
         "2:24 'limits.max_cost_usd' must be more than 0, found the number 0"),
        ("task: x\nlimits: {max_cost_usd: .inf}", "2:24 '.inf' is not a finite number [quote it if it is text]"),
        ("task: x\nmode: no", "2:7 'mode' must be auto, instant, thinking, agent or swarm, found 'no'"),
        ("task: x\nmode: swam", "2:7 'mode' must be auto, instant, thinking, agent or swarm, found 'swam' "
         "[did you mean 'swarm'?]"),
        ("task: x\ncache: {mode: no}", "2:15 'cache.mode' must be use, refresh, only or off, found 'no' "
         "[did you mean 'off'?]"),
        ("task: x\ncache: off", "2:8 'cache' must be a mapping, found 'off' [write {mode: off}]"),
        ("task: x\nmerge: concat", "2:8 'merge' must be a mapping, found 'concat' [write {strategy: concat}]"),
        ("task: x\nhedge: false", "2:8 'hedge' must be off or a mapping, found false [write off]"),
        ("task: x\nhedge: no", "2:8 'hedge' must be off or on, found 'no' [did you mean 'off'?]"),
        ("task: x\nfiles: a.py", "2:8 'files' must be a list, found 'a.py' [write [a.py]]"),
        ("tasks: [{id: a, prompt: x, optional: yes}]",
         "1:38 'optional' of task 'a' must be true or false, found 'yes' [write true]"),
        ("tasks: [{id: a b, prompt: x}]",
         "1:14 'id' of task 'a b' must be 1 to 64 letters, digits, '_' and '-', found 'a b'"),
        ("tasks: [{id: ../x, prompt: x}]",
         "1:14 'id' of task '../x' must be 1 to 64 letters, digits, '_' and '-', found '../x'"),
        ("tasks: [x]", "1:9 task 1 must be a mapping, found 'x'"),
        ("task: x\nagents: {a/b: {prompt: y}}",
         "2:10 the name 'a/b' must be 1 to 64 letters, digits, '_' and '-'"),
        ("task: x\nparams: {a-b: {}}",
         "2:10 the name 'a-b' must be letters, digits and '_', beginning with a letter"),
        ("task: x\nmodels: {a: 5}", "2:13 model role 'a' must be a model id, a role or a mapping, found the number 5"),
        ("task: x\nmodels: {a: {model: b/c, temperature: 3}}",
         "2:39 'temperature' of model role 'a' must be at most 2, found the number 3"),
        ("task: x\nmodels: {a: {model: b/c, api_key_env: sk-123}}",
         "2:39 'api_key_env' of model role 'a' must be the name of an environment variable, found 'sk-123'"),
        ("task: x\nlimits: {timeout: 90}", "2:19 'limits.timeout' must be a duration such as 90s, 5m or 1h30m, "
         "found the number 90 [write 90s or 90m]"),
        ("task: x\nlimits: {timeout: 0s}", "2:19 'limits.timeout' must be longer than zero, found '0s'"),
        ("task: x\nlimits: {timeout: -5m}",
         "2:19 'limits.timeout' must be a duration such as 90s, 5m or 1h30m, found '-5m'"),
        ("task: x\nlimits: {timeout: 1:30}",
         "2:19 'limits.timeout' must be a duration such as 90s, 5m or 1h30m, found '1:30'"),
        ("task: x\nlimits: {timeout: 30m1h}", "2:19 'limits.timeout' must be a duration with its units from large "
         "to small, such as 1h30m, found '30m1h'"),
        ("task: x\nmin_success: 0.9",
         "2:14 'min_success' must be a percentage such as 15%, found the number 0.9 [write 90%]"),
        ("task: x\nmin_success: 120%", "2:14 'min_success' must be at most 100%, found '120%'"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_what_was_expected(text: str, problem: str):
    """The sentence says which key, what may stand there, what was found, and often what to write."""
    assert faults(text) == [problem]


@pytest.mark.parametrize(
    ("tasks", "problem"),
    [
        ("{id: scan, prompt: y}", "3:10 two tasks have the id 'scan' (first on line 3) [ids are unique]"),
        ("{id: b, prompt: y, depends_on: [scna]}",
         "3:37 task 'b' needs 'scna', which does not exist [did you mean 'scan'?]"),
        ("{id: b, prompt: y, depends_on: [b]}", "3:37 task 'b' waits for itself [remove it]"),
        ("{id: b, prompt: y, depends_on: [scan, scan]}",
         "3:43 task 'b' depends on 'scan' twice [remove one of them]"),
        ("{id: b, prompt: y, for_each: {from: scan}}",
         "3:41 task 'b' takes its items from 'scan', which is no fan-out "
         "[give 'scan' a for_each, or write depends_on: [scan]]"),
        ("{id: b, prompt: y, for_each: {from: nope}}",
         "3:41 task 'b' needs 'nope', which does not exist [tasks: scan]"),
        ("{id: b, prompt: y, for_each: {from: b}}", "3:41 task 'b' waits for itself [remove it]"),
        ("{id: b, prompt: y, for_each: {as: x}}", "3:24 'for_each' of task 'b' needs either 'items' or 'from'"),
        ("{id: b, prompt: y, for_each: {items: files}}",
         "3:42 'for_each.items' of task 'b' must be a list or one expression [for example \"{{ files }}\"]"),
        ("{id: b, prompt: y, for_each: {items: '{{ f }}'}}",
         "3:46 unknown variable 'f' in 'for_each.items' of task 'b' [known here: stdin, files]"),
        ("{id: b, prompt: y, for_each: {items: [1], as: files}}",
         "3:51 'files' has a meaning of its own in templates [choose another name]"),
        ("{id: b, prompt: y, agent: writer}",
         "3:31 task 'b' names the agent 'writer', which does not exist [add it under 'agents']"),
    ],
)  # fmt: skip
def test_the_graph_is_checked_before_anything_runs(tasks: str, problem: str):
    """Names exist, nothing waits for itself, and fan-outs have items."""
    assert faults(f"{SCAN}  - {tasks}\n") == [problem]


def test_circles_are_printed_from_the_first_task_of_the_file():
    """`a -> b` reads "a waits for b"; two separate circles are two problems."""
    text = (
        "tasks:\n"
        "  - {id: a, prompt: x, depends_on: [b]}\n"
        "  - {id: b, prompt: x, depends_on: [c]}\n"
        "  - {id: c, prompt: x, depends_on: [a]}\n"
        "  - {id: d, prompt: x, for_each: {from: e}}\n"
        "  - {id: e, prompt: x, for_each: {from: d}}\n"
    )

    assert faults(text) == [
        "2:37 tasks wait for each other in a circle: a -> b -> c -> a [remove one of these]",
        "5:41 tasks wait for each other in a circle: d -> e -> d [remove one of these]",
    ]


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ("{small: gpt-5}", "2:17 'gpt-5' is neither a model role nor a model id (provider/name) "
         "[did you mean 'openai/gpt-5'?]"),
        ("{small: my-model}", "2:17 'my-model' is neither a model role nor a model id (provider/name) "
         "[write provider/my-model, for example openai/gpt-5-mini]"),
        ("{writer: smal}", "2:18 'smal' is neither a model role nor a model id (provider/name) "
         "[did you mean 'small'?]"),
        ("{small: 'openai/gpt 5'}", "2:17 'openai/gpt 5' is no model id: write provider/name without spaces"),
        ("{small: small}", "2:17 model role 'small' names itself [give one of them a model id]"),
        ("{a: b, b: c, c: a}", "2:13 model roles name each other in a circle: a -> b -> c -> a "
         "[give one of them a model id]"),
        ("{a: {model: small}}", "2:21 'model' of model role 'a' must be a model id (provider/name), found 'small' "
         "[to use another role's model write 'a: small']"),
        ("{a: {model: claude-x}}", "2:21 'model' of model role 'a' must be a model id (provider/name), "
         "found 'claude-x' [did you mean 'anthropic/claude-x'?]"),
        ("{a: {model: b/c, fallbacks: [mini]}}", "2:38 'mini' is neither a model role nor a model id (provider/name) "
         "[write provider/mini, for example openai/gpt-5-mini]"),
    ],
)  # fmt: skip
def test_models_are_roles_or_have_a_provider(models: str, problem: str):
    """A misspelt role never becomes a model name that some server is asked for."""
    assert faults(f"task: x\nmodels: {models}\n") == [problem]


def test_every_place_that_names_a_model_is_checked():
    """Agents, tasks, votes and critics."""
    text = (
        "task: x\nagents: {a: {model: m1}}\nvote: {models: [m2], escalate: m3}\nverify: {critic: m4}\n"
        "tasks: [{id: t, prompt: x, model: m5, vote: {models: [m6]}}]\n"
    )

    assert [fault.split("'")[1] for fault in faults(text)] == ["m1", "m2", "m3", "m4", "m5", "m6"]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ topik }}", "2:11 unknown variable 'topik' in 'task' [did you mean 'topic'?]"),
        ("{{ x }}", "2:11 unknown variable 'x' in 'task' [known here: topic, stdin, files]"),
        ("a {{ topic }} {% if topik %}b{% endif %}",
         "2:28 unknown variable 'topik' in 'task' [did you mean 'topic'?]"),
        ("{{ item }}", "2:11 unknown variable 'item' in 'task' [known here: topic, stdin, files]"),
        ("{{ inputs.scan }}", "2:11 'task' cannot use 'inputs': only the prompts of tasks can"),
        ("{{ topic", "2:7 'task': template: unexpected end of template, expected 'end of print statement'"),
        ("{{ topic|nope }}", "2:7 'task': template: No filter named 'nope'"),
        ("{% include 'x' %}", "2:7 'task': template: a recipe's templates cannot use other templates"),
    ],
)  # fmt: skip
def test_unknown_variables_are_found_where_they_stand(template: str, problem: str):
    """A template that cannot be filled in costs no model call."""
    assert faults(f'params: {{topic: {{}}}}\ntask: "{template}"\n') == [problem]


def test_templates_in_blocks_are_located_by_line():
    """In a text over several lines the line of the variable is pointed at, not the first one."""
    text = "task: |\n  Hello\n\n  dear {{ name }},\n  {% if %}\n"

    assert faults(text.replace("  {% if %}\n", "")) == [
        "4:11 unknown variable 'name' in 'task' [known here: stdin, files]"
    ]
    assert faults(text)[0].startswith("5:3 'task': template: Expected an expression")


def test_inputs_must_be_waited_for():
    """`inputs.scan` needs scan among `depends_on` or as the source of the fan-out."""
    text = (
        "tasks:\n"
        "  - {id: scan, prompt: x, for_each: {items: [1]}}\n"
        "  - {id: a, prompt: '{{ inputs.scan }}'}\n"
        "  - {id: b, prompt: '{{ inputs[\"scan\"] }} {{ inputs.scn }}', depends_on: [scan]}\n"
        "  - {id: c, prompt: '{{ item }} {{ inputs.scan }}', for_each: {from: scan}}\n"
        "agents: {p: {prompt: '{{ item }}'}}\n"
    )

    assert faults(text) == [
        "3:25 task 'a' uses inputs.scan, but does not wait for 'scan' [add depends_on: [scan]]",
        "4:46 task 'b' uses inputs.scn, but there is no task 'scn' [did you mean 'inputs.scan'?]",
        "6:26 unknown variable 'item' in 'prompt' of agent 'p' [known here: stdin, files]",
    ]


@pytest.mark.parametrize(
    ("param", "problem"),
    [
        ("{type: strng}", "1:20 'type' of parameter 'a' must be string, integer, number, boolean, file or list, "
         "found 'strng' [did you mean 'string'?]"),
        ("{default: 5}", "1:23 'default' of parameter 'a' must be text, found the number 5 [write \"5\" in quotes]"),
        ("{default: true}",
         "1:23 'default' of parameter 'a' must be text, found true [write \"true\" in quotes]"),
        ("{type: integer, default: '5'}",
         "1:38 'default' of parameter 'a' must be a whole number, found '5' [remove the quotes]"),
        ("{type: integer, default: true}",
         "1:38 'default' of parameter 'a' must be a whole number, found true"),
        ("{type: boolean, default: 1}",
         "1:38 'default' of parameter 'a' must be true or false, found the number 1"),
        ("{type: list, default: x}", "1:35 'default' of parameter 'a' must be a list, found 'x' [write [x]]"),
        ("{type: integer, choices: [1, x]}",
         "1:42 'choices[1]' of parameter 'a' must be a whole number, found 'x'"),
        ("{choices: [x, y], default: z}",
         "1:40 'default' of parameter 'a' is not one of its choices, found 'z' [choices: x, y]"),
        ("{type: list, choices: [x, y], default: [x, z]}",
         "1:52 'default' of parameter 'a' is not one of its choices, found 'z' [choices: x, y]"),
    ],
)  # fmt: skip
def test_parameters_agree_with_themselves(param: str, problem: str):
    """A default or choice of another type is found by `check`, not by the first user."""
    assert faults(f"params: {{a: {param}}}\ntask: x\n") == [problem]


def test_names_with_a_meaning_of_their_own_are_no_parameters():
    """A parameter `stdin` would hide standard input."""
    assert faults("params: {stdin: {}, for: {}}\ntask: x\n") == [
        "1:10 'stdin' has a meaning of its own in templates [choose another name]",
        "1:21 'for' has a meaning of its own in templates [choose another name]",
    ]


def test_the_item_may_not_hide_a_parameter():
    """`{{ item }}` would silently mean the other one."""
    text = "params: {item: {}}\ntasks: [{id: a, prompt: x, for_each: {items: [1]}}]\n"

    assert faults(text) == [
        "2:28 the item of task 'a' hides the parameter 'item' [choose another name with 'as']"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("agents: {a: {tools: ['github/*']}}", "2:22 no server 'github' is declared under tools.mcp "
         "[known here: files]"),
        ("agents: {a: {tools: [file]}}", "2:22 'file' is no tool: no server 'file' is declared under tools.mcp "
         "[did you mean 'files'?]"),
        ("tools: {allow: [gh/x]}", "2:17 no server 'gh' is declared under tools.mcp [known here: files]"),
        ("tools: {mcp: {gh: {url: 'http://x'}}, allow: [gh]}",
         "2:47 'gh' names no tool of server 'gh' [write 'gh/*' for all of them]"),
        ("tools: {mcp: {files: {url: 'http://x'}}}",
         "2:15 the name 'files' belongs to the built-in tools [choose another name]"),
        ("tools: {mcp: {gh: {args: [x]}}}", "2:15 server 'gh' needs either 'command' or 'url'"),
        ("tools: {mcp: {gh: {command: x, url: y}}}", "2:15 server 'gh' needs either 'command' or 'url'"),
        ("vote: {audit: 1%}", "2:8 'vote.audit' needs 'escalate': the model that checks"),
        ("rate: {'openai/*': {}}", "2:20 rate 'openai/*' limits nothing [give rpm, tpm or parallel]"),
        ("mode: instant\ntasks: [{id: a, prompt: x}]", "2:7 'mode: instant' and fixed 'tasks' exclude each other: "
         "tasks run in mode swarm [remove one of them]"),
        ("output: {schema: {type: objekt}}", "2:25 'output.schema' is no valid JSON Schema: "
         "'objekt' is not valid under any of the given schemas"),
        ("output: {schema: {$ref: 'https://example.com/x'}}",
         "2:25 'output.schema' refers to another document ('https://example.com/x')"),
        ("output: {schema: {properties: {a: {pattern: '('}}}}",
         "2:45 'output.schema' is no valid JSON Schema: '(' is not a 'regex'"),
    ],
)  # fmt: skip
def test_blocks_agree_with_each_other(text: str, problem: str):
    """Tools have servers, audits a judge, and schemas are schemas."""
    assert faults(f"task: x\n{text}\n") == [problem]


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("/etc/passwd", "must not be absolute, found '/etc/passwd'"),
        ("~/x", "must not be absolute, found '~/x'"),
        ("../x", "must not hold '..', found '../x'"),
        ("a/../../x", "must not hold '..', found 'a/../../x'"),
        ("a\\..\\x", "must not hold '..', found 'a\\..\\x'"),
        ("link/x", "leaves the working directory through a link: 'link/x'"),
        ("here", "is a folder: 'here'"),
        ("new/", "is a folder: 'new/'"),
        (".", "is a folder: '.'"),
        ("loop/x", "cannot be a file: "),
    ],
)
def test_the_output_stays_inside_the_working_directory(tmp_path: Path, file: str, problem: str):
    """A recipe from elsewhere cannot overwrite what lies outside, not even through a link."""
    cwd = tmp_path / "work"
    (cwd / "here").mkdir(parents=True)
    (cwd / "link").symlink_to(tmp_path)
    (cwd / "loop").symlink_to(cwd / "loop")

    found = faults(f"task: x\noutput: {{file: '{file}'}}\n", cwd)

    assert [fault.split(" [")[0] for fault in found] == [f"2:16 'output.file' {problem}"] or (
        problem.endswith(": ") and found[0].startswith(f"2:16 'output.file' {problem}")
    )


def test_an_output_in_a_folder_that_does_not_exist_yet_is_fine(tmp_path: Path):
    """Parents are made when the file is written."""
    assert load("task: x\noutput: {file: a/b/c.md}\n", tmp_path).output.file == "a/b/c.md"


def test_all_problems_are_found_at_once():
    """Mistakes of YAML types, names, graph and templates come in one list, sorted by place."""
    text = (
        "parms: {n: {type: int}}\n"
        "tasks:\n"
        "  - {id: a, prompt: '{{ m }}', depends_on: [b], agent: x}\n"
        "  - {id: b, depends_on: [a]}\n"
        "limits: {parallel: x}\n"
    )

    assert [fault.split(" [")[0] for fault in faults(text)] == [
        "1:1 unknown key 'parms'",
        "1:19 'type' of parameter 'n' must be string, integer, number, boolean, file or list, found 'int'",
        "3:25 unknown variable 'm' in 'prompt' of task 'a'",
        "3:45 tasks wait for each other in a circle: a -> b -> a",
        "3:56 task 'a' names the agent 'x', which does not exist",
        "4:5 task 'b' has no 'prompt'",
        "5:20 'limits.parallel' must be a whole number, found 'x'",
    ]


def test_a_large_graph_is_checked_quickly():
    """Four times the tasks in a chain are about four times the work."""

    def of(count: int) -> int:
        lines = ["tasks:", "  - {id: t0, prompt: x}"]
        lines += [
            f"  - {{id: t{i}, prompt: '{{{{ inputs.t{i - 1} }}}}', depends_on: [t{i - 1}]}}"
            for i in range(1, count)
        ]
        assert len(load("\n".join(lines)).tasks) == count
        return calls(lambda: load("\n".join(lines)))

    assert of(800) < 6 * of(200)

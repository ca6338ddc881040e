"""What a valid recipe becomes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.errors import RecipeError
from swarmcli.recipe.document import line_starts
from swarmcli.recipe.load import load_recipe, template_variables, unsupported
from swarmcli.recipe.schema import RecipeFile
from swarmcli.recipe.values import (
    CacheRules,
    ForEach,
    Hedge,
    Limits,
    McpServer,
    ModelSpec,
    Output,
    Param,
    PlanRules,
    Price,
    Profile,
    Rate,
    Recipe,
    RoleRef,
    Tools,
    Verify,
    Vote,
)
from tests.recipe.reading import faults, load

EVERYTHING = (Path(__file__).parent / "everything.yaml").read_text("utf-8")


def test_every_key_arrives_as_a_value():
    """Durations are seconds, percentages shares, lists tuples; nothing of the file is lost."""
    recipe = load_recipe(EVERYTHING, "audit.yaml", cwd=Path("/nonexistent"))

    assert recipe == Recipe(
        name="audit",
        source="audit.yaml",
        text=EVERYTHING,
        description="One line.",
        params=(
            Param(name="topic", description="...", default="x", required=False),
            Param(name="depth", type="integer", choices=(1, 2)),
        ),
        files=("src/**/*.py",),
        task="Look at {{ topic }}, {{ stdin }} and {{ files }}.\n",
        mode="swarm",
        models={
            "small": ModelSpec(id="openai/gpt-5-mini"),
            "planner": RoleRef(role="large"),
            "large": ModelSpec(
                id="anthropic/claude-x",
                fallbacks=("small", "openai/gpt-5"),
                temperature=0.0,
                max_output_tokens=2000,
                api_base="https://example.com/v1",
                api_key_env="MY_KEY",
                context_window=200000,
                price=Price(input_per_mtok=1.0, output_per_mtok=2.5),
                reasoning_effort="low",
            ),
        },
        agents={
            "researcher": Profile(
                name="researcher",
                description="d",
                prompt="p {{ topic }}",
                model="small",
                tools=("files", "github/*"),
                max_turns=3,
                output_schema={"type": "object"},
            )
        },
        tasks=recipe.tasks,
        plan=PlanRules(max_tasks=6, replans=0),
        vote=Vote(
            models=("small", "large"),
            samples=2,
            rule="majority",
            canonical="number",
            escalate="large",
            notes=False,
            audit=0.01,
        ),
        verify=Verify(conflicts=True, critic="judge", rounds=2, criteria="..."),
        merge="concat",
        limits=Limits(
            parallel=100,
            timeout_s=600.0,
            task_timeout_s=90.0,
            max_cost_usd=2.0,
            max_tokens=2000000,
            max_calls=1000,
            reserve=0.2,
        ),
        rate=(Rate(pattern="openai/*", rpm=500, tpm=200000, parallel=50),),
        retry_attempts=2,
        hedge=Hedge(quantile=0.8, max_extra=0.1),
        cache=CacheRules(mode="refresh", ttl_s=2592000.0),
        on_error="fail_fast",
        min_success=0.9,
        tools=recipe.tools,
        output=Output(file="out/report.md", format="markdown", schema={"type": "object"}),
    )
    assert recipe.tools.mcp == (
        McpServer(name="github", command="gh-mcp", args=("-v",), env=("GITHUB_TOKEN",)),
        McpServer(name="docs", url="http://localhost:1"),
    )
    assert (recipe.tools.allow, recipe.tools.deny) == (("docs/*",), ("files",))


def test_tasks_keep_their_order_their_lines_and_their_fan_outs():
    """The graph is as it stands in the file."""
    scan, check, judge = load_recipe(EVERYTHING, "r.yaml", cwd=Path("/nonexistent")).tasks

    assert (scan.line, check.line, judge.line) == (28, 29, 30)
    assert scan.for_each == ForEach(expression="{{ files }}", name="item")
    assert check.for_each == ForEach(source="scan", name="it")
    assert (judge.depends_on, judge.optional, judge.model) == (("check",), True, "large")
    assert judge.vote == Vote(samples=3)
    assert (scan.agent, check.output_schema) == ("researcher", {"type": "object"})


def test_what_is_left_out_has_the_defaults_of_the_values():
    """A one-line recipe is a recipe; defaults stand in one place."""
    recipe = load("task: Say hello.\n")

    assert recipe == Recipe(name="r", source="r.yaml", text=recipe.text, task="Say hello.")


@pytest.mark.parametrize(
    ("source", "name"), [("a/b/review.yaml", "review"), ("review", "review"), ("-", "recipe")]
)
def test_a_recipe_without_a_name_is_called_like_its_file(source: str, name: str):
    """The header of the live tree always has something to show."""
    assert load_recipe("version: 1\ntask: x\n", source, cwd=Path()).name == name


@pytest.mark.parametrize(
    ("written", "hedge"),
    [
        ("hedge: off", None),
        ("hedge: on", Hedge()),
        ("hedge: {quantile: 0.5}", Hedge(quantile=0.5)),
        ("", Hedge()),
    ],
)
def test_off_and_on_are_words(written: str, hedge: Hedge | None):
    """`hedge: off` means off, although YAML 1.1 reads it as false; without a word it is on."""
    assert load(f"task: x\n{written}\n").hedge == hedge
    assert load("task: x\ncache: {mode: off}\n").cache.mode == "off"


def test_a_parameter_with_null_as_default_is_optional():
    """`default: null` is a default; no `default` at all makes the parameter required."""
    recipe = load("task: x\nparams:\n  a: {default: null}\n  b: {}\n")

    assert [(p.default, p.required) for p in recipe.params] == [(None, False), (None, True)]


def test_items_of_a_fan_out_keep_their_types():
    """Numbers, null and mappings are items like any other, and equal ones are kept."""
    recipe = load("tasks:\n  - {id: a, prompt: x, for_each: {items: [1, 1, null, {k: [v]}, no]}}\n")

    assert recipe.tasks[0].for_each == ForEach(items=(1, 1, None, {"k": ["v"]}, "no"))


def test_built_in_roles_need_no_declaration():
    """`judge` falls back to whatever model there is, so a recipe may just name it."""
    recipe = load("tasks: [{id: a, prompt: x, model: judge}]\nmodels: {writer: large}\n")

    assert recipe.models == {"writer": RoleRef(role="large")}


def test_variables_are_known_before_the_run():
    """The program knows from the text alone whether standard input is wanted."""
    recipe = load(
        "task: 'a {{ stdin }}'\nparams: {n: {}}\n"
        "tasks: [{id: a, prompt: '{{ x.y }}', for_each: {items: '{{ n }}', as: x}}]\n"
    )

    assert template_variables(recipe) == {"stdin", "n", "x"}


def test_what_the_engine_does_not_carry_out_is_said_and_located():
    """Running such a recipe is refused instead of quietly doing less."""
    recipe = load_recipe(EVERYTHING, "r.yaml", cwd=Path("/nonexistent"))

    assert [f"{p.line}:{p.column} {p.message}" for p in unsupported(recipe)] == [
        "26:71 this version of swarm does not carry out the tools of agent 'researcher' yet",
        "42:9 this version of swarm does not carry out tool servers yet",
    ]
    assert unsupported(load("task: x\nhedge: {quantile: 0.5}\nverify: {rounds: 2}\n")) == []


def test_a_recipe_made_by_the_program_has_no_places():
    """`solve` has no file to point into."""
    tools = Tools(mcp=(McpServer(name="files", command="serve"),))
    problems = unsupported(Recipe(name="solve", source="", text="", tools=tools))

    assert [(p.line, p.column) for p in problems] == [(0, 0)]


def test_checking_imports_neither_jinja_nor_litellm(checkout: Path):
    """Recipes with plain variables are checked without anything heavy; run in a process of its own."""
    code = (
        "import sys; from pathlib import Path; from swarmcli.recipe.load import load_recipe;"
        "load_recipe('version: 1\\ntask: \"{{ stdin }} {{ files[0] }}\"\\n', 'x', cwd=Path());"
        "print(sorted({'jinja2', 'litellm', 'openai', 'mcp', 'jsonschema', 'json_repair'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, timeout=60
    )

    assert (done.stdout.strip(), done.stderr) == ("[]", "")


PIECES = st.sampled_from(
    ["version: 1", "task: x", "tasks:", "  - id: a", "    prompt: '{{ b }}'", "    depends_on: [a, b]",
     "    for_each: {from: a}", "    for_each: {items: [1]}", "params: {a: {type: list, default: 5}}", "models: {a: a}",
     "hedge: off", "mode: no", "limits: {timeout: 5}", "agents: {x: {tools: [q]}}", "output: {file: /x}", "vote:",
     "    agent: x", "parms: 1", "  - 5", "  - {id: b, promt: '{{ inputs.a }}'}", "    prompt: '{% if %}'",
     "rate: {x: {}}"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map("\n".join))
def test_nothing_but_recipe_error_leaves_the_loader(text: str):
    """Any mixture of right and wrong lines is a recipe or a list of problems with places in the file."""
    try:
        load_recipe(text, "r.yaml", cwd=Path("/nonexistent"))
    except RecipeError as error:
        count = len(line_starts(text))
        places = [(p.line, p.column) for p in error.problems]
        assert places == sorted(places)
        assert all(1 <= line <= count and column >= 1 for line, column in places)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "x", "{{ x }}", "5m", "off", "a/b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "from", "type", "x"]), inner),
    max_leaves=6,
)  # fmt: skip
KEYS = st.sampled_from(sorted(set(RecipeFile.model_fields) - {"version"}))


@given(st.dictionaries(KEYS, JSON, max_size=5))
def test_values_of_any_shape_are_refused_by_name(data: dict[str, object]):
    """Whatever stands behind a known key, the loader answers with a recipe or with problems."""
    text = json.dumps({"version": 1, **data})
    try:
        load_recipe(text, "r.yaml", cwd=Path("/nonexistent"))
    except RecipeError as error:
        places = [(p.line, p.column) for p in error.problems]
        assert all(line == 1 and 1 <= column <= len(text) for line, column in places)


def test_version_comes_first():
    """A recipe of a later format is refused for that alone: nothing else in it can be judged."""
    assert faults("version: 2\nnews: [1]\n") == [
        "1:10 the recipe is of version 2; this swarm reads version 1 [update swarm]"
    ]

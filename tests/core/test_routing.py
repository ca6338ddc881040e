"""Which model answers for which role, and which mode a job gets."""

from dataclasses import replace

import pytest

from swarmcli.core.routing import ROLES, choose_mode, parse_override, resolve_roles, with_thinking
from swarmcli.errors import UsageError
from swarmcli.recipe.values import ModelSpec, Price, Recipe, RoleRef, TaskSpec

A, B, C = (ModelSpec(id=f"openai/{name}") for name in "abc")
DEFAULT = (ModelSpec(id="ollama_chat/qwen"), "Ollama runs here")


def roles(declared=None, *overrides, default=None):
    """Role -> model id."""
    found = resolve_roles(declared or {}, map(parse_override, overrides), default)
    return None if found is None else {role: spec.id for role, spec in found.models.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("openai/gpt-5", (None, "openai/gpt-5")),
        ("large=openai/gpt-5", ("large", "openai/gpt-5")),
        (" large = openai/gpt-5 ", ("large", "openai/gpt-5")),
        ("openrouter/meta/llama-4", (None, "openrouter/meta/llama-4")),
        ("azure/deployment=x", (None, "azure/deployment=x")),
        ("small=azure/deployment=x", ("small", "azure/deployment=x")),
    ],
)
def test_dash_m_takes_a_model_or_a_role_and_a_model(text, expected):
    """`-m provider/name` and `-m role=provider/name`, also where a name holds `=` or `/`."""
    assert expected == parse_override(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpt-5", "'gpt-5' has no provider"),
        ("large=gpt-5", "'gpt-5' has no provider"),
        ("large=", "'large=' has no provider"),
        ("", "has no provider"),
        ("openai/", "has no provider"),
        ("/gpt-5", "has no provider"),
        ("=openai/gpt-5", "has no role before '='"),
    ],
)
def test_a_model_without_its_provider_is_refused_with_an_example(text, expected):
    """A bare `gpt-5` might mean anybody's."""
    with pytest.raises(UsageError) as caught:
        parse_override(text)
    assert expected in caught.value.message


def test_one_model_answers_for_every_role():
    """`-m x/y` is all that anybody has to say."""
    assert dict.fromkeys(ROLES, "openai/a") == roles({}, "openai/a")


def test_planner_judge_and_writer_fall_back_to_large_and_then_to_small():
    """The chain of the contract."""
    both = roles({"small": A, "large": B})
    assert both == {
        "small": "openai/a",
        **dict.fromkeys(("large", "planner", "judge", "writer"), "openai/b"),
    }
    assert roles({"small": A}) == dict.fromkeys(ROLES, "openai/a")
    assert roles({"large": B}) == dict.fromkeys(ROLES, "openai/b")
    assert roles({"writer": C}) == dict.fromkeys(ROLES, "openai/c")


def test_dash_m_beats_the_recipe_and_a_role_beats_both():
    """The more exact word wins, wherever it stands on the command line."""
    declared = {"small": A, "large": B, "critic": A}

    assert dict.fromkeys((*ROLES, "critic"), "openai/c") == roles(declared, "openai/c")
    expected = dict.fromkeys((*ROLES, "critic"), "openai/c") | {"critic": "openai/x"}
    assert expected == roles(declared, "critic=openai/x", "openai/c")
    assert "openai/b" == roles(declared, "small=openai/c")["large"]


def test_a_role_that_names_a_role_follows_it_also_when_that_is_overridden():
    """`writer: large` means whatever large is in this run."""
    declared = {
        "small": A,
        "large": B,
        "writer": RoleRef(role="large"),
        "critic": RoleRef(role="writer"),
    }

    assert "openai/b" == roles(declared)["critic"]
    overridden = roles(declared, "large=openai/c")
    assert ["openai/c"] * 3 == [overridden[role] for role in ("large", "writer", "critic")]


def test_a_role_may_name_a_built_in_role_that_nobody_gave():
    """`critic: judge` without a judge is what judge falls back to."""
    assert "openai/a" == roles({"small": A, "critic": RoleRef(role="judge")})["critic"]
    assert "ollama_chat/qwen" == roles({"fast": RoleRef(role="small")}, default=DEFAULT)["fast"]


def test_roles_in_a_circle_are_no_endless_loop():
    """The recipe's check refuses them; here they are only not followed."""
    declared = {"x": RoleRef(role="y"), "y": RoleRef(role="x"), "small": A}

    assert set(ROLES) == set(roles(declared))


def test_the_default_is_used_only_where_nothing_is_given():
    """A key in the environment does not mix into a recipe's own models."""
    assert dict.fromkeys(ROLES, "ollama_chat/qwen") == roles(default=DEFAULT)
    assert dict.fromkeys(ROLES, "openai/a") == roles({"small": A}, default=DEFAULT)
    assert roles() is None


@pytest.mark.parametrize(
    ("declared", "overrides", "expected"),
    [
        ({}, (), "Ollama runs here"),
        ({"small": A}, (), "the recipe"),
        ({"small": A}, ("openai/b",), "-m"),
        ({}, ("small=openai/b",), "-m"),
        ({"fast": RoleRef(role="small")}, (), "Ollama runs here"),
    ],
)
def test_the_reason_of_the_choice_is_told(declared, overrides, expected):
    """The line that is always printed says who chose."""
    assert expected == resolve_roles(declared, map(parse_override, overrides), DEFAULT).reason


def test_what_the_recipe_says_of_a_model_stays_true_when_dash_m_names_it():
    """Price, window and base URL belong to the id, not to the role."""
    described = ModelSpec(
        id="x/y", price=Price(input_per_mtok=1, output_per_mtok=2), context_window=2048
    )
    chosen = resolve_roles({"small": A, "large": described}, [(None, "x/y")], None)

    assert described == chosen.resolve("small") == chosen.resolve("x/y")


def test_an_unknown_role_is_named_with_those_that_exist():
    """A typo in `-m lagre=...` does not silently do nothing."""
    with pytest.raises(UsageError, match=r"there is no role 'lagre' .*large.*critic"):
        roles({"critic": A}, "lagre=openai/a")


def test_what_the_environment_says_of_models_holds_for_an_id_without_a_role():
    """Its endpoint is part of what is asked: another one's answers are not its own."""
    found = replace(
        resolve_roles({"small": A}, [], None), complete=lambda s: replace(s, api_base="http://here")
    )

    assert found.resolve("x/y") == ModelSpec(id="x/y", api_base="http://here")


def test_a_name_is_a_role_or_a_model_id():
    """A task's `model:` may be either; anything else is refused with a hint."""
    found = resolve_roles({"small": A}, [], None)

    assert (A, "anthropic/claude") == (found.resolve("small"), found.resolve("anthropic/claude").id)
    with pytest.raises(UsageError) as caught:
        found.resolve("gpt-5")
    assert ("openai/gpt-5" in caught.value.hint, "no model role" in caught.value.message) == (
        True,
        True,
    )


def mode(task, *, requested=None, has_material=False, **recipe):
    chosen = choose_mode(
        Recipe(name="r", source="-", text="", **recipe), task, requested, has_material=has_material
    )
    return chosen.mode


@pytest.mark.parametrize(
    "task", ["What is the capital of France?", "Translate 'good morning' into Danish.", "2+2"]
)
def test_a_simple_question_is_asked_once(task):
    """No planner call for what one answer settles."""
    assert "instant" == mode(task)


@pytest.mark.parametrize(
    "task",
    [
        "Compare SQLite and DuckDB",
        "List the risks of each option",
        "Review src/",
        "Answer:\n- one\n- two",
        "word " * 60,
    ],
)
def test_what_may_have_parts_goes_to_the_planner(task):
    """Comparisons, lists, surveys and long jobs."""
    assert "swarm" == mode(task)


def test_one_word_is_no_words():
    """The reason is a sentence that people read."""
    chosen = choose_mode(Recipe(name="r", source="-", text=""), "Hi", None, has_material=False)

    assert chosen.reason == "a short question (1 word, nothing to split)"


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ('Describe ["iron", "tin", "zinc"]', "a list of 3 items"),
        ("データベースを価格と性能で比べて表にしてください。" * 3, "a job of"),
    ],
    ids=["a list parameter", "no spaces"],
)  # fmt: skip
def test_the_signal_is_told(task, reason):
    """A list is one in JSON too, and a long job is long in a script without spaces."""
    chosen = choose_mode(Recipe(name="r", source="-", text=""), task, None, has_material=False)

    assert ("swarm", True) == (chosen.mode, chosen.reason.startswith(reason))


@pytest.mark.parametrize(
    "task", ["法国的首都是哪里？", "What is sum([1, 2, 3])?", "What is " + "[" * 5000]
)
def test_what_only_looks_long_or_like_a_list_is_asked_once(task):
    """A short question in Chinese, a row of numbers, brackets without end."""
    assert "instant" == mode(task)


def test_a_long_gap_in_a_task_is_read_quickly():
    """A pasted text of empty lines does not freeze the start (a reader that goes back and forth takes hours)."""
    assert "instant" == mode("What is this?" + "\n" * 1_000_000)


def test_material_goes_to_the_planner_however_short_the_task_is():
    """Files are usually many."""
    assert "swarm" == mode("Summarise this.", has_material=True)


def test_a_stated_mode_is_obeyed_and_fixed_tasks_are_a_swarm():
    """Flag over recipe over guess; a fixed graph needs neither."""
    fixed = (TaskSpec(id="a", prompt="x"),)

    assert "thinking" == mode("Compare a and b", requested="thinking", mode="agent")
    assert "agent" == mode("2+2", mode="agent")
    assert "instant" == mode("2+2", requested="auto", mode="agent")
    assert "swarm" == mode("2+2", requested="instant", tasks=fixed)


def test_thinking_asks_with_effort_unless_the_recipe_chose_one():
    """Mode `thinking` does not overrule `reasoning_effort: high`."""
    high = ModelSpec(id="x/y", reasoning_effort="high")

    assert ("medium", high) == (with_thinking(A).reasoning_effort, with_thinking(high))

"""The answer cache, and which model is asked."""

import os
from pathlib import Path

import pytest

from tests.contract.conftest import Shell
from tests.fakes.openai_server import Server

FAN = """
tasks:
  - {id: t, prompt: "Do {{ item }}", for_each: {items: [a, b, c], as: item}}
  - {id: sum, prompt: "Sum up.", depends_on: [t]}
"""


def test_a_second_run_calls_nothing(shell: Shell, server: Server):
    """The same command twice: zero requests the second time, the same result, and every agent says cached."""
    first = shell("run", shell.recipe(FAN))
    calls = len(server.requests)
    second = shell("run", shell.recipe(FAN), "--json")

    assert len(server.requests) == calls == 4
    assert second.json["result"] + "\n" == first.out
    assert (second.json["agents"]["cached"], second.json["usage"]["calls"]) == (4, 0)
    assert second.json["cost_usd"] == 0.0


def test_refresh_asks_again_and_only_never_asks(shell: Shell, server: Server):
    """--cache refresh calls although answers are there; --cache only calls nothing."""
    recipe = shell.recipe('tasks: [{id: t, prompt: "Say it."}]')
    server.reply = "old"
    shell("run", recipe)
    server.reply = "new"

    assert shell("run", recipe, "--cache", "only").out == "old\n"
    assert shell("run", recipe, "--cache", "refresh").out == "new\n"
    assert shell("run", recipe).out == "new\n"
    assert len(server.requests) == 2


def test_cache_only_fails_on_a_miss_without_a_call(shell: Shell, server: Server):
    """A miss is a failed agent, not a request."""
    done = shell(
        "run", shell.recipe('tasks: [{id: t, prompt: "New."}]'), "--cache", "only", "--json"
    )

    assert (done.code, done.json["failures"][0]["kind"], server.requests) == (1, "cache_miss", [])


def test_a_broken_cache_is_one_warning(shell: Shell, server: Server):
    """A cache folder that cannot be used costs a warning and nothing else."""
    cache = Path(os.environ["SWARM_HOME"]) / "cache"
    cache.mkdir(parents=True)
    (cache / "answers").write_text("this is no folder")

    done = shell("run", shell.recipe(FAN))

    assert done.code == 0
    assert done.err.count("no answer cache in this run") == 1


def test_cache_info_and_clear(shell: Shell):
    """`swarm cache info` counts the answers, `clear` removes them."""
    shell("run", shell.recipe(FAN))

    before = shell("cache", "info", "--json").json["entries"]
    shell("cache", "clear")

    assert (before, shell("cache", "info", "--json").json["entries"]) == (4, 0)


def test_cache_prune_removes_what_is_old(shell: Shell, server: Server):
    """`swarm cache prune` keeps answers; with --older-than the old ones go, and are asked again."""
    shell("run", shell.recipe(FAN))

    kept = shell("cache", "prune")
    removed = shell("cache", "prune", "--older-than", "1ms")
    wrong = shell("cache", "prune", "--older-than", "30")
    shell("run", shell.recipe(FAN))

    assert (kept.code, kept.out, kept.err) == (0, "", "removed 0 answers, 0.0 MB\n")
    assert removed.err.startswith("removed 4 answers")
    assert (wrong.code, len(server.requests)) == (2, 8)


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_an_unknown_provider_is_a_usage_error(shell: Shell, server: Server, more: tuple[str, ...]):
    """A misspelt prefix is exit 2 with what was meant, before anything is started or sent."""
    recipe = shell.recipe('tasks: [{id: t, prompt: "Hi."}]')

    done = shell("run", recipe, "-m", "opnai/gpt-5", *more)
    in_recipe = shell("run", shell.recipe('tasks: [{id: t, prompt: "Hi.", model: nosuch/x}]'))

    assert (done.code, done.out, server.requests) == (2, "", [])
    assert done.err == (
        "error: opnai/gpt-5: there is no provider 'opnai'\nhint: did you mean openai/gpt-5?\n"
    )
    assert (in_recipe.code, in_recipe.out) == (2, "")


def test_a_key_that_a_model_repeats_is_nowhere(shell: Shell, server: Server):
    """Neither in the result nor in any file below the home folder or the working directory."""
    key = os.environ["OPENAI_API_KEY"]
    server.reply = f"Your key is {key}, by the way."

    done = shell("run", shell.recipe(FAN), "--json")

    assert done.code == 0
    assert "Your key is" in done.json["result"]
    assert key not in done.out + done.err
    for root in (Path(os.environ["SWARM_HOME"]), shell.folder):
        files = [path for path in root.rglob("*") if path.is_file()]
        assert not [path for path in files if key.encode() in path.read_bytes()]
        assert files


def test_the_id_on_the_wire_has_no_provider_prefix(shell: Shell, server: Server):
    """`-m openai/some/name` asks the server for `some/name`."""
    shell("run", shell.recipe(FAN), "-m", "openai/some/name")

    assert {seen.model for seen in server.requests} == {"some/name"}


def test_roles_and_tasks_choose_models(shell: Shell, server: Server):
    """Tasks use role small unless they name another; -m role=... replaces one role."""
    recipe = shell.recipe(
        """
models: {small: openai/little, large: openai/big}
tasks:
  - {id: a, prompt: "First."}
  - {id: b, prompt: "Second.", model: large}
"""
    )

    shell("run", recipe, "-m", "large=openai/huge")

    assert {seen.prompt: seen.model for seen in server.requests} == {
        "First.": "little",
        "Second.": "huge",
    }


def test_the_recipe_beats_the_environment_and_the_flag_beats_both(shell: Shell, server: Server):
    """flag > recipe > SWARM_MODEL."""
    recipe = shell.recipe('models: {small: openai/mine}\ntasks: [{id: t, prompt: "Hi."}]')

    shell("run", recipe)
    shell("run", recipe, "-m", "openai/flag")

    assert [seen.model for seen in server.requests] == ["mine", "flag"]


def test_the_choice_of_the_model_is_said(shell: Shell):
    """Every run says which model it uses and why."""
    done = shell("run", shell.recipe('tasks: [{id: t, prompt: "Hi."}]'))

    assert "openai/fake" in done.err
    assert "SWARM_MODEL" in done.err


def test_dry_run_needs_no_key_and_sends_nothing(
    shell: Shell, server: Server, monkeypatch: pytest.MonkeyPatch
):
    """--dry-run shows the agents without any model."""
    for name in ("OPENAI_API_KEY", "SWARM_MODEL"):
        monkeypatch.delenv(name)

    done = shell("run", shell.recipe(FAN), "--dry-run", "--json")

    assert (done.code, done.json["calls"], server.requests) == (0, 4, [])
    assert [a["agent"] for a in done.json["agents"]] == ["t[0]", "t[1]", "t[2]", "sum"]


def test_max_output_tokens_and_temperature_reach_the_model(shell: Shell, server: Server):
    """What the recipe says of a model is sent."""
    models = "models:\n  small: {model: openai/fake, temperature: 0.3, max_output_tokens: 77}\n"

    shell("run", shell.recipe(models + 'tasks: [{id: t, prompt: "Hi."}]'))

    body = server.requests[0].body
    assert body["temperature"] == 0.3
    assert 77 in {body.get("max_tokens"), body.get("max_completion_tokens")}


def test_a_small_window_cuts_inputs_with_a_warning(shell: Shell, server: Server):
    """Inputs that do not fit the window are shortened fairly, visibly, and never overflow it."""
    recipe = shell.recipe(
        """
models:
  small: {model: openai/fake, context_window: 2000, max_output_tokens: 200}
tasks:
  - {id: t, prompt: "Do {{ item }}", for_each: {items: [a, b], as: item}}
  - {id: sum, prompt: "Sum up.", depends_on: [t]}
"""
    )
    server.routes.append(("Do ", "word " * 2000))

    done = shell("run", recipe)

    prompt = server.asked("Sum up.")[0].text
    assert done.code == 0
    assert len(prompt) / 4 < 1800
    assert "characters left out" in prompt
    assert "cut to fit" in done.err


def test_a_prompt_larger_than_the_window_is_refused_before_sending(shell: Shell, server: Server):
    """The agent fails with the numbers, and no request is made."""
    recipe = shell.recipe(
        "models:\n  small: {model: openai/fake, context_window: 1000}\n"
        f'tasks: [{{id: t, prompt: "{"long " * 2000}"}}]'
    )

    done = shell("run", recipe, "--json")

    assert (done.code, done.json["failures"][0]["kind"], server.requests) == (
        1,
        "context_overflow",
        [],
    )

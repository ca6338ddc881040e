"""What starting costs: heavy libraries are not loaded by commands that do not need them."""

import subprocess
import sys

import pytest

from tests.e2e.command import Swarm

HEAVY = ("litellm", "openai", "mcp", "jinja2", "diskcache", "xllamacpp", "jsonschema")
PROBE = f"""
import atexit, sys
from swarmcli.cli.main import run_command

def tell():
    print("\\nLOADED", *sorted({{m.partition(".")[0] for m in sys.modules}} & set({HEAVY})), file=sys.stderr)

atexit.register(tell)
raise SystemExit(run_command(sys.argv[1:]))
"""

RECIPE = """\
version: 1
name: r
params: {topic: {type: string, default: bees}}
tasks:
  - {id: t, prompt: "On {{ topic }}: {{ item }}", for_each: {items: [a, b], as: item}}
  - {id: sum, prompt: "Sum up {{ inputs.t }}", depends_on: [t]}
"""


def loaded(swarm: Swarm, *args: str, **env: str) -> tuple[int, str, list[str]]:
    """The exit code, stdout, and the heavy libraries that a command has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *args],
        cwd=swarm.folder,
        env={**swarm.env, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    _, said, names = done.stderr.rpartition("LOADED")
    assert said, done.stderr
    return done.returncode, done.stdout, names.split()


@pytest.mark.parametrize(
    "args",
    [["--help"], ["run", "--help"], ["--version"], ["check", "r.yaml"], ["schema"], ["runs"], ["recipes"],
     ["cache", "--help"], ["run", "r.yaml", "--dry-run"]],
    ids=" ".join,
)  # fmt: skip
def test_light_commands_load_nothing_heavy(swarm: Swarm, args: list[str]):
    """Help, checks and lists start without LiteLLM, OpenAI's SDK, MCP or Jinja."""
    swarm.write("r.yaml", RECIPE)

    code, out, heavy = loaded(swarm, *args)

    assert (code, heavy) == (0, [])
    assert out or args[0] in {"check", "runs"}


def test_tab_completion_loads_nothing_heavy(swarm: Swarm):
    """Completing a recipe's name offers shipped recipes and loads no heavy library."""
    env = {
        "_SWARM_COMPLETE": "complete_bash",
        "COMP_WORDS": "swarm run comp",
        "COMP_CWORD": "2",
    }

    code, out, heavy = loaded(swarm, **env)

    assert (code, out.split(), heavy) == (0, ["compare"], [])


def test_a_cached_run_does_not_load_litellm(swarm: Swarm):
    """The second run of the same command answers from the cache without importing LiteLLM or Jinja."""
    swarm.write("r.yaml", RECIPE)

    first = loaded(swarm, "run", "r.yaml", "-m", "openai/fake")
    second = loaded(swarm, "run", "r.yaml", "-m", "openai/fake")

    assert (first[0], "litellm" in first[2]) == (0, True)
    assert second == (0, first[1], ["diskcache"])

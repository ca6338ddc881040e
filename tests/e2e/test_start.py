"""What starting costs: heavy libraries are not loaded by commands that do not need them."""

import subprocess
import sys

import pytest

from tests.e2e.command import Swarm

HEAVY = ("litellm", "openai", "mcp", "jinja2", "diskcache", "xllamacpp", "jsonschema")
PROBE = """
import sys
from swarmcli.cli.main import run_command
code = run_command(sys.argv[1:])
sys.stdout.flush()
print("\\nLOADED", code, *sorted({m.partition(".")[0] for m in sys.modules} & set(%r)), file=sys.stderr)
""" % (HEAVY,)

RECIPE = """\
version: 1
name: r
params: {topic: {type: string, default: bees}}
tasks:
  - {id: t, prompt: "On {{ topic }}: {{ item }}", for_each: {items: [a, b], as: item}}
  - {id: sum, prompt: "Sum up {{ inputs.t }}", depends_on: [t]}
"""


def loaded(swarm: Swarm, *args: str, **env: str) -> list[str]:
    """The exit code and the heavy libraries that a command has loaded."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROBE, *args],
        cwd=swarm.folder,
        env={**swarm.env, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stderr.rpartition("LOADED ")[2].split()


@pytest.mark.parametrize(
    "args",
    [["--help"], ["run", "--help"], ["--version"], ["check", "r.yaml"], ["schema"], ["runs"], ["recipes"],
     ["cache", "--help"], ["run", "r.yaml", "--dry-run"]],
    ids=" ".join,
)  # fmt: skip
def test_light_commands_load_nothing_heavy(swarm: Swarm, args: list[str]):
    """Help, checks and lists start without LiteLLM, OpenAI's SDK, MCP or Jinja."""
    swarm.write("r.yaml", RECIPE)

    assert loaded(swarm, *args) == ["0"]


def test_tab_completion_loads_nothing_heavy(swarm: Swarm):
    """Completing a recipe's name offers shipped recipes and loads no heavy library."""
    probe = PROBE.replace("run_command(sys.argv[1:])", "run_command([])")
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", probe.replace("code = ", "import atexit, runpy\natexit.register(lambda: print('LOADED', *sorted({m.partition('.')[0] for m in sys.modules} & set(%r)), file=sys.stderr))\ncode = " % (HEAVY,))],
        cwd=swarm.folder,
        env={**swarm.env, "_SWARM_COMPLETE": "complete_bash", "COMP_WORDS": "swarm run comp", "COMP_CWORD": "2"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip

    assert done.stdout.split() == ["compare"]
    assert done.stderr.rpartition("LOADED")[2].split() == []


def test_a_cached_run_does_not_load_litellm(swarm: Swarm):
    """The second run of the same command answers from the cache without importing LiteLLM or Jinja."""
    swarm.write("r.yaml", RECIPE)

    first = loaded(swarm, "run", "r.yaml", "-m", "openai/fake")
    second = loaded(swarm, "run", "r.yaml", "-m", "openai/fake")

    assert "litellm" in first
    assert second == ["0", "diskcache"]

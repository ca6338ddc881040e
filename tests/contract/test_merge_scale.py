"""Three hundred results through a 16k window: no fact is lost, and no call is larger than the window."""

import random
import re
from collections.abc import Callable

import pytest

from tests.contract.conftest import Shell
from tests.fakes.openai_server import Reply, Server
from tests.fakes.wire import Body, content_of

WINDOW = 16_384
WORDS = ("river", "copper", "lantern", "orchard", "signal", "harbour", "meadow", "velvet", "pepper")
RECIPE = f"""\
models:
  small: {{model: openai/fake, context_window: {WINDOW}}}
tasks:
  - {{id: scan, prompt: "Tell the fact of number {{{{ item }}}}.",
     for_each: {{items: "{{{{ range(AGENTS) | list }}}}", as: item}}}}
merge: {{strategy: write}}
"""
BLOCK = re.compile(r'<(data-[0-9a-f]{8,}) name="([^"]*)">\n(.*?)\n</\1>', re.DOTALL)
FACT = re.compile(r"FACT \d+ IS [a-z0-9 ]+ END(?: \[scan\[\d+\]\])?")
NUMBER = re.compile(r"number (\d+)\.")
MERGE = ("You condense", "You write")


def tokens(text: str) -> int:
    """A harsh tokenizer: four letters or two signs at most."""
    return len(re.findall(r"\w{1,4}|[^\w\s]{1,2}", text))


def secret(seed: int, number: int, words: int) -> str:
    """One fact of so many random words."""
    dice = random.Random(f"{seed} {number}")
    return f"FACT {number} IS {' '.join(dice.choice(WORDS) for _ in range(words))} {dice.random():.9f} END".replace(
        ".", " "
    )


def answers_of(seed: int, words: int, filler: int) -> Callable[[Body], str]:
    """Each agent tells its fact, and chatters."""

    def reply(body: Body) -> str:
        number = int(NUMBER.findall(content_of(body["messages"][-1]))[-1])
        return f"{'Well, as one says. ' * filler}{secret(seed, number, words)}"

    return reply


def copying(shown: list[tuple[str, str]]) -> str:
    """A model that repeats all that it is shown."""
    return "\n".join(text for _name, text in shown)


def condensing(shown: list[tuple[str, str]]) -> str:
    """A good model: each fact with its marker, and nothing else."""
    return "\n".join(
        fact if fact.endswith("]") else f"{fact} [{name.partition(' ')[0]}]"
        for name, text in shown
        for fact in FACT.findall(text)
    )


def forgetful(shown: list[tuple[str, str]]) -> str:
    """It condenses, and leaves out every seventh that it sees for the first time."""
    kept = [pair for i, pair in enumerate(shown) if i % 7 or " to " in pair[0]]
    return condensing(kept)


def with_window(answer: Callable[[list[tuple[str, str]]], str], window: int = WINDOW):
    """A model that refuses what, with its answer, is larger than its window."""

    def reply(body: Body) -> Reply:
        text = "\n".join(content_of(m) for m in body["messages"])
        shown = [(name, content) for _tag, name, content in BLOCK.findall(text)]
        writes = "You condense" not in text
        said = answer(shown) if not (writes and answer is forgetful) else condensing(shown)
        if tokens(text) + tokens(said) > window:
            return Reply(
                status=400,
                body={
                    "error": {
                        "message": f"This model's maximum context length is {window} tokens.",
                        "type": "invalid_request_error",
                        "code": "context_length_exceeded",
                    }
                },
            )
        return Reply(text=said)

    return reply


def recipe_of(agents: int) -> str:
    return RECIPE.replace("AGENTS", str(agents))


def refused(server: Server) -> int:
    return server.statuses[400]


@pytest.mark.parametrize(
    ("agents", "seed", "words", "filler", "answer"),
    [
        (100, 1, 3, 60, copying),
        (300, 2, 60, 0, copying),
        (300, 3, 12, 60, condensing),
        (100, 4, 8, 80, forgetful),
    ],
)
def test_no_fact_is_lost_between_the_agents_and_the_result(
    shell: Shell, server: Server, agents: int, seed: int, words: int, filler: int, answer
):
    """Short and long facts, bare and in chatter; models that copy, condense or forget: recall is 100 %."""
    server.reply = answers_of(seed, words, filler)
    server.routes[:] = [(mark, with_window(answer)) for mark in MERGE]

    done = shell("run", shell.recipe(recipe_of(agents)), "-j", "300", "--json")

    said = set(re.findall(r"FACT \d+ IS [a-z0-9 ]+ END", done.json["result"]))
    assert said == {secret(seed, number, words) for number in range(agents)}
    assert (done.code, refused(server), done.json["failures"]) == (0, 0, [])
    if answer is not copying:  # who said what is still known behind the levels of condensing
        markers = {f"{secret(seed, n, words)} [scan[{n}]]" for n in range(agents)}
        assert markers <= set(FACT.findall(done.json["result"]))


def test_a_window_that_is_smaller_than_declared(shell: Shell, server: Server):
    """A server behind the same name that takes a quarter of it: refused once or twice, then all is there."""
    server.reply = answers_of(10, 3, 20)
    server.routes[:] = [(mark, with_window(condensing, 5000)) for mark in MERGE]

    done = shell("run", shell.recipe(recipe_of(60)), "-j", "300", "--json")

    assert done.code == 0
    assert 60 == len(set(re.findall(r"FACT \d+ IS [a-z0-9 ]+ END", done.json["result"])))
    assert refused(server) > 0
    assert "smaller than expected" in done.err

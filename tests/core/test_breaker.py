"""When one failure after the other means that it makes no sense to go on."""

import random

import pytest

from swarmcli.core.breaker import AGENTS, AGENTS_WITHOUT_MODEL, REQUESTS, Breaker
from swarmcli.core.events import Failure
from swarmcli.errors import FAILURE_KINDS

MODEL = "openai/fake"


def fail(breaker, number, kind="network", model=MODEL, requests=5):
    """The trip of one agent's failure, or None."""
    failure = Failure(kind=kind, message=f"failure {number}")
    return breaker.failed(f"scan[{number}]", model, failure, requests)


@pytest.mark.parametrize("kind", ["network", "server", "protocol", "rate_limit"])
def test_five_agents_that_fail_the_same_way_are_enough(kind):
    """Four may be bad luck; the trip says how many, how, with what, and the last error."""
    breaker = Breaker()
    trips = [fail(breaker, n, kind) for n in range(AGENTS)]

    assert trips[:-1] == [None] * (AGENTS - 1)
    assert trips[-1].because == f"5 agents failed the same way ({kind}, {MODEL})"
    for text in ("5 agents", kind, MODEL, f"failure {AGENTS - 1}", "`swarm resume`"):
        assert text in trips[-1].message


def test_an_answer_of_the_model_starts_it_anew():
    """A model that answers now and then can be worked with."""
    breaker = Breaker()
    for n in range(100):
        if n % (AGENTS - 1) == 0:
            breaker.answered(MODEL)
        assert fail(breaker, n) is None


@pytest.mark.parametrize("kind", ["schema", "truncated", "empty", "content_filter"])
def test_a_useless_answer_is_an_answer(kind):
    """The agent fails, but the model can be reached."""
    breaker = Breaker()
    for n in range(AGENTS - 1):
        fail(breaker, n)
    fail(breaker, 50, kind)

    assert fail(breaker, 51) is None


def test_another_models_answer_proves_nothing():
    """Streaks are per model and kind."""
    breaker = Breaker()
    for n in range(AGENTS - 1):
        assert fail(breaker, n) is None
        assert fail(breaker, n, "server") is None
        assert fail(breaker, n, model="b/other") is None
    breaker.answered("b/other")

    assert fail(breaker, AGENTS).model == MODEL


def test_the_same_agent_counts_once():
    """An agent that is run again is no second witness."""
    breaker = Breaker()

    assert [fail(breaker, 1) for _ in range(3 * AGENTS)] == [None] * 3 * AGENTS


def test_a_model_that_does_not_exist_needs_three():
    """It cannot work for anybody; a model that has answered before does exist."""
    breaker = Breaker()
    trips = [fail(breaker, n, "unknown_model", requests=1) for n in range(AGENTS_WITHOUT_MODEL)]
    assert [trip is None for trip in trips] == [True, True, False]

    breaker = Breaker()
    breaker.answered(MODEL)
    assert all(fail(breaker, n, "unknown_model", requests=1) is None for n in range(50))


@pytest.mark.parametrize(
    "kind",
    sorted(
        FAILURE_KINDS
        - {"network", "server", "protocol", "rate_limit", "bad_request", "unknown_model"}
    ),
)
def test_what_concerns_one_task_never_stops_the_run(kind):
    """Schemas, filters, long prompts, caps and slow answers differ from task to task."""
    breaker = Breaker()

    assert all(fail(breaker, n, kind) is None for n in range(100))


def test_without_retries_it_takes_more_agents():
    """Five lost requests in a row happen by chance; ten do not."""
    breaker = Breaker()
    trips = [fail(breaker, n, "bad_request", requests=1) for n in range(REQUESTS)]

    assert [trip is None for trip in trips] == [True] * (REQUESTS - 1) + [False]


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_failures_at_random_never_stop_a_run(attempts):
    """20 % of all requests fail: in 200 runs of 1,000 agents it does not trip once."""
    rng = random.Random(3)
    for _ in range(200):
        breaker = Breaker()
        for agent in range(1000):
            if all(rng.random() < 0.2 for _ in range(attempts)):
                assert fail(breaker, agent, requests=attempts) is None
            else:
                breaker.answered(MODEL)

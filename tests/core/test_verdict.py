"""Exit codes: what scripts branch on."""

import pytest

from swarmcli.core.verdict import verdict
from swarmcli.errors import FAILURE_KINDS
from tests.core.tasks import done, failed, skipped, task


def judge(*outcomes, result=True, **more):
    judged = verdict(outcomes, has_result=result, **more)
    return judged.status, judged.exit_code


OK, BAD = done("a"), failed("b", "bad_request")


@pytest.mark.parametrize(
    ("outcomes", "min_success", "expected"),
    [
        ([OK], 1.0, ("ok", 0)),
        ([OK, OK, BAD], 1.0, ("partial", 3)),
        ([OK, skipped("b")], 1.0, ("partial", 3)),
        ([OK, BAD], 0.5, ("ok", 0)),
        ([OK, BAD, BAD], 0.5, ("partial", 3)),
        ([OK, BAD], 0.0, ("ok", 0)),
        ([*[OK] * 9, BAD], 0.9, ("ok", 0)),
        ([*[OK] * 7, *[BAD] * 93], 0.07, ("ok", 0)),
        ([*[OK] * 2, BAD], 0.67, ("partial", 3)),
        ([*[OK] * 299, BAD], 0.999, ("partial", 3)),
    ],
)
def test_min_success_counts_agents(outcomes, min_success, expected):
    """A result was written; 3 says that fewer agents succeeded than were asked for, and 7 % of 100 is 7."""
    assert expected == judge(*outcomes, min_success=min_success)


def test_optional_agents_may_fail():
    """What is optional does not make a run partial."""
    optional = failed("b", task=task("b", optional=True))

    assert ("ok", 0) == judge(OK, optional)
    assert ("partial", 3) == judge(OK, optional, BAD)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["rate_limit"], 75),
        (["server", "network", "timeout", "rate_limit"], 75),
        (["server", "schema"], 1),
        (["bad_request"], 1),
        (["auth"], 77),
        (["quota", "server"], 77),
        (["no_key"], 77),
        (["internal"], 1),
        ([], 1),
    ],
)
def test_when_everything_failed_the_causes_decide(kinds, expected):
    """75: the same command may work later; 77: it cannot work before a key or an account is put right."""
    outcomes = [failed(f"t{i}", kind) for i, kind in enumerate(kinds)]

    assert ("failed", expected) == judge(*outcomes, result=False)


def test_what_was_skipped_because_of_a_failure_is_no_cause_of_its_own():
    """A rate limit at the head of a chain is worth retrying, however long the chain is."""
    assert ("failed", 75) == judge(
        failed("a", "rate_limit"), skipped("b"), skipped("c"), result=False
    )


@pytest.mark.parametrize("kind", sorted(FAILURE_KINDS))
def test_every_failure_has_an_exit_code(kind):
    """No failure ends with 0."""
    status, code = judge(failed("a", kind), result=False)

    assert "failed" == status
    assert code in {1, 75, 77}


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ("budget", ("budget", 4)),
        ("timeout", ("timeout", 124)),
        ("sigint", ("interrupted", 130)),
        ("sigterm", ("interrupted", 143)),
    ],
)
@pytest.mark.parametrize("result", [True, False])
def test_what_stopped_the_run_decides_with_and_without_a_result(cause, expected, result):
    """The best result is written and the code still says that it is not the whole."""
    assert expected == judge(OK, BAD, result=result, stopped_by=cause)


def test_no_access_at_first_sight_is_77_also_with_a_partial_result():
    """A key that was revoked in the middle is told as such."""
    assert ("partial", 77) == judge(OK, failed("b", "auth"), skipped("c"), stopped_by="fatal")


def test_a_full_disk_is_a_failure_whatever_was_written():
    """Exit 0 would claim that the run is on disk."""
    assert ("partial", 1) == judge(OK, stopped_by="storage")


def test_what_an_agent_says_of_itself_sets_no_exit_code():
    """Its text is told to dependants and to the user; it decides nothing."""
    for status in ("insufficient", "conflict"):
        assert ("ok", 0) == judge(OK, done("b", status=status))


def test_a_verification_that_failed_goes_before_missing_parts_and_after_what_stopped_the_run():
    """Wrong is worse than incomplete; a run that was cut short could not be verified."""
    assert ("unverified", 5) == judge(OK, verified=False)
    assert ("unverified", 5) == judge(OK, BAD, verified=False)
    assert ("budget", 4) == judge(OK, stopped_by="budget", verified=False)
    assert ("failed", 1) == judge(BAD, result=False, verified=False)

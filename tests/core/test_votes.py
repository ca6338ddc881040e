"""When two answers say the same thing."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.core.audit import Audit
from swarmcli.core.canonical import canonical_text
from swarmcli.core.plan import Dependency, Task
from swarmcli.core.tally import VoteResult, vote_result_of, vote_totals, with_vote
from swarmcli.core.votes import Ballot, Voter, majority, vote_value
from swarmcli.recipe.values import Vote


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", " paris. "),
        ("Paris", '"Paris".'),
        ("Paris", "**Paris**!"),
        ("Paris", "'Paris.'"),
        ("New  York", "new\nyork"),
        ("STRASSE", "straße"),
    ],
)
def test_spelling_is_no_disagreement(one, other):
    """Case, spacing, quotes, emphasis and a final stop do not count."""
    assert canonical_text(one) == canonical_text(other)


@pytest.mark.parametrize(
    ("one", "other"), [(".5", "5"), ("1.0", "10"), ("A", "B"), ("-1", "1"), ("C", "C++")]
)
def test_different_answers_stay_different(one, other):
    """Nothing that carries meaning is folded away."""
    assert canonical_text(one) != canonical_text(other)


@given(st.lists(st.sampled_from(["a", "A.", "b", "c"]), max_size=9))
def test_the_winner_has_most_votes_and_came_first_among_equals(answers):
    """Counted by hand for any votes."""
    counts = {key: [canonical_text(a) for a in answers].count(key) for key in ("a", "b", "c")}
    won = majority(answers)
    if not answers:
        assert won is None
        return
    best = max(counts.values())
    first = next(a for a in answers if counts[canonical_text(a)] == best)
    assert (first, best) == won


def _voters(models: int, samples: int = 1) -> list[Voter]:
    return [Voter(f"m{m}", s) for m in range(models) for s in range(samples)]


def test_unanimous_needs_every_vote():
    """All models, all samples, one value; the first dissent decides."""
    ballot = Ballot(_voters(2, 2), "unanimous")
    a, b, c, d = _voters(2, 2)
    ballot.cast(a, 20.0)
    ballot.cast(b, 20.0000001)
    ballot.cast(c, 20.0)
    assert ballot.agreed is None

    ballot.cast(d, 21.0)

    assert ballot.agreed is False
    assert ballot.leader is not None
    assert (3, a) == (ballot.leader.votes, ballot.leader.voter)


def test_an_abstention_breaks_unanimity_and_counts_as_asked():
    """Half of the votes asked for is no majority, also when the rest said nothing."""
    a, b = _voters(2)
    unanimous, most = Ballot([a, b], "unanimous"), Ballot([a, b], "majority")
    for ballot in (unanimous, most):
        ballot.cast(a, None)
        assert ballot.agreed is False
        ballot.cast(b, "x")
        assert ballot.agreed is False


def test_a_tie_goes_to_the_model_listed_first():
    """Whoever answers first."""
    a, b = _voters(2)
    ballot = Ballot([a, b], "majority")
    ballot.cast(b, "late")
    ballot.cast(a, "early")

    assert ballot.leader is not None
    assert "early" == ballot.leader.value


@given(
    st.sampled_from(["unanimous", "majority"]),
    st.lists(st.sampled_from([None, "x", "y", "z"]), min_size=1, max_size=7),
    st.randoms(use_true_random=False),
)
def test_an_early_decision_is_the_final_one(rule, votes, rng):
    """What is known before all votes are in never changes afterwards."""
    voters = _voters(len(votes))
    ballot = Ballot(voters, rule)
    early: set[bool] = set()
    leaders: set[object] = set()
    order = list(zip(voters, votes, strict=True))
    rng.shuffle(order)
    for voter, value in order:
        ballot.cast(voter, value)
        if ballot.agreed is not None:
            early.add(ballot.agreed)
        if ballot.leads_for_good:
            leaders.add(ballot.leader.value if ballot.leader else None)

    most = max(votes.count(v) for v in ("x", "y", "z"))
    wanted = most == len(votes) if rule == "unanimous" else most > len(votes) / 2
    assert {wanted} == early
    assert 1 == len(leaders)


def test_an_audit_of_nothing_takes_nothing():
    """Off is off: no pilot either."""
    audit = Audit(0.0)

    assert not any(audit.take() for _ in range(500))
    assert not audit.stopped
    assert not audit.pending


def test_the_pilot_and_then_a_share():
    """The first 60 agreed items, then one in a hundred, evenly."""
    audit = Audit(0.01)

    taken = [i for i in range(1060) if audit.take()]

    assert list(range(60)) == taken[:60]
    assert [159, 259, 359, 459, 559, 659, 759, 859, 959, 1059] == taken[60:]


def test_routing_stops_at_more_than_one_in_six_of_the_pilot():
    """Ten of sixty is not more than one in six; eleven is. Before sixty nothing is decided."""
    for differing, stopped in ((10, False), (11, True)):
        audit = Audit(0.01)
        for index in range(60):
            assert audit.take()
            assert not audit.stopped
            audit.audited(differs=index < differing)
        assert stopped is audit.stopped
        assert not audit.pending


def test_who_agrees_while_the_pilot_is_out_waits():
    """Until the sixtieth audit is back; one that failed is replaced by the next item that agrees."""
    audit = Audit(0.01)
    for _ in range(60):
        audit.take()
    assert audit.pending
    for _ in range(59):
        audit.audited(differs=False)
    assert audit.pending
    audit.dropped()
    assert not audit.pending


def test_an_audit_that_failed_is_made_up_for():
    """By the next item that agrees, and by one that waits: the pilot always has sixty."""
    audit = Audit(0.01)
    for _ in range(60):
        assert audit.take()
    assert not audit.take_over()
    audit.dropped()

    assert audit.take_over()
    assert not audit.take()


def test_a_stop_is_final():
    """Audits that were under way cannot bring routing back."""
    audit = Audit(0.01)
    for index in range(60):
        audit.take()
        audit.audited(differs=index < 11)
    for _ in range(60):
        audit.audited(differs=False)

    assert audit.stopped
    assert not audit.take()
    assert not audit.pending


def test_an_earlier_session_is_recalled():
    """Its audits count, and so does that it stopped."""
    audit, stopped = Audit(0.01), Audit(0.01)
    for index in range(60):
        audit.recall(VoteResult(agreed=True, audited=True, differs=index < 5))
    stopped.recall(VoteResult(escalated=True, stopped=True))

    assert (60, 60, 5, False) == (audit.started, audit.done, audit.differing, audit.stopped)
    assert stopped.stopped


@pytest.mark.parametrize(
    ("counts", "wrong"),
    [
        ({}, None),
        ({"1": 1}, None),
        ({"1": 2}, 0),
        ({"1": 1, "2": 1}, 1 / 2),
        ({"1": 2, "2": 1}, 1 / 3),
        ({"1": 1, "2": 1, "3": 1}, 2 / 3),
    ],
)
def test_votes_that_differ_are_not_all_right(counts, wrong):
    """At most one value is; who did not vote is no evidence."""
    assert pytest.approx(wrong) == VoteResult(counts=counts).surely_wrong


@pytest.mark.parametrize(("divided", "stopped"), [(40, False), (41, True)])
def test_routing_stops_when_votes_differ_on_more_than_two_in_five(divided, stopped):
    """Then more than one vote in five is wrong, whatever the right values are. The pilot is finished first."""
    audit = Audit(0.01)
    for _ in range(divided):
        audit.voted(0.5)
    for _ in range(60):
        assert not audit.stopped
        audit.voted(0.0)
        audit.voted(None)
        assert audit.take()
        audit.audited(differs=False)

    assert stopped is audit.stopped


def test_without_audits_nobody_is_judged():
    """Off is off, however often the votes differ."""
    audit = Audit(0.0)
    for _ in range(200):
        audit.voted(0.5)

    assert not audit.stopped


def test_divided_votes_of_an_earlier_session_count():
    """A resumed run goes on where the first one was."""
    audit = Audit(0.01)
    for _ in range(60):
        audit.recall(VoteResult(counts={"1": 2}, agreed=True, audited=True))
    for _ in range(40):
        audit.recall(VoteResult(counts={"1": 1, "2": 1}, escalated=True))
    assert not audit.stopped

    audit.voted(0.5)
    assert audit.stopped


@given(
    st.sampled_from(["unanimous", "majority"]),
    st.booleans(),
    st.lists(st.sampled_from([None, "x", "y", "z"]), min_size=1, max_size=9),
)
def test_asking_only_who_can_still_matter_changes_nothing(rule, arbiter, votes):
    """Whoever asks `wanted` at a time ends with the decision, and with the leader where that counts, of asking all."""
    voters = _voters(len(votes))
    everybody, lazy = Ballot(voters, rule), Ballot(voters, rule)
    for voter, value in zip(voters, votes, strict=True):
        everybody.cast(voter, value)
    left = list(zip(voters, votes, strict=True))
    while number := lazy.wanted(arbiter=arbiter):
        assert number <= len(left)
        for voter, value in left[:number]:
            lazy.cast(voter, value)
        left = left[number:]

    assert everybody.agreed is lazy.agreed
    if not arbiter or lazy.agreed:
        leaders = [b.leader.value if b.leader else None for b in (everybody, lazy)]
        assert leaders[0] == leaders[1]


def test_totals_count_each_agent_once():
    """`tasks` is `agreed` plus `escalated`; who was only led counts as agreed and as divided."""
    results = [
        VoteResult(agreed=True, audited=True, small_calls=2, small_usd=2.0, large_calls=1, large_usd=10.0),
        VoteResult(escalated=True, small_calls=2, small_usd=2.0, large_calls=1, large_usd=10.0),
        VoteResult(small_calls=2, small_usd=2.0),
        VoteResult(agreed=True, small_calls=2, small_usd=2.0, stopped=True),
    ]  # fmt: skip

    totals = vote_totals(results)

    assert {"tasks": 4, "agreed": 3, "escalated": 1, "divided": 1, "audited": 1} == {
        key: totals[key] for key in ("tasks", "agreed", "escalated", "divided", "audited")
    }
    assert totals["routing_stopped"] is True
    assert {"k": 2.0, "r": 0.1, "e": 0.5, "of_large": 0.7} == totals["cost"]


def test_a_cost_that_nobody_knows_is_not_made_up():
    """An unknown price, a cached answer or no large call at all: no identity."""
    known = VoteResult(small_calls=2, small_usd=1.0, large_calls=1, large_usd=5.0)

    assert vote_totals([known, VoteResult(small_calls=2, small_usd=None)])["cost"] is None
    assert vote_totals([VoteResult(small_calls=2, small_usd=1.0)])["cost"] is None
    assert vote_totals([])["cost"] is None


@given(
    st.builds(
        VoteResult,
        value=st.none() | st.text(),
        counts=st.dictionaries(st.text(), st.integers(1, 9)),
        agreed=st.booleans(),
        audited=st.booleans(),
        small_usd=st.none() | st.floats(0, 10),
    )
)
def test_a_result_survives_the_journal(result):
    """As JSON and back, also with fields of a newer version."""
    record = json.loads(json.dumps(result.record()))

    assert result == vote_result_of(record | {"newer": 1})


@pytest.mark.parametrize(
    ("output", "text", "kind", "value"),
    [
        ("forty-two", "I count 42.\nforty-two", "number", 42.0),
        ('{"answer": 7, "confidence": 0.9}', "", "number", 7.0),
        ('{"answer": "B", "why": "it is C or D"}', "", "choice", "b"),
        ("none", "none", "number", None),
        ("", "", "text", None),
        ('{"b": 1.0, "a": 2}', "", "json", '{"a":2,"b":1}'),
    ],
)
def test_the_typed_answer_votes_and_else_the_last_number(output, text, kind, value):
    """A confidence beside the answer is no vote."""
    assert value == vote_value(output, text, kind)


def test_a_default_vote_is_for_leaves_without_one():
    """Who is built on keeps its single model, and a task's own vote stays."""
    own, default = Vote(samples=3), Vote(models=("small", "other"))
    needs = (Dependency(name="a", agents=("a",)),)
    tasks = [
        Task(id="a", prompt="x", group="a"),
        Task(id="b", prompt="x", group="b", depends_on=needs),
        Task(id="c", prompt="x", group="c", vote=own),
    ]

    assert [None, default, own] == [task.vote for task in with_vote(tasks, default)]
    assert tasks == list(with_vote(tasks, None))

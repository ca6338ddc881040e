"""Events v1: what is written is read back, also by older and newer versions."""

import json
from dataclasses import fields, is_dataclass
from typing import get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcli.core.event_json import from_record, to_record
from swarmcli.core.events import (
    EVENT_TYPES,
    AgentCompleted,
    AgentFailed,
    CallStarted,
    Failure,
    PlanTask,
    Stamped,
    Usage,
    Warned,
)

text = st.text(st.characters(codec="utf-8"), max_size=12)
numbers = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
BY_NAME = {
    "plan": json_values,
    "claims": json_values,
    "values": json_values,
    "totals": st.dictionaries(text, json_values, max_size=3),
}
BY_TYPE = {
    str: text,
    int: st.integers(0, 10**9),
    float: st.floats(0, 1e9),
    bool: st.booleans(),
    Usage: st.builds(
        Usage, *(), input_tokens=st.integers(0, 10**9), cached_tokens=st.integers(0, 10**9)
    ),
    Failure: st.builds(Failure, kind=text, message=text),
}


def values_of(name, hint):
    """What a field may hold, from its type."""
    if name in BY_NAME:
        return BY_NAME[name]
    if hint in BY_TYPE:
        return BY_TYPE[hint]
    arguments = getattr(hint, "__args__", ())
    if type(None) in arguments:
        return st.none() | values_of(name, arguments[0])
    if get_origin(hint) is tuple:
        return st.lists(text, max_size=3).map(tuple)
    return st.dictionaries(text, values_of("", arguments[1]), max_size=3)


def builds(cls):
    hints = get_type_hints(cls)
    return st.builds(cls, **{f.name: values_of(f.name, hints[f.name]) for f in fields(cls)})


def stamped(event, seq=7, t=1.25):
    return Stamped(seq=seq, ts="2026-01-02T03:04:05.678Z", run="abcd", t=t, event=event)


@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
@given(st.data())
def test_every_event_survives_the_journal(name, data):
    """Through JSON text and back: a resumed run and `watch` see what happened, to the letter."""
    event = data.draw(builds(EVENT_TYPES[name]))
    written = stamped(
        event, seq=data.draw(st.integers(0, 10**9)), t=data.draw(st.integers(0, 10**6)) / 16
    )

    line = json.dumps(to_record(written), allow_nan=False)
    assert written == from_record(json.loads(line))


def test_every_type_of_the_contract_is_there_and_flat():
    """Scripts read these names; each event is one flat object."""
    expected = {
        "run.started", "mode.chosen", "plan.started", "plan.task", "plan.ready", "agent.started", "agent.updated",
        "agent.completed", "agent.failed", "agent.skipped", "agent.cancelled", "call.started", "call.completed",
        "call.retry", "call.hedged", "tool.started", "tool.completed", "limit.waiting", "limit.changed",
        "conflict.found", "budget.warning", "merge.started", "merge.completed", "run.completed", "run.failed",
        "run.interrupted",
    }  # fmt: skip

    assert expected <= set(EVENT_TYPES)
    envelope = {"v", "seq", "ts", "run", "t", "type"}
    assert not any(envelope & {f.name for f in fields(cls)} for cls in EVENT_TYPES.values())
    assert all(is_dataclass(cls) for cls in EVENT_TYPES.values())


def test_a_record_is_what_a_script_expects():
    """The envelope first, then the event's own fields, times in milliseconds."""
    record = to_record(
        stamped(AgentFailed(agent="scan[3]", error=Failure(kind="timeout", message="late")))
    )

    assert {
        "v": 1, "seq": 7, "ts": "2026-01-02T03:04:05.678Z", "run": "abcd", "t": 1.25, "type": "agent.failed",
        "agent": "scan[3]", "error": {"kind": "timeout", "message": "late"}, "model": "", "attempts": 1,
        "tokens": None, "cost_usd": 0.0, "seconds": 0.0,
    } == record  # fmt: skip


def test_agent_stands_only_where_an_event_concerns_one():
    """A planner's call has no `agent`, not an `agent` of null."""
    assert "agent" not in to_record(stamped(CallStarted(model="x/y", purpose="planner")))
    assert (
        "t1" == to_record(stamped(CallStarted(model="x/y", purpose="agent", agent="t1")))["agent"]
    )


def test_an_unknown_price_is_null():
    """Left out, it might be read as nothing."""
    assert (
        to_record(stamped(AgentCompleted(agent="a", output="x", cost_usd=None)))["cost_usd"] is None
    )


def test_a_newer_type_is_passed_over_and_newer_fields_are_ignored():
    """An older `watch` follows a newer run."""
    record = to_record(stamped(Warned(message="x")))
    assert from_record({**record, "type": "moon.risen"}) is None
    assert stamped(Warned(message="x")) == from_record({**record, "colour": "red"})

    usage = {"input_tokens": 1, "output_tokens": 2, "cached_tokens": 0, "reasoning_tokens": 9}
    done = to_record(stamped(AgentCompleted(agent="a", output="x")))
    assert (
        Usage(input_tokens=1, output_tokens=2)
        == from_record({**done, "tokens": usage}).event.tokens
    )


def test_fields_that_an_older_version_did_not_write_have_defaults():
    """A run of last month can be resumed."""
    record = {
        "v": 1,
        "seq": 1,
        "ts": "",
        "run": "r",
        "type": "plan.task",
        "agent": "a",
        "group": "a",
        "prompt": "x",
    }

    assert PlanTask(agent="a", group="a", prompt="x") == from_record(record).event


@pytest.mark.parametrize(
    "record", [{}, {"type": "warning"}, {"type": "warning", "seq": 1, "ts": "", "run": ""}]
)
def test_what_is_no_event_is_an_error_and_not_a_guess(record):
    """The journal's reader decides what to do with it."""
    with pytest.raises((KeyError, TypeError)):
        from_record(record)


def test_usage_adds_up():
    """Calls of one agent are one sum."""
    one = Usage(input_tokens=1, output_tokens=2, cached_tokens=3)

    assert Usage(input_tokens=2, output_tokens=4, cached_tokens=6) == one + one

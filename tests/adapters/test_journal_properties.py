"""What must hold for any content, any cut and any crash."""

import asyncio
import json
import tempfile
from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from swarmcli.adapters.clock import SystemClock
from swarmcli.adapters.event_log import EventLog
from swarmcli.adapters.journal import (
    encode,
    frame,
    output_name,
    read_journal,
    unframe,
)
from swarmcli.adapters.journal_writer import INLINE_BYTES
from swarmcli.core.events import AgentCompleted, AgentFailed, Event, Failure, Usage, Warned

any_text = st.text(st.characters(codec=None), max_size=40)
"""Lone surrogates and control characters included."""
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
outputs = any_text | st.builds(lambda text: text * (INLINE_BYTES // 20), st.text(min_size=20))
events = st.one_of(
    st.builds(Warned, message=any_text),
    st.builds(
        AgentCompleted,
        agent=any_text,
        output=outputs,
        claims=json_values,
        tokens=st.none() | st.builds(Usage, input_tokens=st.integers(0, 10**9)),
        cost_usd=st.none() | st.floats(0, 100),
    ),
    st.builds(
        AgentFailed,
        agent=any_text,
        error=st.builds(Failure, kind=st.just("server"), message=any_text),
    ),
)


def record(path: Path, happened: list[Event]) -> None:
    """One session: everything emitted, the last one committed."""

    async def session() -> None:
        log = EventLog(path, run="r", clock=SystemClock())
        for event in happened[:-1]:
            log.emit(event)
        if happened:
            await log.commit(happened[-1])
        await log.close()

    asyncio.run(session())


@given(st.dictionaries(any_text, json_values, max_size=4))
def test_a_frame_gives_back_its_content(fields: dict) -> None:
    """Any JSON object survives as one line of valid UTF-8."""
    line = frame(encode(fields))
    assert line.count(b"\n") == 1
    line.decode("utf-8")
    payload = unframe(line)
    assert payload is not None
    assert json.loads(payload) == fields


@given(st.dictionaries(any_text, json_values, max_size=2), st.data())
def test_a_changed_line_is_noticed(fields: dict, data: st.DataObject) -> None:
    """Any single changed byte, and any part of a line, is no line."""
    line = frame(encode(fields))
    at = data.draw(st.integers(0, len(line) - 1))
    changed = bytearray(line)
    changed[at] ^= data.draw(st.integers(1, 255))
    assert unframe(bytes(changed)) is None
    assert unframe(line[:at]) is None
    assert unframe(line[at + 1 :]) is None


@given(st.binary(max_size=60))
def test_garbage_is_no_line(garbage: bytes) -> None:
    """Bytes that nobody framed are refused, whatever they look like."""
    assert unframe(garbage) is None
    assert unframe(b"00000000 " + garbage + b"\n") is None or garbage.startswith(b"{")


@given(any_text, any_text)
def test_outputs_of_different_agents_are_different_files(one: str, other: str) -> None:
    """No two ids share a file, and no name leaves its folder or is too long for a disk."""
    names = {output_name(one), output_name(other)}
    assert len(names) == len({one, other})
    for name in names:
        assert Path("out") / name == Path("out", *Path(name).parts[-1:])
        assert len(name) <= 200
        assert name.isascii()


@settings(max_examples=25, deadline=None)
@given(st.lists(events, max_size=5))
def test_what_was_recorded_is_read_back(happened: list[Event]) -> None:
    """Any events come back equal and in order, large and strange outputs included."""
    # One agent keeps one output; an earlier one of the same id is superseded by design.
    agents = [event.agent for event in happened if isinstance(event, AgentCompleted)]
    assume(len(set(agents)) == len(agents))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        record(path, happened)
        read = read_journal(path)
    assert [stamped.event for stamped in read.events] == happened
    assert read.problems == ()


def test_a_tail_torn_at_any_byte() -> None:
    """Cut anywhere, a journal yields exactly its whole lines, and the next session goes on there.

    This is every cut, not a sample: a kill can come between any two bytes.
    """
    story: list[Event] = [
        Warned(message="first 🐝"),
        AgentCompleted(agent="a", output="done \ud83d\n"),
        AgentFailed(agent="b", error=Failure(kind="server", message="502")),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        record(path, story)
        whole = path.read_bytes()
        ends = [0, *(at + 1 for at, byte in enumerate(whole) if byte == ord("\n"))]
        for cut in range(len(whole) + 1):
            path.write_bytes(whole[:cut])
            kept = sum(end <= cut for end in ends) - 1
            read = read_journal(path)
            assert [stamped.event for stamped in read.events] == story[:kept]
            assert read.torn == (cut not in ends)
            assert read.next_seq == kept + 1
            record(path, [Warned(message="on")])
            again = read_journal(path)
            assert [stamped.event for stamped in again.events] == [
                *story[:kept],
                Warned(message="on"),
            ]
            assert [stamped.seq for stamped in again.events] == list(range(1, kept + 2))
            assert not again.torn


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(events, min_size=1, max_size=4), st.binary(max_size=30)),
        min_size=1,
        max_size=4,
    )
)
def test_sessions_that_crash_leave_all_they_acknowledged(
    sessions: list[tuple[list[Event], bytes]],
) -> None:
    """However many sessions end in half a line of anything, each one's events are all there."""
    expected: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        for happened, torn in sessions:
            record(path, happened)
            expected += [event.type for event in happened]
            with path.open("ab") as file:
                file.write(torn)
        read = read_journal(path)
        lines = [unframe(line) for line in path.read_bytes().splitlines(keepends=True)]
    kinds = [json.loads(line)["type"] for line in lines[: len(expected)] if line is not None]
    assert kinds == expected
    assert read.next_seq == len(expected) + 1

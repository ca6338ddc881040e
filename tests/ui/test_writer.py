"""Writing lines to readers that are slow, stopped or gone."""

import asyncio
import io
import os
import threading
from pathlib import Path

from swarmcli.ui.writer import LineWriter, write_all
from tests.effort import waits


def test_a_stopped_reader_does_not_hold_up_the_writer() -> None:
    """Lines wait in memory; a close with a limit gives up, a later reader still gets everything in order."""
    read, write = os.pipe()
    stream = os.fdopen(write, "w")
    writer = LineWriter(stream)
    lines = [f"line {number} {'x' * 100}" for number in range(5000)]
    writer.write(lines[0])  # begins the thread

    assert waits(lambda: [writer.write(line) for line in lines[1:]]) == []
    assert not writer.close(0.05), "nobody has read yet"

    text = b""
    while text.count(b"\n") < 5000:
        text += os.read(read, 65536)
    assert writer.close()
    assert [int(line.split()[1]) for line in text.splitlines()] == list(range(5000))
    stream.close()
    os.close(read)


def test_a_closed_writer_has_written_everything() -> None:
    """Without a limit the close waits for the reader."""
    read, write = os.pipe()
    parts: list[bytes] = []

    def reader() -> None:
        while part := os.read(read, 4096):
            parts.append(part)

    thread = threading.Thread(target=reader)
    thread.start()
    with os.fdopen(write, "w") as stream:
        writer = LineWriter(stream)
        for number in range(3000):
            writer.write(f"line {number}")
        assert writer.close()
        writer.write("too late")
    thread.join()
    os.close(read)

    assert b"".join(parts) == b"".join(b"line %d\n" % number for number in range(3000))


def test_streams_in_memory_and_files_are_written_at_once(tmp_path: Path) -> None:
    """They cannot block, so no thread stands between."""
    memory = io.StringIO()
    LineWriter(memory).write("a")
    with (tmp_path / "log").open("w") as file:
        file.write("before\n")
        LineWriter(file).write("b")
        assert (tmp_path / "log").read_text() == "before\nb\n"

    assert memory.getvalue() == "a\n"


def test_a_character_that_the_stream_cannot_hold_is_escaped(tmp_path: Path) -> None:
    """A log in Latin-1 is no reason to fail."""
    with (tmp_path / "log").open("w", encoding="latin-1") as file:
        LineWriter(file).write("naïve ✓ \udc80")

    assert (tmp_path / "log").read_bytes() == b"na\xefve \\u2713 \\udc80\n"


async def test_an_error_arrives_on_the_event_loop() -> None:
    """The callback may touch what belongs to the loop, although a thread found the error."""
    read, write = os.pipe()
    os.close(read)
    found: asyncio.Future[tuple[OSError, int]] = asyncio.get_running_loop().create_future()
    with os.fdopen(write, "w") as stream:
        writer = LineWriter(stream, lambda error: found.set_result((error, threading.get_ident())))
        writer.write("x")
        error, thread = await asyncio.wait_for(found, 5)
        assert not writer.close()

    assert isinstance(error, BrokenPipeError)
    assert thread == threading.get_ident()


def test_a_stream_that_was_closed_is_an_error_like_others() -> None:
    """Python says ValueError there; the program hears of an OSError."""
    errors: list[OSError] = []
    stream = io.StringIO()
    writer = LineWriter(stream, errors.append)
    stream.close()
    writer.write("x")
    writer.write("y")

    assert len(errors) == 1


def test_a_non_blocking_descriptor_is_waited_for() -> None:
    """Some parents hand down a pipe in non-blocking mode; nothing is lost then."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    received: list[bytes] = []

    def reader() -> None:
        while sum(map(len, received)) < 300_000:
            received.append(os.read(read, 10_000))

    thread = threading.Thread(target=reader)
    thread.start()
    write_all(write, b"x" * 300_000)
    thread.join()
    os.close(read)
    os.close(write)

    assert b"".join(received) == b"x" * 300_000

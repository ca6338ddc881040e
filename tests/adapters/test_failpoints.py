"""Fail points: nothing without the variable, and the named thing at the named moment with it."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from swarmcli.adapters import failpoints
from swarmcli.adapters.failpoints import POINTS, armed
from swarmcli.errors import UsageError
from tests.adapters.journals import ROOT


def test_without_the_variable_no_point_does_anything():
    """What the program itself calls is a function that looks at nothing."""
    assert failpoints.hit is armed(None)
    for point in POINTS:
        assert armed(None)(point) is None


@pytest.mark.parametrize(("action", "number"), [("enospc", errno.ENOSPC), ("eio", errno.EIO)])
def test_an_error_is_raised_the_nth_time_only(action, number):
    """Other points do not count, and after it all is well again."""
    hit = armed(f"journal.write:{action}:3")
    for point in ("journal.write", "file.written", "journal.write", "journal.synced"):
        hit(point)

    with pytest.raises(OSError, match=r"\[Errno") as caught:
        hit("journal.write")
    assert number == caught.value.errno
    hit("journal.write")


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "nope:kill",
        "run.claimed",
        "run.claimed:boil",
        "run.claimed:kill:x",
        "run.claimed:eio:-1",
    ],
)
def test_a_wrong_value_names_the_right_ones(spec):
    """A point that was renamed must not turn a test into one that tests nothing."""
    with pytest.raises(UsageError, match="is not NAME:ACTION") as caught:
        armed(spec)
    assert all(point in caught.value.hint for point in POINTS)


@pytest.mark.parametrize(("action", "code"), [("kill", -signal.SIGKILL), ("exit", 70)])
def test_a_process_ends_on_the_spot(action, code):
    """No `finally` runs, as in a power cut."""
    program = (
        "from swarmcli.adapters.failpoints import hit\n"
        "try: hit('run.claimed')\n"
        "finally: print('cleaned up', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, failpoints.VARIABLE: f"run.claimed:{action}"},
        capture_output=True,
        cwd=ROOT,
    )
    assert (code, b"", b"") == (done.returncode, done.stdout, done.stderr)

"""Ctrl-C in the first instants, while the program still loads itself."""

import os
import signal
import subprocess
import sys

import pytest


@pytest.mark.parametrize("imports", [0, 1, 5, 20, 60, 120, 200, 250])
def test_ctrl_c_while_it_loads_is_silent(checkout, imports):
    """After any number of imports: exit code 130, and no traceback. (What Python does before is Python's.)"""
    command = [sys.executable, "-X", "importtime", "-m", "swarmcli", "run", "-"]
    with (
        subprocess.Popen(
            command,
            cwd=checkout,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,  # `run -` waits for a recipe that never comes: it cannot end before the signal
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process
    ):
        assert process.stderr is not None
        for line in process.stderr:
            if line.rstrip().endswith("| swarmcli.cli") or " swarmcli.cli" in line:
                break
        for _ in range(imports):
            assert process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.stdin is not None
        rest = process.stderr.read()
        code = process.wait(30)
    assert code == 130
    assert "Traceback" not in rest
    assert "KeyboardInterrupt" not in rest

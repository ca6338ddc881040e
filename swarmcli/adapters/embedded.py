"""The embedded model: llama.cpp's own OpenAI-compatible server, in a child process, on 127.0.0.1 only.

Rule: xllamacpp lives in the child. Measured with 2026.10.11549: its constructor holds the GIL while it loads a model,
its destructor never returns (or crashes the process) while a request is in flight, and it writes to the terminal. A
child can be killed at any moment, cannot freeze the event loop, and takes its memory with it.
"""

import asyncio
import contextlib
import http.client
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, cast

from swarmcli.adapters.weights import PULL_COMMAND, SMOLLM2_FILE, embedded_installed, not_installed
from swarmcli.errors import SwarmError

SLOTS = 4
"""Requests that are answered at once; the others wait in the server's own queue."""
CONTEXT = 4096
"""Tokens of prompt and answer together, for each slot; a model trained on less gets less."""
MAX_ANSWER = 512
"""Most tokens of one answer of smollm2; what is longer than that is never an answer."""
WIRE_NAME = "embedded"
"""The same for every file: LiteLLM treats names that look like known models in special ways."""
LOAD_TIMEOUT_S = 300.0
MAX_THREADS = 8
"""Small models gain nothing from more, and a container's quota may be below the machine's cores."""

# OpenMP's workers spin while they wait. Unbounded, two of them on two busy cores are ten times slower than one
# (7 instead of 70 tokens a second); this short spin costs nothing on idle cores.
_CHILD_ENVIRONMENT = {"GOMP_SPINCOUNT": "400"}
_REASON = re.compile(r"error loading model: (.+)|(out of memory.*|failed to allocate.*)")
_LOG_TAIL, _WARNINGS = 20_000, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the embedded model answers: `<base_url>/chat/completions`, as OpenAI's API does."""

    base_url: str
    model: str
    api_key: str = field(repr=False)
    """Random for each server, so that other users of this machine cannot ask it."""
    context_window: int
    """Tokens of prompt and answer together."""
    slots: int
    """How many requests are answered at once."""


class EmbeddedServer:
    """Serves one GGUF file. `start` once, `close` in any state and as often as you like.

    Args:
        path: the weights, see `weights.locate`.
        log: a file that takes llama.cpp's own warnings; None: they are kept only to explain a failed start.
        slots: requests answered at once.
        context: tokens for each slot.
        load_timeout_s: most time that loading may take.
    """

    def __init__(
        self,
        path: Path,
        *,
        log: Path | None = None,
        slots: int = SLOTS,
        context: int = CONTEXT,
        load_timeout_s: float = LOAD_TIMEOUT_S,
    ) -> None:
        self._path = path
        self._log = log
        self._slots = slots
        self._context = context
        self._load_timeout_s = load_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """True from `start` until `close`, or until the child dies."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The child's process id; None when there is none."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> Endpoint:
        """Load the model and serve it; returns when it answers.

        Raises:
            SwarmError: xllamacpp is not installed, or the file cannot be loaded, with the reason.
        """
        if not embedded_installed():
            raise not_installed()
        if self._process is not None:
            raise SwarmError("the embedded model was started twice")
        key = secrets.token_urlsafe(24)
        try:
            reply = await self._child(self._wish(key))
        except BaseException:
            self.close()
            raise
        return Endpoint(
            base_url=f"{reply.address}/v1",
            model=WIRE_NAME,
            api_key=key,
            context_window=reply.context,
            slots=reply.slots,
        )

    def close(self) -> None:
        """End the child at once, answering or not; never raises."""
        process = self._process
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    async def _child(self, wish: bytes) -> "_Ready":
        with self._open_log() as log:
            self._process = _spawn(log)
            try:
                async with asyncio.timeout(self._load_timeout_s):
                    reply = await asyncio.to_thread(_talk, self._process, wish)
            except TimeoutError:
                raise SwarmError(
                    f"loading {self._path} took longer than {self._load_timeout_s:g} s",
                    hint="use smaller weights, or stop what else keeps this machine busy",
                ) from None
            if reply is None:
                raise self._failure(log)
            return reply

    def _open_log(self) -> IO[bytes]:
        if self._log is None:
            return tempfile.TemporaryFile()
        return os.fdopen(
            os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "a+b"
        )

    def _wish(self, key: str) -> bytes:
        wish = {
            "path": str(self._path),
            "key": key,
            "slots": self._slots,
            "context": self._context,
            "threads": usable_cores(),
            "tame": self._path.name == SMOLLM2_FILE,
        }
        return json.dumps(wish).encode() + b"\n"

    def _failure(self, log: IO[bytes]) -> SwarmError:
        status = self._process.wait() if self._process is not None else 0
        log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL))
        text = log.read().decode("utf-8", "replace")
        found = [a or b for a, b in _REASON.findall(text)]
        lines = [line for line in text.splitlines() if line.strip()]
        reason = (
            found[-1] if found else f"exit status {status}" + (f", {lines[-1]}" if lines else "")
        )
        return SwarmError(
            f"cannot load {self._path}: {reason.strip()[:300]}",
            hint=f"check the file ({PULL_COMMAND} renews ours), or update llama.cpp: pip install -U xllamacpp",
        )


def usable_cores() -> int:
    """How many threads to compute with: the cores that this process may use, within a container's quota."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return min(cores, MAX_THREADS)


@dataclass(frozen=True, slots=True)
class _Ready:
    """What the child says when it serves."""

    address: str
    slots: int
    context: int


class _Server(Protocol):
    """What we use of `xllamacpp.Server`."""

    @property
    def listening_address(self) -> str: ...


def _spawn(log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the child in a session of its own: Ctrl-C at the terminal is the parent's to handle."""
    return subprocess.Popen(  # noqa: S603 - ourselves
        # -P: a file xllamacpp.py in the user's working directory is not ours to import.
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env={**_CHILD_ENVIRONMENT, **os.environ},
        start_new_session=True,
    )


def _talk(process: "subprocess.Popen[bytes]", wish: bytes) -> _Ready | None:
    """Send the wish, wait for the one reply line; None when the child ended without one."""
    stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
    try:
        stdin.write(wish)
        stdin.flush()
        reply = cast("dict[str, Any]", json.loads(stdout.readline()))
    except (OSError, ValueError):
        return None
    return _Ready(
        address=str(reply["address"]), slots=int(reply["slots"]), context=int(reply["context"])
    )


def _serve() -> None:
    """The child: read the wish, load, say where, live until standard input ends."""
    reply_to = os.dup(1)
    os.dup2(2, 1)  # whatever C code prints goes to the log
    wish = cast("dict[str, Any]", json.loads(sys.stdin.readline()))
    server = _load(wish)
    address = server.listening_address
    # `/slots` is answered by the loop that computes, so the server is known to work, not just to listen.
    slots = cast("list[dict[str, Any]]", _get(address, "/slots", str(wish["key"])))
    ready = {
        "address": address,
        "slots": len(slots),
        "context": min(int(slot["n_ctx"]) for slot in slots),
    }
    os.write(reply_to, json.dumps(ready).encode() + b"\n")
    os.close(reply_to)
    sys.stdin.read()
    os._exit(0)  # no destructors: they wait for requests in flight


def _load(wish: Mapping[str, Any]) -> _Server:
    import xllamacpp

    llama = cast("Any", xllamacpp)
    params = llama.CommonParams()
    params.model.path = wish["path"]
    params.model_alias = {WIRE_NAME}
    params.api_keys = [wish["key"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any free one
    params.n_parallel = wish["slots"]
    params.n_ctx = wish["slots"] * wish["context"]
    params.cpuparams.n_threads = wish["threads"]
    params.cpuparams_batch.n_threads = wish["threads"]
    params.cache_ram_mib = 0  # up to 8 GiB of old prompts otherwise
    params.ui = False
    params.verbosity = _WARNINGS
    if wish["tame"]:
        _tame(params)
    return cast("_Server", llama.Server(params))


def _tame(params: Any) -> None:  # noqa: ANN401 - xllamacpp has no types
    """Defaults, for requests that say nothing else, which keep 135M parameters from repeating themselves.

    Greedy, so that a run can be repeated; a penalty on sequences of words that came before (DRY); an end.
    """
    params.n_predict = MAX_ANSWER
    params.sampling.temp = 0.0
    params.sampling.dry_multiplier = 0.8
    params.sampling.dry_allowed_length = 3
    params.sampling.dry_penalty_last_n = 1024


def _get(address: str, path: str, key: str) -> object:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


if __name__ == "__main__":
    _serve()

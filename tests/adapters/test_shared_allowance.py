"""The books that processes keep together: one limit for all, no slot lost with a process, no run failed by them."""

import asyncio
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from swarmcli.adapters import limit_file
from swarmcli.adapters.allowance import WINDOW_S, Caps, Claim, Wait
from swarmcli.adapters.bucket import Bucket, bucket_of
from swarmcli.adapters.clock import SystemClock
from swarmcli.adapters.limit_file import FILE
from swarmcli.adapters.limits import LimitedClient
from swarmcli.adapters.shared_allowance import SharedAllowances
from swarmcli.core.events import Warned
from swarmcli.core.ports import Message, ModelRequest
from swarmcli.recipe.values import ModelSpec, Rate
from swarmcli.testing import ManualClock, RecordingRecorder, ScriptedClient
from tests.adapters.naive_books import AgainstNaiveBooks, Ticks

BUCKET = Bucket("http://provider/v1", "openai/gpt", "sk-canary-of-the-books")
SECRET = b"s" * 32
CHILD = """
import sys, time
from pathlib import Path
from swarmcli.adapters.allowance import Caps, Claim
from swarmcli.adapters.bucket import Bucket
from swarmcli.adapters.clock import SystemClock
from swarmcli.adapters.shared_allowance import SharedAllowances

def say(*words):
    print(*words, flush=True)

shared = SharedAllowances(
    Path(sys.argv[1]), secret=lambda: b"s" * 32, clock=SystemClock(), emit=lambda e: say("event", e)
)
def allowance(**caps):
    bucket = Bucket("http://provider/v1", "openai/gpt", "sk-canary-of-the-books")
    return shared.allowance(bucket, Caps(**caps))
"""


class Machine:
    """Several processes of one user, as far as one process can play them: each has its own files and locks."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = Ticks(start=5000)
        self.events = RecordingRecorder()
        self.hands = []

    def hand(self):
        shared = SharedAllowances(
            self.folder,
            secret=lambda: SECRET,
            clock=self.clock,
            emit=self.events.emit,
            now=self.clock.monotonic,
        )
        self.hands.append(shared)
        return shared

    def allowance(self, bucket=BUCKET, **caps):
        return self.hand().allowance(bucket, Caps(**caps))

    @property
    def warnings(self):
        return [event.message for event in self.events.of(Warned)]

    def close(self):
        for hand in self.hands:
            hand.close()


@pytest.fixture
def machine(tmp_path):
    running = Machine(tmp_path / "state" / "limits")
    yield running
    running.close()


@pytest.fixture
def start(machine):
    """Starts a real process that runs some lines with `allowance(...)` and `say(...)`."""
    started = []

    def run(lines):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD + lines, str(machine.folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def real(machine, emit=lambda _: None):
    """A hand on the real clock, as the processes of `start` have it."""
    hand = SharedAllowances(machine.folder, secret=lambda: SECRET, clock=SystemClock(), emit=emit)
    machine.hands.append(hand)
    return hand


def claims_of(allowance, most=1000):
    claims = []
    while len(claims) < most and isinstance(answer := allowance.claim(1), Claim):
        claims.append(answer)
    return claims


def patiently(allowance, tries=2000):
    """The claim that a process gets which asks again as often as it is told to."""
    clock = SystemClock()
    for _ in range(tries):
        answer = allowance.claim(1)
        if isinstance(answer, Claim):
            return answer
        until = clock.monotonic() + min(answer.seconds, 0.05)
        while clock.monotonic() < until:
            os.sched_yield()
    raise AssertionError(answer)


def rows(folder, query):
    db = sqlite3.connect(folder / FILE)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


class TestOneLimitForAll:
    def test_the_minute_is_shared(self, machine):
        """What one process sent, another may not send again; when it has left the minute, both may."""
        one, other = machine.allowance(rpm=10), machine.allowance(rpm=10)
        assert len(claims_of(one, 4)) == 4
        machine.clock.pass_by(10)
        assert len(claims_of(other)) == 6
        assert one.claim(1) == Wait(pytest.approx(WINDOW_S - 10), "10 requests a minute")
        machine.clock.pass_by(WINDOW_S - 10)
        assert len(claims_of(one)) == 4

    def test_tokens_are_shared_and_corrected(self, machine):
        """An answer's own count replaces the estimate in the books of all."""
        one, other = machine.allowance(tpm=1000), machine.allowance(tpm=1000)
        claim = one.claim(900)
        assert isinstance(other.claim(200), Wait)
        one.settle(claim, 100)
        one.free(claim)
        assert isinstance(other.claim(800), Claim)
        assert isinstance(one.claim(200), Wait)

    def test_a_late_answer_does_not_touch_the_new_minute(self, machine):
        """An answer that takes longer than a minute corrects no sum that its request has left."""
        one, other = machine.allowance(tpm=1000), machine.allowance(tpm=1000)
        old = one.claim(900)
        machine.clock.pass_by(WINDOW_S)
        other.claim(600)
        one.settle(old, 0)
        one.free(old)
        assert isinstance(one.claim(500), Wait)
        assert isinstance(one.claim(400), Claim)

    def test_who_waits_for_tokens_soon_hears_of_a_short_answer(self, machine):
        """Another process's estimate may shrink at any moment: nobody sleeps until its minute is over."""
        one, other = machine.allowance(tpm=1000), machine.allowance(tpm=1000)
        one.claim(900)
        assert other.claim(500) == Wait(0.25, "1,000 tokens a minute")

    def test_each_applies_its_own_limit_to_what_all_sent(self, machine):
        """Two recipes may declare different limits for the same key: the stricter one stands back."""
        strict, generous = machine.allowance(rpm=5), machine.allowance(rpm=8)
        assert len(claims_of(generous)) == 8
        assert isinstance(strict.claim(1), Wait)

    def test_a_pause_is_everybodys(self, machine):
        """A 429 that one process got holds the others too, those without declared limits within a quarter second."""
        one, other = machine.allowance(rpm=9), machine.allowance(rpm=9)
        undeclared = machine.allowance()
        assert isinstance(undeclared.claim(1), Claim)
        one.pause(10)
        assert other.claim(1) == Wait(pytest.approx(10), "rate limited by the provider")
        machine.clock.pass_by(0.25)
        assert undeclared.claim(1) == Wait(pytest.approx(9.75), "rate limited by the provider")
        machine.clock.pass_by(9.75)
        assert isinstance(undeclared.claim(1), Claim)
        assert isinstance(other.claim(1), Claim)

    def test_other_keys_addresses_and_models_have_their_own(self, machine):
        """Only what a provider counts together is counted together."""
        claims_of(machine.allowance(rpm=1))
        for other in (
            Bucket("http://provider/v1", "openai/gpt", "sk-another"),
            Bucket("http://elsewhere/v1", "openai/gpt", BUCKET.key),
            Bucket("http://provider/v1", "openai/gpt-mini", BUCKET.key),
        ):
            assert isinstance(machine.allowance(other, rpm=1).claim(1), Claim)
        assert isinstance(machine.allowance(rpm=1).claim(1), Wait)

    def test_a_guess_of_ours_binds_only_us(self, machine):
        """What nobody declared is no limit for other processes."""
        one = machine.hand().allowance(BUCKET, Caps(parallel=2), declared=False)
        other = machine.hand().allowance(BUCKET, Caps(parallel=2), declared=False)
        assert len(claims_of(one)) == len(claims_of(other)) == 2
        assert not machine.folder.exists()

    def test_real_processes_together(self, machine, start):
        """Four processes that ask as fast as they can get one limit's worth between them, never more at once."""
        lines = """
a = allowance(rpm=60, parallel=3)
while True:
    claim = a.claim(1)
    if isinstance(claim, Claim):
        left = time.monotonic()
        time.sleep(0.01)
        say("sent", left, time.monotonic())
        a.free(claim)
    elif claim.reason.endswith("a minute"):
        break
    else:
        time.sleep(claim.seconds)
shared.close()
"""
        outputs = [process.communicate()[0] for process in [start(lines) for _ in range(4)]]
        assert not any("event" in output for output in outputs), outputs
        spans = [
            (float(line.split()[1]), float(line.split()[2]))
            for output in outputs
            for line in output.splitlines()
            if line.startswith("sent")
        ]
        assert len(spans) == 60
        assert max(sum(a <= start < b for a, b in spans) for start, _ in spans) <= 3


class TestTurns:
    def test_a_free_slot_goes_to_who_has_the_fewest(self, machine):
        """A process that holds all slots gives way to one that came later, until both have the same."""
        first, second = machine.allowance(parallel=4), machine.allowance(parallel=4)
        held = claims_of(first)
        assert len(held) == 4
        for _ in range(2):
            assert isinstance(second.claim(1), Wait)
            first.free(held.pop())
            assert isinstance(first.claim(1), Wait)
            assert isinstance(second.claim(1), Claim)
        assert isinstance(second.claim(1), Wait)
        first.free(held.pop())
        assert isinstance(first.claim(1), Claim)

    def test_of_equals_the_one_that_waits_longest(self, machine):
        """With one slot for two they take turns."""
        one, other = machine.allowance(parallel=1), machine.allowance(parallel=1)
        holder, waiter = one, other
        claim = holder.claim(1)
        for _ in range(6):
            machine.clock.pass_by(0.02)
            assert isinstance(waiter.claim(1), Wait)
            holder.free(claim)
            machine.clock.pass_by(0.02)
            assert isinstance(holder.claim(1), Wait)
            claim = waiter.claim(1)
            assert isinstance(claim, Claim)
            holder, waiter = waiter, holder

    def test_who_asks_no_more_is_not_waited_for(self, machine):
        """A process that gave up waiting leaves the slot to those that still do."""
        one, other = machine.allowance(parallel=1), machine.allowance(parallel=1)
        claim = one.claim(1)
        assert isinstance(other.claim(1), Wait)
        machine.clock.pass_by(0.1)
        one.free(claim)
        assert isinstance(one.claim(1), Wait)
        machine.clock.pass_by(0.25)
        assert isinstance(one.claim(1), Claim)

    async def test_sharing_loses_next_to_nothing(self, tmp_path):
        """Two commands under one limit of five take as long as one with all the work, and end together."""
        clock = ManualClock()
        ends = []

        async def command(start_s):
            await clock.sleep(start_s)
            shared = SharedAllowances(
                tmp_path / "limits",
                secret=lambda: SECRET,
                clock=clock,
                emit=lambda _: None,
                now=clock.monotonic,
            )
            client = LimitedClient(
                ScriptedClient(lambda _: "answer", clock=clock, latency_s=0.2),
                rates=[Rate(pattern="*", parallel=5)],
                clock=clock,
                emit=lambda _: None,
                bucket_of=lambda _: BUCKET,
                allowance_of=shared.allowance,
            )
            question = ModelRequest(
                model=ModelSpec(id="openai/gpt"), messages=(Message(role="user", content="?"),)
            )
            async with asyncio.TaskGroup() as group:
                for _ in range(100):
                    group.create_task(client.complete(question))
            ends.append(clock.monotonic())
            shared.close()

        async def both():
            async with asyncio.TaskGroup() as group:
                group.create_task(command(0.0))
                group.create_task(command(0.5))

        start = clock.monotonic()
        await clock.drive(both())
        ideal_s = 200 * 0.2 / 5
        assert ideal_s <= ends[1] - start <= 1.1 * ideal_s
        assert ends[1] - ends[0] < 1.0


class TestDeath:
    def test_a_killed_process_gives_its_slots_back(self, machine, start):
        """kill -9 frees what was in flight, at once; what it sent still counts for its minute."""
        child = start("a = allowance(parallel=3, rpm=5)\nfor _ in range(3): a.claim(1)\n"
                      "say('held')\ntime.sleep(600)")  # fmt: skip
        assert child.stdout.readline() == "held\n"
        mine = real(machine).allowance(BUCKET, Caps(parallel=3, rpm=5))
        assert mine.claim(1).reason == "3 at once"
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert len(claims_of(mine)) == 2
        assert mine.claim(1).reason == "5 requests a minute"
        assert len(list(machine.folder.glob("*.holder"))) == 1

    def test_a_stopped_process_keeps_its_slots(self, machine, start):
        """Ctrl-Z is no death: its requests are still at work."""
        child = start("a = allowance(parallel=1)\na.claim(1)\nsay('held')\ntime.sleep(600)")
        assert child.stdout.readline() == "held\n"
        child.send_signal(signal.SIGSTOP)
        mine = real(machine).allowance(BUCKET, Caps(parallel=1))
        assert isinstance(mine.claim(1), Wait)
        assert isinstance(mine.claim(1), Wait)

    def test_kills_at_any_moment_leave_sound_books(self, machine, start):
        """Whatever a process was writing when it was killed, the sums agree with the rows and no slot stays."""
        draw = random.Random(7)
        lines = """
a = allowance(parallel=4, tpm=10**9)
say("go")
n = 0
while True:
    claim = a.claim(100)
    if isinstance(claim, Claim):
        n += 1
        a.settle(claim, 50 + n % 100)
        a.free(claim)
"""
        for _ in range(8):
            child = start(lines)
            assert child.stdout.readline() == "go\n"
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(draw.uniform(0.0, 0.15))
            child.kill()
            child.wait()
            mine = real(machine, machine.events.emit)
            allowance = mine.allowance(BUCKET, Caps(parallel=4, tpm=10**9))
            claims = [patiently(allowance) for _ in range(4)]
            assert rows(machine.folder, "SELECT requests, tokens FROM buckets") == rows(
                machine.folder, "SELECT count(*), sum(tokens) FROM departures"
            )
            for claim in claims:
                allowance.free(claim)
            mine.close()
        assert machine.warnings == []
        assert rows(machine.folder, "SELECT * FROM slots") == []

    def test_closing_leaves_nothing_but_the_minute(self, machine):
        """Slots go back, the process's file goes, and a process that goes on asking counts by itself."""
        hand = machine.hand()
        allowance = hand.allowance(BUCKET, Caps(parallel=2, rpm=3))
        assert len(claims_of(allowance)) == 2
        hand.close()
        assert sorted(path.name for path in machine.folder.iterdir()) == [FILE, "lock"]
        other = machine.allowance(parallel=2, rpm=3)
        assert len(claims_of(other)) == 1
        assert isinstance(allowance.claim(1), Wait)
        assert machine.warnings == []


class TestDisk:
    def test_nothing_is_made_without_need(self, machine):
        """No file before the first claim under a declared limit, or the first pause."""
        declared = machine.allowance(rpm=5)
        undeclared = machine.allowance()
        for _ in range(100):
            machine.clock.pass_by(1)
            assert isinstance(undeclared.claim(1), Claim)
        assert not machine.folder.exists()
        declared.claim(1)
        assert (machine.folder / FILE).exists()

    def test_the_folder_is_private_and_holds_no_key(self, machine, tmp_path):
        """Neither the key nor a hash that could be tried out stands on the disk, and nobody else can look."""
        claims_of(machine.allowance(rpm=3, parallel=2))
        assert stat.S_IMODE(machine.folder.stat().st_mode) == 0o700
        key = BUCKET.key.encode()
        secrets = [key, hashlib.sha256(key).digest(), hashlib.sha256(key).hexdigest().encode()]
        for path in machine.folder.iterdir():
            content = path.read_bytes()
            assert not any(secret in content for secret in secrets)
        assert BUCKET.key not in repr(BUCKET)
        assert BUCKET.digest(SECRET) != BUCKET.digest(b"t" * 32)

    def test_times_from_before_a_restart_are_void(self, machine):
        """The clock starts at zero with the machine: old departures, pauses and slots do not hold the new ones."""
        before = machine.allowance(rpm=2, parallel=2)
        assert len(claims_of(before)) == 2
        before.pause(30)
        machine.close()
        machine.clock.pass_by(-4990)
        assert len(claims_of(machine.allowance(rpm=2, parallel=2))) == 2

    def test_a_process_with_another_clock_holds_nobody(self, machine):
        """A container may have a time of its own: what lies ahead of ours is void, and never a long wait."""
        ours = machine.allowance(rpm=3, parallel=2)
        assert isinstance(ours.claim(1), Claim)
        ahead = Ticks(start=90_000)
        elsewhere = SharedAllowances(
            machine.folder,
            secret=lambda: SECRET,
            clock=ahead,
            emit=machine.events.emit,
            now=ahead.monotonic,
        )
        theirs = elsewhere.allowance(BUCKET, Caps(rpm=3))
        assert len(claims_of(theirs)) == 3
        theirs.pause(30)
        elsewhere.close()
        assert isinstance(ours.claim(1), Claim)
        assert machine.warnings == []

    def test_it_stays_small(self, machine):
        """An hour of requests, and buckets that are no longer used, leave a small file."""
        for number in range(20):
            hand = machine.hand()
            allowance = hand.allowance(Bucket(None, f"openai/{number}", "k"), Caps(rpm=100))
            for _ in range(200):
                machine.clock.pass_by(0.7)
                claim = allowance.claim(10)
                if isinstance(claim, Claim):
                    allowance.free(claim)
            hand.close()
        assert sum(path.stat().st_size for path in machine.folder.iterdir()) < 200_000
        machine.clock.pass_by(WINDOW_S)
        machine.allowance(rpm=1).claim(1)
        assert len(rows(machine.folder, "SELECT * FROM buckets")) == 1

    def test_broken_books_are_begun_anew(self, machine):
        """They matter for a minute only; nobody is asked to delete them."""
        machine.folder.mkdir(parents=True, mode=0o700)
        (machine.folder / FILE).write_bytes(b"no database at all, " * 500)
        one, other = machine.allowance(rpm=2), machine.allowance(rpm=2)
        assert len(claims_of(one)) == 2
        assert isinstance(other.claim(1), Wait)
        assert machine.warnings == []


class TestWithoutBooks:
    """Whatever is wrong with them: one warning, and the process keeps to the limits by itself."""

    def told_once(self, machine, allowance):
        assert len(machine.warnings) == 1
        assert "not shared" in machine.warnings[0]
        claims_of(allowance)
        allowance.pause(1)
        assert len(machine.warnings) == 1

    def test_a_folder_that_cannot_be_used(self, machine):
        machine.folder.parent.mkdir(parents=True)
        machine.folder.write_text("a file")
        allowance = machine.allowance(rpm=3)
        assert len(claims_of(allowance)) == 3
        self.told_once(machine, allowance)

    def test_a_folder_that_others_can_write(self, machine):
        machine.folder.mkdir(parents=True)
        machine.folder.chmod(0o777)
        allowance = machine.allowance(rpm=3)
        assert len(claims_of(allowance)) == 3
        self.told_once(machine, allowance)

    def test_a_network_disk(self, machine, monkeypatch):
        """Its locks do not hold."""
        monkeypatch.setattr(limit_file, "file_system_of", lambda _: "nfs4")
        allowance = machine.allowance(rpm=3)
        assert len(claims_of(allowance)) == 3
        self.told_once(machine, allowance)
        assert "network" in machine.warnings[0]

    def test_a_key_of_this_machine_that_is_damaged(self, machine, tmp_path):
        def damaged():
            raise OSError("it is gone")

        hand = SharedAllowances(
            tmp_path / "limits", secret=damaged, clock=machine.clock, emit=machine.events.emit
        )
        allowance = hand.allowance(BUCKET, Caps(rpm=3))
        assert len(claims_of(allowance)) == 3
        self.told_once(machine, allowance)

    def test_a_fault_in_the_middle_forgets_nothing(self, machine):
        """What was sent under the shared books still counts; the slots are left to the others."""
        allowance, other = machine.allowance(rpm=5, parallel=3), machine.allowance(parallel=3)
        claims = claims_of(allowance)
        assert len(claims) == 3
        other.claim(1)
        db = sqlite3.connect(machine.folder / FILE, isolation_level=None)
        db.execute("ALTER TABLE departures RENAME TO elsewhere")
        allowance.free(claims.pop())
        assert isinstance(allowance.claim(1), Claim)
        db.execute("ALTER TABLE elsewhere RENAME TO departures")
        db.close()
        assert isinstance(allowance.claim(1), Wait)
        allowance.free(claims.pop())
        assert len(claims_of(allowance)) == 1
        assert allowance.claim(1).reason == "5 requests a minute"
        self.told_once(machine, allowance)
        assert len(claims_of(other)) == 3

    def test_a_full_disk(self, machine, start):
        """Writing fails in the middle of a run; every claim is answered, and the limit holds."""
        child = start("""
import resource
a = allowance(rpm=50)
a.claim(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sent = 1
while isinstance(a.claim(1), Claim):
    sent += 1
say("sent", sent)
""")
        out, _ = child.communicate()
        assert out.splitlines()[-1] == "sent 50"
        assert out.count("not shared") == 1

    def test_books_that_somebody_keeps_locked(self, machine):
        """They are waited for a second or so, a moment at a time, and then no longer."""
        allowance = machine.allowance(rpm=5)
        first = allowance.claim(1)
        db = sqlite3.connect(machine.folder / FILE, isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        assert allowance.claim(1) == Wait(0.025, "another swarm counts")
        allowance.free(first)
        db.execute("ROLLBACK")
        assert isinstance(allowance.claim(1), Claim)
        assert rows(machine.folder, "SELECT count(*) FROM slots") == [(1,)]
        db.execute("BEGIN IMMEDIATE")
        asked = 0
        while isinstance(allowance.claim(1), Wait):
            asked += 1
        db.execute("ROLLBACK")
        db.close()
        assert 10 < asked < 100
        self.told_once(machine, allowance)


def test_the_bucket_is_what_the_provider_sees():
    """The address and key are those that are sent, whatever the recipe calls them."""
    env = {"OPENAI_API_KEY": "sk-1", "MY_KEY": "sk-1", "OPENAI_API_BASE": "http://host/v1/"}
    plain = bucket_of(ModelSpec(id="openai/gpt"), env)
    named = ModelSpec(id="openai/gpt", api_base="http://host/v1", api_key_env="MY_KEY")
    assert plain == bucket_of(named, env)
    assert plain != bucket_of(ModelSpec(id="openai/gpt"), {**env, "OPENAI_API_KEY": "sk-2"})
    assert str(plain) == "openai/gpt @ http://host/v1"


class SharedAgainstNaiveBooks(AgainstNaiveBooks):
    """Three processes in any order: together they are one allowance."""

    def make(self, caps):
        self.folder = Path(tempfile.mkdtemp())
        self.machine = Machine(self.folder / "limits")
        self.machine.clock = self.clock
        self.machines = [self.begin(caps) for _ in range(3)]
        return self.machines[0][1]

    def begin(self, caps):
        hand = self.machine.hand()
        hand._window_s = self.window_s
        return hand, hand.allowance(BUCKET, caps)

    def ask(self, tokens):
        """A slot may be kept for another process that waits, as long as it goes on asking."""
        fits = self.naive.fits(tokens, self.now)
        answer = self.allowance.claim(tokens)
        if fits and isinstance(answer, Wait):
            assert answer.reason.endswith("at once")
            self.clock.pass_by(0.3)
            answer = self.allowance.claim(tokens)
        assert isinstance(answer, Claim) == fits, answer
        return answer

    @rule(index=st.integers(0, 2))
    def another_process(self, index):
        self.allowance = self.machines[index][1]

    @rule(index=st.integers(0, 2), is_crash=st.booleans())
    def end_of_a_process(self, index, is_crash):
        """Its slots are free, its minute goes on, and another one starts in its place."""
        hand, allowance = self.machines[index]
        if is_crash and hand._books is not None:
            hand._books.drop()  # what the kernel does when it is killed
        else:
            hand.close()
        for owner, _, sent in self.running:
            if owner is allowance:
                sent.is_in_flight = False
        self.running = [one for one in self.running if one[0] is not allowance]
        self.machines[index] = self.begin(self.naive.caps)
        if self.allowance is allowance:
            self.allowance = self.machines[index][1]

    def teardown(self):
        if hasattr(self, "machine"):
            assert self.machine.warnings == []
            self.machine.close()
            shutil.rmtree(self.folder)


TestSharedAgainstNaiveBooks = SharedAgainstNaiveBooks.TestCase
TestSharedAgainstNaiveBooks.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None
)

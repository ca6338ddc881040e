"""The answer cache: it saves calls, runs nothing that it reads, and never fails a run."""

import asyncio
import contextlib
import gc
import os
import pickle
import random
import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcli.adapters import cache_upkeep
from swarmcli.adapters.cache import DiskStore
from swarmcli.adapters.cache_entry import decode, encode
from swarmcli.adapters.cache_key import cache_key
from swarmcli.adapters.cached_client import CachedClient, Store
from swarmcli.adapters.file_system import file_system_of
from swarmcli.core.events import CallCompleted, Usage, Warned
from swarmcli.core.ports import Message, ModelReply, ModelRequest
from swarmcli.errors import ModelError, StorageError
from swarmcli.recipe.values import ModelSpec
from swarmcli.testing import (
    ManualClock,
    MemoryStore,
    RecordingRecorder,
    RecordingText,
    ScriptedClient,
)

REQUEST = ModelRequest(
    model=ModelSpec(id="openai/gpt"), messages=(Message(role="user", content="q"),), agent="a1"
)
USAGE = Usage(input_tokens=3, output_tokens=4)
REPLY = ModelReply(text="answer", model="openai/gpt", usage=USAGE, cost_usd=0.5, seconds=2.0)
BIG = "x" * 100_000
"""Too large for the database itself: it goes to a file."""

needs_other_users = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


@pytest.fixture
def events():
    return RecordingRecorder()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "answers"


async def write(folder, entries, ttl_s=None):
    """Put entries into a store of their own, and close it."""
    events = RecordingRecorder()
    store = DiskStore(folder, emit=events.emit)
    for key, value in entries.items():
        store.put(key, value, ttl_s)
    await store.close()
    assert events.events == []


async def read(folder, *keys):
    """What another process finds, and what it says."""
    events = RecordingRecorder()
    store = DiskStore(folder, emit=events.emit)
    values = [await store.get(key) for key in keys]
    await store.close()
    return values, [event.message for event in events.of(Warned)]


def rows(folder, sql, *values):
    with sqlite3.connect(folder / "cache.db") as database:
        database.execute(sql, values)
    database.close()


class TestDiskStore:
    async def test_values_survive_the_process(self, folder):
        """Small ones in the database, large ones in files."""
        await write(folder, {"small": b"1", "large": BIG.encode()})
        assert await read(folder, "small", "large", "none") == ([b"1", BIG.encode(), None], [])
        assert len(list(folder.rglob("*.val"))) == 1

    async def test_a_value_is_there_as_soon_as_it_is_put(self, folder, events):
        """Nobody waits for the disk."""
        store = DiskStore(folder, emit=events.emit)
        store.put("k", b"v")
        assert await store.get("k") == b"v"
        await store.close()

    async def test_nothing_is_made_before_the_first_use(self, folder, events):
        """A run without calls leaves no trace."""
        store = DiskStore(folder, emit=events.emit)
        await store.close()
        assert not folder.exists()
        assert cache_upkeep.info(folder) == (folder, 0, 0, None)
        assert cache_upkeep.clear(folder) == 0
        assert cache_upkeep.prune(folder, 0) == (0, 0)
        assert not folder.exists()

    def test_diskcache_is_imported_on_first_use_only(self):
        """`swarm --help` does not pay for it."""
        code = "import swarmcli.adapters.cache, sys; assert 'diskcache' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])

    async def test_the_folder_is_private(self, folder):
        """Prompts and answers are nobody else's business; an older, open folder is closed."""
        await write(folder, {"k": b"v"})
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        folder.chmod(0o755)
        await write(folder, {"k": b"v"})
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    async def test_nothing_is_evicted(self, folder):
        """Also not when the database was once opened with other settings."""
        import diskcache

        with diskcache.Cache(str(folder), size_limit=50_000, cull_limit=10) as other:
            other["x"] = 1
        folder.chmod(0o700)
        entries = {f"{n}": b"y" * 40_000 for n in range(50)}
        await write(folder, entries)
        values, _ = await read(folder, *entries)
        assert all(values)

    async def test_entries_expire(self, folder):
        """A time to live is kept by the database too."""
        await write(folder, {"k": b"v"}, ttl_s=-1.0)
        assert await read(folder, "k") == ([None], [])

    async def test_writes_come_from_one_thread(self, folder, events):
        """The event loop never writes, and the thread ends with the store."""
        store = DiskStore(folder, emit=events.emit)
        for n in range(50):
            store.put(f"{n}", b"v")
        assert [t.name for t in threading.enumerate()].count("swarm-cache") == 1
        await store.close()
        assert "swarm-cache" not in [t.name for t in threading.enumerate()]
        assert cache_upkeep.info(folder).entries == 50

    async def test_many_first_readers_open_it_once(self, folder):
        """Three hundred agents start together; one of them gives up while it waits."""
        await write(folder, {f"{n}": b"v" for n in range(100)})
        events = RecordingRecorder()
        store = DiskStore(folder, emit=events.emit)
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(store.get(f"{n}")) for n in range(100)]
            await asyncio.sleep(0)
            calls[0].cancel()
        assert [call.result() for call in calls[1:]] == [b"v"] * 99
        await store.close()


class TestUpkeep:
    async def test_info_counts(self, folder):
        """Entries, bytes and the place."""
        await write(folder, {"a": b"1", "b": BIG.encode()})
        info = cache_upkeep.info(folder)
        assert (info.folder, info.entries, info.problem) == (folder, 2, None)
        assert info.bytes > 100_000

    async def test_clear_removes_all(self, folder):
        """And leaves a cache that works."""
        await write(folder, {"a": b"1", "b": BIG.encode()})
        assert cache_upkeep.clear(folder) == 2
        assert list(folder.rglob("*.val")) == []
        await write(folder, {"a": b"2"})
        assert await read(folder, "a") == ([b"2"], [])

    async def test_a_broken_database_is_told_and_cleared(self, folder):
        """The way out of a damaged cache is `swarm cache clear`."""
        await write(folder, {"b": BIG.encode()})
        (folder / "cache.db").write_bytes(b"no database" * 1000)
        (folder / "note.txt").write_text("not ours")
        info = cache_upkeep.info(folder)
        assert info.problem is not None
        assert "DatabaseError" in info.problem
        assert info.bytes > 100_000
        with pytest.raises(StorageError, match=r"cannot prune .*DatabaseError") as caught:
            cache_upkeep.prune(folder)
        assert caught.value.hint == "swarm cache clear"
        assert cache_upkeep.clear(folder) == 0
        assert [path.name for path in folder.rglob("*") if path.is_file()] == ["note.txt"]
        await write(folder, {"a": b"2"})

    async def test_prune_removes_what_is_old_or_unreadable(self, folder):
        """Young answers stay."""
        await write(
            folder,
            {"old": encode(REPLY, 1000.0), "young": encode(REPLY, 2000.0), "odd": b"garbage"},
        )
        rows(folder, "UPDATE Cache SET mode = 4 WHERE key = 'odd'")
        assert cache_upkeep.prune(folder, 500.0, now=lambda: 2100.0).entries == 2
        assert cache_upkeep.info(folder).entries == 1

    async def test_prune_alone_removes_what_nobody_can_get(self, folder):
        """Expired entries and garbage go; answers of any age stay."""
        await write(folder, {"old": encode(REPLY, 0.0), "odd": b"garbage"})
        await write(folder, {"expired": encode(replace(REPLY, text=BIG), 0.0)}, ttl_s=-1.0)
        entries, freed = cache_upkeep.prune(folder)
        assert entries == 2
        assert freed > 90_000
        assert cache_upkeep.prune(folder) == (0, 0)
        (value,), _ = await read(folder, "old")
        assert value == encode(REPLY, 0.0)

    async def test_prune_removes_files_without_an_entry(self, folder):
        """A killed writer's old file goes; one in the making, an entry's, and other people's stay."""
        await write(folder, {"k": encode(replace(REPLY, text=BIG), 0.0)})
        (ours,) = folder.rglob("*.val")
        orphan = folder / "ab" / "cd" / f"{'0' * 28}.val"
        young = folder / "ab" / "cd" / f"{'1' * 28}.val"
        foreign = folder / "ab" / "cd" / "thesis.val"
        for file in (orphan, young, foreign):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
        for file in (ours, orphan, foreign):
            os.utime(file, (1.0, 1.0))
        cache_upkeep.prune(folder)
        assert [file.exists() for file in (ours, orphan, young, foreign)] == [
            True,
            False,
            True,
            True,
        ]


class Bomb:
    """Runs when it is unpickled."""

    def __init__(self, fuse):
        self.fuse = fuse

    def __reduce__(self):
        return os.mkdir, (str(self.fuse),)


class TestPlanted:
    async def test_a_pickled_value_is_a_miss(self, folder, tmp_path):
        """It is not executed, others are still read, and the next write replaces it."""
        await write(folder, {"k": b"v", "other": b"o"})
        bomb = pickle.dumps(Bomb(tmp_path / "boom"))
        rows(folder, "UPDATE Cache SET mode = 4, value = ? WHERE key = 'k'", bomb)
        assert await read(folder, "k", "other") == ([None, b"o"], [])
        await write(folder, {"k": b"new"})
        assert await read(folder, "k") == ([b"new"], [])
        assert not (tmp_path / "boom").exists()

    async def test_a_pickled_file_is_a_miss(self, folder, tmp_path):
        """Nor one that lies beside the database."""
        await write(folder, {"k": BIG.encode()})
        (file,) = folder.rglob("*.val")
        file.write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
        rows(folder, "UPDATE Cache SET mode = 4")
        assert await read(folder, "k") == ([None], [])
        assert not (tmp_path / "boom").exists()

    async def test_a_pickled_key_is_never_loaded(self, folder, tmp_path):
        """Not by reading, listing or clearing."""
        await write(folder, {"k": b"v"})
        bomb = pickle.dumps(Bomb(tmp_path / "boom"))
        rows(folder, "INSERT INTO Cache(key, raw, mode, value) VALUES (?, 0, 1, x'00')", bomb)
        assert await read(folder, "k") == ([b"v"], [])
        assert cache_upkeep.prune(folder, 0.0).entries == 1
        assert cache_upkeep.clear(folder) == 1
        assert not (tmp_path / "boom").exists()

    @pytest.mark.parametrize("name", ["../secret", "{absolute}", "ab/cd/../../../secret", "secret"])
    async def test_a_file_name_that_leaves_the_folder_is_a_miss(self, folder, tmp_path, name):
        """What it names is neither read nor removed."""
        await write(folder, {"k": BIG.encode()})
        for secret in (tmp_path / "secret", folder / "secret"):
            secret.write_bytes(b"secret")
        name = name.format(absolute=tmp_path / "secret")
        rows(folder, "UPDATE Cache SET filename = ?", name)
        assert await read(folder, "k") == ([None], [])
        await write(folder, {"k": b"new"})
        rows(folder, "UPDATE Cache SET filename = ?", name)
        cache_upkeep.clear(folder)
        assert (tmp_path / "secret").read_bytes() == (folder / "secret").read_bytes() == b"secret"

    @pytest.mark.parametrize(
        "change",
        ["mode = 3", "mode = 1, value = 'text'", "mode = 99", "mode = 2, filename = NULL"],
    )
    async def test_other_kinds_of_values_are_misses(self, folder, change):
        """We write bytes only."""
        await write(folder, {"k": b"v"})
        rows(folder, f"UPDATE Cache SET {change}")  # noqa: S608
        assert await read(folder, "k") == ([None], [])

    @pytest.mark.parametrize("key", ["get", "disk_evil", "sqlite_mmap_size", "statistics"])
    async def test_planted_settings_cost_the_cache_at_most(self, folder, key):
        """A database that was tampered with is a miss, never an error."""
        await write(folder, {"k": b"v"})
        rows(folder, "INSERT OR REPLACE INTO Settings VALUES (?, 'x')", key)
        values, warnings = await read(folder, "k")
        assert values == [b"v"] or (values == [None] and len(warnings) == 1)


class TestFaults:
    async def check(self, folder, *, warning):
        """Reading and writing work as if nothing was ever stored, and one line says why."""
        events = RecordingRecorder()
        store = DiskStore(folder, emit=events.emit)
        model = ScriptedClient(lambda _: "answer")
        client = CachedClient(model, store, mode="use", emit=events.emit)
        for n in range(5):
            assert (await client.complete(replace(REQUEST, sample=n))).text == "answer"
        await client.close()
        assert len(model.requests) == 5
        (warned,) = events.of(Warned)
        assert warned.message.startswith("no answer cache in this run: ")
        assert warning in warned.message
        assert "\n" not in warned.message

    async def test_a_corrupt_database(self, folder):
        """It is malformed from the first page on."""
        await write(folder, {"k": b"v"})
        (folder / "cache.db").write_bytes(b"no database" * 1000)
        await self.check(folder, warning="DatabaseError")

    async def test_a_half_corrupt_database(self, folder):
        """It opens, and breaks later."""
        await write(folder, {f"{n}": b"v" * 900 for n in range(200)})
        with (folder / "cache.db").open("r+b") as file:
            file.seek(20_000)
            file.write(os.urandom(100_000))
        await self.check(folder, warning="Error")

    async def test_a_file_where_the_folder_should_be(self, folder):
        """It cannot be made."""
        folder.write_text("x")
        await self.check(folder, warning=str(folder))

    async def test_a_folder_that_others_can_write_to(self, folder):
        """Anybody could have put answers there."""
        folder.mkdir()
        folder.chmod(0o777)
        await self.check(folder, warning="written by other users")

    @needs_other_users
    async def test_a_folder_of_somebody_else(self, folder):
        """Their answers are not ours."""
        folder.mkdir(mode=0o700)
        os.chown(folder, 12345, 12345)
        await self.check(folder, warning="belongs to user 12345")

    @not_as_root
    async def test_a_read_only_folder(self, folder):
        """It can be read, but diskcache writes when it opens."""
        await write(folder, {"k": b"v"})
        folder.chmod(0o500)
        await self.check(folder, warning=str(folder))
        folder.chmod(0o700)

    async def test_a_full_disk(self, folder, monkeypatch):
        """What cannot be written is not cached; what was there is still handed out."""
        import diskcache

        await write(folder, {cache_key(REQUEST): encode(REPLY, 0.0)})
        full = sqlite3.OperationalError("database or disk is full")

        def fail(*_args, **_more):
            raise full

        monkeypatch.setattr(diskcache.Cache, "set", fail)
        events = RecordingRecorder()
        model = ScriptedClient(lambda _: "new")
        client = CachedClient(
            model, DiskStore(folder, emit=events.emit), mode="use", emit=events.emit
        )
        assert (await client.complete(REQUEST)).text == "answer"
        assert (await client.complete(replace(REQUEST, sample=1))).text == "new"
        await client.close()
        (warned,) = events.of(Warned)
        assert "disk is full" in warned.message

    async def test_a_locked_database_does_not_hold_the_run(self, folder, monkeypatch):
        """Another process that keeps the lock costs a bounded time."""
        await write(folder, {"k": b"v"})
        monkeypatch.setattr("swarmcli.adapters.cache._OPEN_TIMEOUT_S", 0.2)
        monkeypatch.setattr("swarmcli.adapters.cache._CLOSE_TIMEOUT_S", 0.2)
        lock = sqlite3.connect(folder / "cache.db", isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        try:
            await asyncio.wait_for(self.check(folder, warning="locked"), 5)
        finally:
            lock.execute("ROLLBACK")
            lock.close()
        for thread in threading.enumerate():
            if thread.name == "swarm-cache":
                await asyncio.to_thread(thread.join)

    async def test_a_missing_file_is_a_miss(self, folder):
        """The entry's file was deleted by hand; the cache stays in use."""
        await write(folder, {"k": BIG.encode(), "l": b"v"})
        for file in folder.rglob("*.val"):
            file.unlink()
        assert await read(folder, "k", "l") == ([None, b"v"], [])

    async def test_a_network_file_system(self, folder, monkeypatch):
        """SQLite's locks do not work there."""
        monkeypatch.setattr("swarmcli.adapters.cache.file_system_of", lambda _: "nfs4")
        await self.check(folder, warning="network file system (nfs4)")

    def test_the_file_system_is_that_of_the_innermost_mount(self, tmp_path):
        """Mount points may lie in each other and hold blanks."""
        inner = tmp_path / "my home" / "deep"
        inner.mkdir(parents=True)
        escaped = str(tmp_path / "my home").replace(" ", "\\040")
        mounts = (
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
            f"30 22 0:4 / {escaped} rw - nfs4 server:/home rw\n"
            "31 22 0:5 / /somewhere/else rw - tmpfs none rw\n"
            "a broken line\n"
        )
        assert file_system_of(inner, mounts) == "nfs4"
        assert file_system_of(tmp_path, mounts) == "ext4"
        assert file_system_of(tmp_path, "") is None

    async def test_several_processes_may_share_it(self, folder):
        """Four writers at once lose nothing."""
        code = (
            "import asyncio, sys\n"
            "from pathlib import Path\n"
            "from swarmcli.adapters.cache import DiskStore\n"
            "async def main():\n"
            "    store = DiskStore(Path(sys.argv[1]), emit=print)\n"
            "    for n in range(50):\n"
            "        store.put(f'{sys.argv[2]}-{n}', b'v')\n"
            "    await store.get('x')\n"
            "    await store.close()\n"
            "asyncio.run(main())\n"
        )
        root = Path(__file__).parents[2]
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, str(folder), f"{n}", cwd=root, stdout=subprocess.PIPE
            )
            for n in range(4)
        ]
        said = [(await process.communicate())[0] for process in processes]
        assert said == [b""] * 4
        keys = [f"{p}-{n}" for p in range(4) for n in range(50)]
        values, _ = await read(folder, *keys)
        assert values == [b"v"] * 200

    def test_hundreds_of_processes_may_open_it_at_once(self, folder):
        """Two hundred and fifty start in one moment on an empty folder: each writes, and none complains."""
        assert storm(folder, 250) == ""
        assert cache_upkeep.info(folder).entries == 250

    def test_a_disk_that_is_really_full(self, folder):
        """The system refuses every byte beyond a limit: one warning, and right answers all the same."""
        code = (
            "import asyncio, resource, signal, sys\n"
            "from dataclasses import replace\n"
            "from pathlib import Path\n"
            "from swarmcli.adapters.cache import DiskStore\n"
            "from swarmcli.adapters.cached_client import CachedClient\n"
            "from swarmcli.testing import ScriptedClient\n"
            "from tests.adapters.test_cache import REQUEST, BIG\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
            "async def main():\n"
            "    said = []\n"
            "    store = DiskStore(Path(sys.argv[1]), emit=said.append)\n"
            "    client = CachedClient(ScriptedClient(lambda _: BIG), store, mode='use', emit=print)\n"
            "    for n in range(5):\n"
            "        assert (await client.complete(replace(REQUEST, sample=n))).text == BIG\n"
            "    await client.close()\n"
            "    print(len(said), said[0].message)\n"
            "asyncio.run(main())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
        )
        assert done.stdout.startswith("1 no answer cache in this run: "), done.stderr

    @needs_other_users
    def test_a_folder_that_cannot_be_written(self, folder):
        """A read-only folder is one warning for a process without special rights; it goes on."""
        folder.mkdir(mode=0o500)
        os.chown(folder, 12345, 12345)
        for parent in list(folder.parents)[:3]:
            parent.chmod(0o755)
        (said,) = storm(folder, 1, 12345).splitlines()
        assert said.startswith("no answer cache in this run: ")
        assert str(folder) in said


def storm(folder: Path, *args: int) -> str:
    """What `count` processes that use the cache in the same moment have to say."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.adapters.cache_storm", str(folder), *map(str, args)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


class TestEntries:
    @given(
        st.builds(
            ModelReply,
            text=st.text(st.characters(), min_size=1, max_size=80),
            model=st.text(min_size=1, max_size=10),
            usage=st.none() | st.builds(Usage, input_tokens=st.integers(0, 9)),
            cost_usd=st.none() | st.floats(0, 10),
        ),
        st.floats(0, 1e10),
    )
    def test_an_answer_comes_back_as_it_went_in(self, reply, created):
        """Any text, with or without usage and cost."""
        assert decode(encode(reply, created)) == (reply, created)

    @given(st.binary(max_size=200))
    def test_garbage_is_no_answer(self, garbage):
        """Whatever lies there."""
        assert decode(garbage) is None

    @given(st.integers(0, 10_000), st.integers(1, 255))
    @settings(max_examples=60)
    def test_a_damaged_answer_is_none(self, place, flip):
        """A flipped bit anywhere, or a missing end."""
        whole = encode(REPLY, 5.0)
        damaged = bytearray(whole)
        damaged[place % len(whole)] ^= flip
        entry = decode(bytes(damaged))
        assert entry is None or entry.reply == decode(whole).reply
        assert decode(whole[: place % len(whole)]) is None

    @pytest.mark.parametrize(
        "content",
        [
            b"[]",
            b"null",
            b"{}",
            b'{"text":1}',
            b'{"text":"a","model":"m","usage":{"x":1}}',
            b"[" * 9999,
        ],
    )
    def test_well_framed_nonsense_is_no_answer(self, content):
        """The right checksum does not make it one."""
        import zlib

        assert decode(b"%08x %b" % (zlib.crc32(content), content)) is None


class Rig:
    """A cached client over a script and a store in memory."""

    def __init__(self, script=lambda _: REPLY, *, mode="use", latency_s=0.0, store=None, **more):
        self.clock, self.events = ManualClock(), RecordingRecorder()
        self.store = store or MemoryStore()
        self.model = ScriptedClient(script, clock=self.clock, latency_s=latency_s)
        self.time = 1000.0
        self.client = CachedClient(
            self.model,
            self.store,
            mode=mode,
            emit=self.events.emit,
            now=lambda: self.time,
            **more,
        )

    async def ask(self, request=REQUEST, stream_to=None):
        return await self.clock.drive(self.client.complete(request, stream_to))

    async def together(self, count, request=REQUEST):
        async def one():
            try:
                return await self.client.complete(request)
            except ModelError as exc:
                return exc

        async def run():
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(one()) for _ in range(count)]
            return [call.result() for call in calls]

        return await self.clock.drive(run())

    @property
    def calls(self):
        return len(self.model.requests)


def test_stores_are_interchangeable():
    """The fake in memory and the one on disk have one shape."""
    stores: list[Store] = [MemoryStore(), DiskStore(Path("x"), emit=print)]
    assert len(stores) == 2


class TestModes:
    async def test_use_asks_once(self):
        """The second time it is free: no attempt, no cost, no time, and the tokens it took then."""
        rig = Rig()
        first, second = await rig.ask(), await rig.ask()
        assert first == REPLY
        assert second == replace(REPLY, cached=True, cost_usd=0.0, attempts=0, seconds=0.0)
        assert rig.calls == 1
        assert rig.events.events == [
            CallCompleted(
                model="openai/gpt",
                purpose="agent",
                seconds=0.0,
                tokens=USAGE,
                cost_usd=0.0,
                cached=True,
                agent="a1",
            )
        ]

    async def test_use_knows_its_askers_apart(self):
        """Another sample is another question; another agent is not."""
        rig = Rig()
        await rig.ask()
        await rig.ask(replace(REQUEST, sample=1))
        await rig.ask(replace(REQUEST, agent="a2", purpose="writer"))
        assert rig.calls == 2

    async def test_refresh_asks_again_once(self):
        """What was stored before is replaced; what this run has asked is not asked again."""
        rig = Rig(lambda _: "new", mode="refresh")
        rig.store.put(cache_key(REQUEST), encode(REPLY, 999.0))
        assert [(await rig.ask()).text for _ in range(3)] == ["new"] * 3
        assert rig.calls == 1
        assert decode(rig.store.entries[cache_key(REQUEST)]).reply.text == "new"

    async def test_only_never_asks(self):
        """A hit is a hit; a miss is a failure that says so."""
        rig = Rig(mode="only")
        rig.store.put(cache_key(REQUEST), encode(REPLY, 999.0))
        assert (await rig.ask()).cached
        with pytest.raises(ModelError, match="not in the cache") as caught:
            await rig.ask(replace(REQUEST, sample=1))
        assert caught.value.kind == "cache_miss"
        assert rig.calls == 0

    async def test_off_asks_each(self):
        """Nothing is read, written or shared."""
        rig = Rig(mode="off", latency_s=1.0)
        rig.store.put(cache_key(REQUEST), encode(replace(REPLY, text="old"), 999.0))
        before = dict(rig.store.entries)
        replies = await rig.together(5)
        assert [reply.text for reply in replies] == ["answer"] * 5
        assert not any(reply.cached for reply in replies)
        assert (rig.calls, rig.store.entries) == (5, before)

    async def test_old_answers_are_misses(self):
        """A time to live counts from when the answer was given."""
        rig = Rig(ttl_s=60.0)
        await rig.ask()
        rig.time += 60
        assert (await rig.ask()).cached
        rig.time += 1
        assert not (await rig.ask()).cached
        assert rig.calls == 2

    async def test_a_clock_that_went_back_ages_nothing(self):
        """An answer from the future is an answer."""
        rig = Rig(ttl_s=60.0)
        await rig.ask()
        rig.time -= 3600
        assert (await rig.ask()).cached

    async def test_failures_are_not_kept(self):
        """Only complete answers are."""
        rig = Rig([ModelError("cut", kind="truncated"), REPLY])
        with pytest.raises(ModelError):
            await rig.ask()
        assert rig.store.entries == {}
        assert (await rig.ask()).text == "answer"

    async def test_a_hit_is_streamed_in_one_piece(self):
        """Whoever listens gets the whole text once."""
        rig = Rig()
        await rig.ask()
        sink = RecordingText()
        await rig.ask(stream_to=sink)
        assert sink.pieces == ["answer"]

    async def test_a_miss_is_streamed_as_it_comes(self):
        """The asker's own listener hears the model."""
        rig = Rig(lambda _: "a longer answer")
        sink = RecordingText()
        await rig.ask(stream_to=sink)
        assert len(sink.pieces) > 1

    async def test_a_question_without_a_name_is_asked(self):
        """NaN in a schema has no canonical form; the call is made all the same."""
        rig = Rig()
        odd = replace(REQUEST, extra={"x": float("nan")})
        for _ in range(2):
            assert not (await rig.ask(odd)).cached
        assert (rig.calls, rig.store.entries) == (2, {})

    async def test_closing_closes_model_and_store(self):
        """The chain is closed from the outside."""
        rig = Rig()
        await rig.client.close()
        assert rig.model.closed
        assert rig.store.closed

    async def test_on_disk(self, folder, events):
        """The whole way: another client finds on disk what the first one paid for."""
        for expected in (False, True):
            store = DiskStore(folder, emit=events.emit)
            client = CachedClient(
                ScriptedClient(lambda _: "é\ud800" + BIG), store, mode="use", emit=events.emit
            )
            reply = await client.complete(REQUEST)
            assert (reply.cached, reply.text) == (expected, "é\ud800" + BIG)
            await client.close()
        assert events.of(Warned) == []
        gc.collect()


class TestTwins:
    async def test_identical_questions_in_flight_are_one_call(self):
        """One pays, the others get the answer for nothing, each with a record of its own."""
        rig = Rig(latency_s=1.0)
        replies = await rig.together(10)
        assert rig.calls == 1
        assert [reply.cached for reply in replies] == [False] + [True] * 9
        assert {reply.text for reply in replies} == {"answer"}
        assert [reply.cost_usd for reply in replies] == [0.5] + [0.0] * 9
        assert len(rig.events.of(CallCompleted)) == 9

    async def test_in_refresh_too(self):
        """Fresh once, not ten times."""
        rig = Rig(mode="refresh", latency_s=1.0)
        await rig.together(10)
        assert rig.calls == 1

    async def test_a_twin_that_streams_gets_the_text_once(self):
        """Each listener hears the whole answer."""
        rig = Rig(lambda _: "a longer answer", latency_s=1.0)
        sinks = [RecordingText() for _ in range(3)]

        async def run():
            async with asyncio.TaskGroup() as group:
                for sink in sinks:
                    group.create_task(rig.client.complete(REQUEST, sink))

        await rig.clock.drive(run())
        assert [sink.text for sink in sinks] == ["a longer answer"] * 3
        assert [len(sink.pieces) for sink in sinks] == [2, 1, 1]

    async def test_when_the_leader_fails_the_next_one_asks(self):
        """One bad answer does not fail all."""
        rig = Rig([ModelError("x", kind="server"), REPLY], latency_s=1.0)
        replies = await rig.together(4)
        assert isinstance(replies[0], ModelError)
        assert [reply.cached for reply in replies[1:]] == [False, True, True]
        assert rig.calls == 2

    async def test_a_failure_that_is_certain_is_not_repeated(self):
        """Three hundred twins of an unknown model are one request."""
        rig = Rig([ModelError("who?", kind="unknown_model", hint="h")], latency_s=1.0)
        failures = await rig.together(300)
        assert {(f.message, f.kind, f.hint) for f in failures} == {("who?", "unknown_model", "h")}
        assert len({id(failure) for failure in failures}) == 300
        assert rig.calls == 1

    async def test_cancelling_a_twin_does_not_disturb_the_leader(self):
        """The call goes on for those who still wait."""
        rig = Rig(latency_s=1.0)
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(rig.client.complete(REQUEST)) for _ in range(3)]
            await rig.clock.advance(0.5)
            calls[1].cancel()
            await rig.clock.advance(1)
        assert calls[1].cancelled()
        assert (calls[0].result().cached, calls[2].result().cached) == (False, True)
        assert (rig.calls, rig.model.cancelled) == (1, 0)

    async def test_cancelling_the_leader_hands_over(self):
        """The next one asks, the others wait for that."""
        rig = Rig(latency_s=1.0)
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(rig.client.complete(REQUEST)) for _ in range(3)]
            await rig.clock.advance(0.5)
            calls[0].cancel()
            await rig.clock.advance(2)
        assert (calls[1].result().cached, calls[2].result().cached) == (False, True)
        assert (rig.calls, rig.model.cancelled) == (2, 1)

    async def test_cancelling_the_heir_in_the_same_moment_hands_over_again(self):
        """Nobody is left waiting for a leader that is gone."""
        rig = Rig(latency_s=1.0)
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(rig.client.complete(REQUEST)) for _ in range(4)]
            await rig.clock.advance(0.5)
            calls[0].cancel()
            await asyncio.sleep(0)  # the leader has handed over, the heir does not know it yet
            calls[1].cancel()
            calls[2].cancel()
            await rig.clock.advance(2)
        assert calls[3].result().text == "answer"
        assert rig.client._groups == {}

    @given(st.randoms(use_true_random=False))
    @settings(max_examples=60, deadline=None)
    def test_no_order_of_events_leaves_anybody_waiting(self, rng):
        """Random arrivals, failures and cancellations: every caller ends, and nothing is kept."""
        asyncio.run(self.storm(rng))

    async def storm(self, rng: random.Random):
        """Forty askers of two questions."""

        def answer(_):
            kinds = ("server", "unknown_model")
            return ModelError("x", kind=rng.choice(kinds)) if rng.random() < 0.5 else REPLY

        rig = Rig(answer, mode=rng.choice(["use", "refresh"]), latency_s=1.0)

        async def one(number):
            with contextlib.suppress(ModelError):
                await rig.client.complete(replace(REQUEST, sample=number % 2))

        async def run():
            async with asyncio.TaskGroup() as group:
                calls = []
                for number in range(40):
                    calls.append(group.create_task(one(number)))
                    if rng.random() < 0.4:
                        await rig.clock.sleep(rng.random())
                    if rng.random() < 0.2:
                        await asyncio.sleep(0)
                    if rng.random() < 0.5:
                        rng.choice(calls).cancel()

        await rig.clock.drive(run())
        assert rig.client._groups == {}
        assert rig.model.in_flight == 0
        assert rig.model.peak <= 2

"""Many processes use one cache in the same moment: `python -m tests.adapters.cache_storm FOLDER COUNT [USER]`.

Prints what they had to say. They are forked, so that importing costs once and all of them start together.
"""

import asyncio
import importlib
import os
import sys
from pathlib import Path

from swarmcli.adapters.cache import DiskStore
from swarmcli.core.events import Warned
from swarmcli.testing import RecordingRecorder


async def use(folder: Path, number: int) -> list[str]:
    """Read and write one answer; the warnings."""
    events = RecordingRecorder()
    store = DiskStore(folder, emit=events.emit)
    await store.get("absent")
    store.put(f"{number}", b"v")
    await store.close()
    return [event.message for event in events.of(Warned)]


def storm(folder: Path, count: int, user: int | None) -> None:
    """Fork, let all go at once, and wait for them."""
    for module in ("concurrent.futures.thread", "diskcache"):
        importlib.import_module(module)  # `user` may not be able to read where they lie
    ready, go = os.pipe()
    children: list[int] = []
    for number in range(count):
        child = os.fork()
        if child:
            children.append(child)
            continue
        os.close(go)
        if user is not None:
            os.setuid(user)
        os.read(ready, 1)  # the end of the file, when the parent closes the other end
        for line in asyncio.run(use(folder, number)):
            os.write(1, f"{line}\n".encode())
        os._exit(0)
    os.close(go)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    storm(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)

"""What kind of disk a folder lies on: locks and databases do not work on all of them."""

import re
from pathlib import Path

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "beegfs"}
    | {"fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse"}
)
"""Where file locks, and with them SQLite, cannot be relied on."""


def file_system_of(path: Path, mounts: str | None = None) -> str | None:
    """The type of the file system that holds `path`, as Linux names it; None when unknown.

    Args:
        path: exists.
        mounts: the content of `/proc/self/mountinfo`.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    here = path.resolve()
    best: tuple[int, str | None] = (-1, None)
    for line in mounts.splitlines():
        mount, _, source = line.partition(" - ")
        where, kind = mount.split(" ")[4:5], source.split(" ")[0]
        if not where or not kind:
            continue
        place = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), where[0]))
        if here.is_relative_to(place) and len(place.parts) >= best[0]:  # the last mount lies on top
            best = (len(place.parts), kind)
    return best[1]

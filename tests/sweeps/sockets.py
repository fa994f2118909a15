"""Where a running process and its descendants listen, read from /proc."""

import socket
from pathlib import Path


def listening(root: int) -> set[str]:
    """The local addresses of every TCP socket on which ``root`` or a process below it listens."""
    inodes = {inode for process in family(root) for inode in sockets_of(process)}
    found = set()
    for table, kind in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(readable(fields[1].split(":")[0], kind))
    return found


def readable(digits: str, kind: socket.AddressFamily) -> str:
    """The kernel prints addresses as little-endian words."""
    words = [bytes.fromhex(digits[start : start + 8])[::-1] for start in range(0, len(digits), 8)]
    return socket.inet_ntop(kind, b"".join(words))


def family(root: int) -> set[int]:
    """``root`` and its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:  # it ended meanwhile
                continue
    members = {root}
    while True:
        grown = members | {process for process, parent in parents.items() if parent in members}
        if grown == members:
            return members
        members = grown


def sockets_of(process: int) -> set[str]:
    """Inodes of its sockets."""
    found = set()
    try:
        for entry in Path(f"/proc/{process}/fd").iterdir():
            target = str(entry.readlink())
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass
    return found

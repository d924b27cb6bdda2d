"""Processes of this host, as /proc shows them: who they are, and in which container and unit they run."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imdsctl.host.calls import shown

COMMAND_CHARACTERS_MAX = 160
PID_NUMBERS = 1 << 22  # the kernel's PID_MAX_LIMIT
PARENTS_MAX = 8
PROC = Path("/proc")
_HOST_PID_NAMESPACE, _HOST_CGROUP_NAMESPACE = "pid:[4026531836]", "cgroup:[4026531835]"
"""Their numbers are the same everywhere (Linux, include/linux/proc_ns.h)."""
_TOKEN = re.compile(r"(?i)(x-aws-(?:ec2-metadata|security)-token:\s*)[^\s'\"]+")
"""A token on a command line (`curl -H ...`) is a secret, and would give every call a row of its own."""
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process runs, read from its cgroups.

    `container` is `docker:0123456789ab` (runtime and the id's first twelve characters), `pod` a Kubernetes pod's uid,
    `unit` a systemd unit; None: it is in none.
    """

    container: str | None = None
    pod: str | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """A process. `started` counts seconds since boot.

    `command` is its arguments, printable and shortened; empty when it ended before they could be read, as `executable`
    then is. `parents` are (pid, name), the nearest first.
    """

    pid: int
    name: str
    executable: str = ""
    command: str = ""
    uid: int | None = None
    started: float | None = None
    parents: tuple[tuple[int, str], ...] = ()
    place: Place = Place()


def foreign_namespace(proc: Path = PROC) -> str | None:
    """`process` or `cgroup` where we are in a container's namespace of that kind; None: the host's.

    In the first, the kernel's process numbers are not those that /proc shows; in the second, the root of the cgroups
    is only the container's.
    """
    for kind, name, host in (("process", "pid", _HOST_PID_NAMESPACE), ("cgroup", "cgroup", _HOST_CGROUP_NAMESPACE)):
        try:
            if os.readlink(proc / "self/ns" / name) != host:
                return kind
        except OSError:
            return kind
    return None


def read_process(pid: int, proc: Path = PROC) -> Process | None:
    """A process as it is now; None: there is none, or it may not be looked at."""
    home = proc / str(pid)
    stat = _stat(home)
    if stat is None:
        return None
    name, parent, started = stat
    arguments = _read(home / "cmdline").rstrip(b"\0").split(b"\0")
    command = _TOKEN.sub(r"\1***", " ".join(each.decode(errors="replace") for each in arguments))
    executable, uid = "", None
    with contextlib.suppress(OSError):  # a thread of the kernel, or it is gone by now
        uid = home.stat().st_uid
        executable = os.readlink(home / "exe")
    return Process(
        pid,
        name,
        shown(executable, COMMAND_CHARACTERS_MAX),
        shown(command, COMMAND_CHARACTERS_MAX),
        uid,
        started,
        tuple(_parents(parent, proc)),
        place_of(_read(home / "cgroup").decode(errors="replace")),
    )


def parent_of(pid: int, proc: Path = PROC) -> int | None:
    """The parent's number; None: there is none, or the process is gone."""
    stat = _stat(proc / str(pid))
    return stat[1] or None if stat else None


def _parents(pid: int, proc: Path) -> Iterator[tuple[int, str]]:
    for _ in range(PARENTS_MAX):
        stat = _stat(proc / str(pid)) if pid else None
        if stat is None:
            return
        name, parent, _started = stat
        yield pid, name
        pid = parent


def _stat(home: Path) -> tuple[str, int, float] | None:
    """Name, parent's pid, and when it started."""
    head, _, tail = _read(home / "stat").rpartition(b")")
    fields = tail.split()
    if len(fields) < 20:
        return None
    name = head.partition(b"(")[2].decode(errors="replace")
    return shown(name, COMMAND_CHARACTERS_MAX), int(fields[1]), int(fields[19]) / _TICKS_PER_SECOND


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(16 * 1024) or b""
    except OSError:
        return b""


_ID = "[0-9a-f]{64}"
_CONTAINERS = (
    ("docker", re.compile(rf"/docker[/-]({_ID})")),
    ("podman", re.compile(rf"/libpod(?:-conmon)?[/-]({_ID})")),
    ("cri-o", re.compile(rf"/crio-({_ID})")),
    ("containerd", re.compile(rf"/(?:cri-containerd|nerdctl)-({_ID})")),
    ("containerd", re.compile(rf":cri-containerd:({_ID})")),
    ("ecs", re.compile(rf"/ecs/(?:[^/]+/)*({_ID}|[0-9a-f]{{32}}-\d+)")),
    ("kubernetes", re.compile(rf"/kubepods[^\n]*/({_ID})")),
    ("lxc", re.compile(r"/lxc(?:\.payload\.|/)([^/\s]+)")),
    ("container", re.compile(rf"/(?:[a-z]+-)?({_ID})(?:\.scope)?(?:/|$)", re.MULTILINE)),
)
"""Runtimes and how they name a container's cgroup, with cgroupfs and with systemd; the last one is anybody's."""
_POD = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})")
_UNIT = re.compile(r"/([^/\n]+\.(?:service|scope|socket|mount|swap))(?=/|$)", re.MULTILINE)
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_LONG_ID = re.compile(f"^{_ID}$")


def place_of(cgroups: str) -> Place:
    """From the lines of /proc/PID/cgroup, or from one path."""
    container = None
    for runtime, pattern in _CONTAINERS:
        found = pattern.search(cgroups)
        if found:
            name = found[1][:12] if _LONG_ID.match(found[1]) else shown(found[1], 64)
            container = f"{runtime}:{name}"
            break
    pod = _POD.search(cgroups)
    units = [each for each in _UNIT.findall(cgroups) if not re.search(_ID, each)]
    unit = _ESCAPED.sub(lambda each: chr(int(each[1], 16)), units[-1]) if units else None
    return Place(container, pod[1].replace("_", "-") if pod else None, shown(unit, 128) if unit else None)


def pids(proc: Path = PROC) -> list[int]:
    """The numbers of all processes that a /proc shows."""
    return [int(name) for name in os.listdir(proc) if name.isdigit()]


def holder(inode: int, proc: Path = PROC, first: Iterable[int] = ()) -> int | None:
    """The process that has a socket open: where a parent gave it to its children, the parent.

    `first` are looked at first, then all, the youngest first: they are the first to be gone.
    """
    link = f"socket:[{inode}]"
    newest = _newest_pid(proc)
    for pid in (*first, *sorted(pids(proc), key=lambda pid: (newest - pid) % PID_NUMBERS)):  # numbers come round
        if _has_open(pid, link, proc):
            while (parent := parent_of(pid, proc)) and _has_open(parent, link, proc):
                pid = parent
            return pid
    return None


def _newest_pid(proc: Path) -> int:
    """The number that was given last."""
    try:
        return int(_read(proc / "loadavg").split()[-1])
    except (ValueError, IndexError):
        return 0


def _has_open(pid: int, link: str, proc: Path) -> bool:
    """Whether a process has that open: what its descriptor leads to, such as `socket:[4711]`."""
    home = f"{proc}/{pid}/fd"
    try:
        names = os.listdir(home)
    except OSError:
        return False
    for name in names:
        try:
            if os.readlink(f"{home}/{name}") == link:
                return True
        except OSError:  # closed meanwhile
            continue
    return False

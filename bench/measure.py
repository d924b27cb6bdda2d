"""What a process costs: CPU, wall, memory. Standard library only, and small on purpose (see `run`)."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """One finished child. `cpu_seconds` is user + system, of the child and of what it waited for."""

    command: tuple[str, ...]
    exit_code: int
    cpu_seconds: float
    wall_seconds: float
    peak_rss_mib: float
    stdout: str
    stderr: str
    timed_out: bool

    @property
    def complaint(self) -> str:
        """Why the figures of a failed child are worth nothing: its last words."""
        if self.timed_out:
            return f"stopped after {self.wall_seconds:.0f} s, its bound"
        tail = self.stderr.strip().splitlines()[-3:]
        return f"exit code {self.exit_code}: {' / '.join(tail)}"


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the server and its clients run. With one core they share it, and the figures say so."""

    server: int
    clients: int

    @property
    def apart(self) -> bool:
        """True when a client never takes time from the server."""
        return self.server != self.clients


def pick_cores() -> Cores:
    """The first two cores this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(server=usable[0], clients=usable[-1] if len(usable) < 3 else usable[1])


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Children started inside are pinned to `core` for life."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(command: Sequence[str], *, env: Mapping[str, str], core: int, seconds_max: float, cwd: Path) -> Cost:
    """Run a whole command on one core and weigh it with wait4; it is killed after `seconds_max`.

    Linux starts a child's peak memory at its parent's, so the parent has to stay smaller than anything it weighs.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with on_core(core):
            began = time.perf_counter()
            child = subprocess.Popen(
                list(command), env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        timed_out = threading.Event()

        def give_up() -> None:
            timed_out.set()
            child.kill()

        bound = threading.Timer(seconds_max, give_up)
        bound.daemon = True
        bound.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
        finally:
            bound.cancel()
        wall = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        return Cost(
            tuple(command),
            child.returncode,
            usage.ru_utime + usage.ru_stime,
            wall,
            usage.ru_maxrss / 1024,
            out.read().decode(errors="replace"),
            err.read().decode(errors="replace"),
            timed_out.is_set(),
        )


def cpu_seconds_of(pid: int) -> float:
    """User + system time that a running process has used so far, all threads (10 ms steps)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_SECOND


def rss_mib_of(pid: int) -> float:
    """The peak resident memory of a running process so far."""
    return _memory_of(pid, "VmHWM:")


def rss_mib_now(pid: int) -> float:
    """The resident memory of a running process at this moment."""
    return _memory_of(pid, "VmRSS:")


def _memory_of(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0

"""A bed for programs: network namespaces in which 169.254.169.254 and fd00:ec2::254 are ours to serve.

    service - instance - [routers] - program

The service's addresses are on the loopback interface of a namespace one hop before the instance, as EC2's service is
outside of it; the instance forwards. With `hops` 0 the program is on the instance itself, with 1 it is where a
container with a network of its own is. So the kernel applies the hop limit: an answer that leaves with TTL 1 reaches
the instance and goes no further.

As root these are plain namespaces; other users get a user namespace around them, in which they are who they are, and
the program has no more rights than they have. The program has a process namespace: when it or `imdsctl` ends, by
whatever signal, everything it left behind ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket as sockets
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.host.keeper import receive, send

SERVICE, INSTANCE, PROGRAM = "service", "instance", "program"
HOPS_MAX = 63
"""A program farther away would need a hop limit above 64, which EC2 does not have."""
_STATUS = struct.Struct("=i")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: `code` as a shell says it (128 + the signal's number), and what it wrote."""

    code: int
    stdout: bytes
    stderr: bytes


class Program:
    """A program in a bed. `pid` is its number outside; it can be waited for with `fileno` and then `code`."""

    def __init__(self, bed: Bed, pid: int, status: int) -> None:
        self._bed = bed
        self.pid = pid
        self._status = status
        self._code: int | None = None

    def fileno(self) -> int:
        """Readable when the program has ended."""
        return self._status

    def code(self) -> int:
        """Wait for its end. As a shell says it: 128 + N when signal N ended it. 137 when its bed was destroyed."""
        if self._code is None:
            told = os.read(self._status, _STATUS.size)
            os.close(self._status)
            status = _STATUS.unpack(told)[0] if len(told) == _STATUS.size else signal.SIGKILL
            code = os.waitstatus_to_exitcode(status)
            self._code = code if code >= 0 else 128 - code
        return self._code

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        self._bed._ask({"do": "signal", "pid": self.pid, "number": int(number)})


class Bed(AbstractContextManager["Bed"]):
    """Made when constructed, gone when closed. Use it in the thread that made it, which must live as long as it does.

    `hops` are the routers between the instance and the program (0..63). Raises DiagnosticError `namespaces-refused`
    where the system does not allow this user to make namespaces. With `namespaces` false all places are this host; what
    the program leaves behind is still ended with the bed.
    """

    def __init__(self, *, hops: int = 0, namespaces: bool = True) -> None:
        self._last = hops + 1
        ours, theirs = sockets.socketpair()
        self._control = ours
        with theirs:
            theirs.set_inheritable(True)
            # No -I: this must find the imdsctl that we are. -P: whatever lies in the user's directory is not ours.
            command = [sys.executable, "-P", "-m", "imdsctl.host.keeper", str(theirs.fileno())]
            # Descriptors that the user opened for the program (`3<file`) go on to it, Python's own do not.
            self._keeper = subprocess.Popen([*command, str(hops) if namespaces else "none"], close_fds=False)
        try:
            said, fds = self._answer()
        except OSError as error:
            self.close()
            raise DiagnosticError(refused(error)) from None
        except BaseException:
            self.close()
            raise
        self._proc = fds[0]
        self.proc = Path(f"/proc/self/fd/{self._proc}") if said["own_proc"] else Path("/proc")
        """The /proc that shows the bed's processes."""

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything that runs in the bed, and the bed."""
        self._control.close()
        self._keeper.wait()
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._proc)
            del self._proc

    def socket(self, place: str, family: int, kind: int = sockets.SOCK_STREAM, protocol: int = 0) -> sockets.socket:
        """A socket in the network of `service`, `instance` or `program`, for use from here."""
        _, fds = self._ask(
            {"do": "socket", "place": self._number(place), "family": family, "kind": kind, "protocol": protocol}
        )
        return sockets.socket(family, kind, protocol, fileno=fds[0])

    def listen(self, place: str, address: str, port: int, backlog: int = 1024) -> sockets.socket:
        """A listening TCP socket there. Raises OSError when the port is in use."""
        family = sockets.AF_INET6 if ":" in address else sockets.AF_INET
        listener = self.socket(place, family)
        try:
            if family == sockets.AF_INET6:
                listener.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_V6ONLY, 1)
            listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(backlog)
        except OSError:
            listener.close()
            raise
        return listener

    def start(
        self,
        argv: Sequence[str],
        *,
        place: str = PROGRAM,
        env: Mapping[str, str] | None = None,
        stdio: Sequence[int] = (),
    ) -> Program:
        """Start a program, with this process's standard streams or those of `stdio`. Raises OSError when it cannot."""
        message = {
            "do": "start",
            "place": self._number(place),
            "argv": list(argv),
            "env": dict(os.environ if env is None else env),
        }
        answer, fds = self._ask(message, stdio)
        return Program(self, answer["pid"], fds[0])

    def run(
        self,
        argv: Sequence[str],
        *,
        place: str = PROGRAM,
        env: Mapping[str, str] | None = None,
        seconds_max: float = 60.0,
    ) -> Ended:
        """Run a program to its end and keep what it writes. Raises TimeoutError, after killing it."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull, "rb") as nothing:
            program = self.start(argv, place=place, env=env, stdio=[nothing.fileno(), out.fileno(), err.fileno()])
            late = not select.select([program], [], [], seconds_max)[0]
            if late:
                program.signal(signal.SIGKILL)
            code = program.code()
            if late:
                raise TimeoutError(f"{argv[0]} did not end within {seconds_max} s")
            out.seek(0)
            err.seek(0)
            return Ended(code, out.read(), err.read())

    def _number(self, place: str) -> int:
        return {SERVICE: 0, INSTANCE: 1, PROGRAM: self._last}[place]

    def _ask(self, message: dict[str, Any], fds: Sequence[int] = ()) -> tuple[dict[str, Any], list[int]]:
        send(self._control, message, fds)
        return self._answer()

    def _answer(self) -> tuple[dict[str, Any], list[int]]:
        received = receive(self._control)
        if received is None:
            raise ConnectionError(errno.ECONNRESET, "the process that keeps the namespaces has ended", "")
        answer, fds = received
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]), answer["call"])
        return answer, fds


def refused(error: OSError) -> Diagnostic:
    """Why there is no bed, and what to do about it."""
    hint = "run it as root, or with `--no-namespaces`: then the hop limit is not enforced"
    if error.errno in (errno.EPERM, errno.EACCES):
        hint = (
            "run it as root, or allow user namespaces: `sysctl kernel.apparmor_restrict_unprivileged_userns=0` "
            "(Ubuntu), `sysctl kernel.unprivileged_userns_clone=1` (older Debian), in a container `--cap-add SYS_ADMIN "
            "--cap-add NET_ADMIN --security-opt seccomp=unconfined`; or use `--no-namespaces`, without the hop limit"
        )
    elif error.errno in (errno.ENOSPC, errno.EUSERS):
        hint = (
            "more are allowed with `sysctl user.max_user_namespaces=10000` and its siblings; or run it as root, or use "
            "`--no-namespaces`, without the hop limit"
        )
    what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return Diagnostic("namespaces-refused", f"the system does not allow network namespaces: {what}", hint=hint)

"""The process that keeps a bed: `python -m imdsctl.host.keeper CONTROL HOPS|none`, started by `bed.Bed` only.

It makes the namespaces, starts programs in them and ends with everything that it started when the other end of its
control socket closes, for whatever reason. Nothing in a bed has a name in a file system, so that is all there is to
clean up: the first process of its process namespace dies with this one, and the kernel ends all others with it.

It has a process group of its own, so that what is sent to the user's group (Ctrl-C, `kill -9 -GROUP`) hits the program
and not its keeper; programs are put back into the user's group, and keep the terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from imdsctl.domain.metadata_endpoint import SERVICE_IPV4, SERVICE_IPV6
from imdsctl.host import syscalls
from imdsctl.host.netlink import Network

SERVICE_ADDRESSES = (IPv4Address(SERVICE_IPV4), IPv6Address(SERVICE_IPV6))
LOOPBACK_INDEX = 1
TOWARDS_SERVICE, AWAY = "eth0", "eth1"
FDS_MAX = 8
FDS_CLOSED = 1 << 12
POLL_SECONDS = 0.005
_LENGTH = struct.Struct("=I")
_STATUS = struct.Struct("=i")


def send(control: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Send a message, with descriptors."""
    data = json.dumps(message).encode()
    socket.send_fds(control, [_LENGTH.pack(len(data))], list(fds))
    control.sendall(data)


def receive(control: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """A message with its descriptors; None: the other end is gone."""
    try:
        head, fds, _, _ = socket.recv_fds(control, _LENGTH.size, FDS_MAX)
        for fd in fds:
            os.set_inheritable(fd, False)
        if len(head) < _LENGTH.size:
            return None
        left = _LENGTH.unpack(head)[0]
        parts = []
        while left:
            parts.append(control.recv(min(left, 1 << 16)))
            if not parts[-1]:
                return None
            left -= len(parts[-1])
    except ConnectionError:
        return None
    message: dict[str, Any] = json.loads(b"".join(parts))
    return message, fds


class Keeper:
    """What is kept: namespaces by number (0 is the service's), and the programs that run."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._group = os.getpgrp()
        os.setpgid(0, 0)
        self._first: int | None = None  # the first process of our process namespace
        self._alive: int | None = None  # a pipe that it sees close when we end
        self._networks: list[int] = []
        self._running: dict[int, int] = {}  # process to the pipe that is told how it ended
        self._awake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if sys.platform == "linux" else os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    # -- making --------------------------------------------------------------------------------------------------

    def make(self, hops: int) -> tuple[bool, int]:
        """Make the namespaces. Gives whether /proc is the bed's own, and a descriptor of it. Raises OSError."""
        _leave()
        # Descriptors are opened before /proc is mounted anew: this process is not to be seen in the new one.
        for _ in range(hops + 2):
            syscalls.unshare(syscalls.NEW_NETWORK)
            self._networks.append(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        syscalls.end_with_parent()
        syscalls.keep_mounts_to_ourselves()
        own_proc = self._start_first()
        _connect(self._networks)
        return own_proc, os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def make_none(self) -> tuple[bool, int]:
        """No namespaces: be the parent of all that the program leaves behind, where the system has that."""
        if sys.platform == "linux":
            syscalls.adopt_orphans()
        return False, os.open("/", os.O_RDONLY)

    def _start_first(self) -> bool:
        """Start process 1, which mounts /proc and reaps orphans; True when it could mount it."""
        told, tell = os.pipe()
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            _be_first(tell, ours, theirs)
        os.close(tell)
        os.close(ours)
        self._first, self._alive = pid, theirs
        said = os.read(told, 1)
        os.close(told)
        return said == b"1"

    # -- keeping -------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Do what is asked until the other end is gone."""
        while True:
            ready, _, _ = select.select([self._control.fileno(), self._awake], [], [])
            if self._awake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._awake, 4096)
                self._reap()
            if self._control.fileno() in ready:
                asked = receive(self._control)
                if asked is None:
                    return
                self._do(*asked)

    def _do(self, message: dict[str, Any], fds: list[int]) -> None:
        answer: dict[str, Any] = {}
        give: list[int] = []
        try:
            if message["do"] == "socket":
                self._enter(message["place"])
                # Its namespace is the one that it was made in, whoever uses it.
                made = socket.socket(message["family"], message["kind"] | socket.SOCK_CLOEXEC, message["protocol"])
                give = [made.detach()]
            elif message["do"] == "start":
                answer["pid"], status = self._start(message["argv"], message["env"], message["place"], fds)
                give = [status]
            elif message["do"] == "signal" and message["pid"] in self._running:
                os.kill(message["pid"], message["number"])
        except OSError as error:
            answer = {"errno": error.errno, "call": error.filename}
        send(self._control, answer, give)
        for fd in (*give, *fds):
            os.close(fd)

    def _enter(self, place: int) -> None:
        if self._networks:
            syscalls.enter_network(self._networks[place])

    def _start(self, argv: list[str], env: dict[str, str], place: int, stdio: list[int]) -> tuple[int, int]:
        """A program's process, and the pipe from which its end can be read. Raises OSError when it cannot begin."""
        self._enter(place)
        ended, tell_ended = os.pipe()
        began, tell_began = os.pipe()
        go, tell_go = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(tell_go)
            _become(argv, env, stdio, go, tell_began)
        os.close(tell_began)
        os.close(go)
        # Only from out here: the group has no number in the program's process namespace.
        with contextlib.suppress(OSError):
            os.setpgid(pid, self._group)
        os.close(tell_go)
        problem = os.read(began, _STATUS.size)
        os.close(began)
        if problem:
            os.waitpid(pid, 0)
            os.close(ended)
            os.close(tell_ended)
            number = _STATUS.unpack(problem)[0]
            raise OSError(number, os.strerror(number), argv[0])
        self._running[pid] = tell_ended
        return pid, ended

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._first:  # somebody ended it, and with it everything
                self._first = None
            tell = self._running.pop(pid, None)
            if tell is not None:
                with contextlib.suppress(BrokenPipeError):
                    os.write(tell, _STATUS.pack(status))
                os.close(tell)

    # -- ending --------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """End everything that was started here, and return when it is gone."""
        if self._first is not None:
            os.kill(self._first, signal.SIGKILL)
        while True:
            if not self._networks:
                _kill_descendants(self._running)
            try:
                if os.waitpid(-1, os.WNOHANG if not self._networks else 0)[0] == 0:
                    select.select([], [], [], POLL_SECONDS)
            except ChildProcessError:
                return


def _leave() -> None:
    """New process and mount namespaces; as somebody who may not: in a user namespace, as the same user."""
    wanted = syscalls.NEW_MOUNTS | syscalls.NEW_PIDS
    uid, gid = os.geteuid(), os.getegid()
    try:
        # Network namespaces need the same right; to be asked here, before anything is left.
        syscalls.unshare(wanted | syscalls.NEW_NETWORK)
    except PermissionError:
        syscalls.unshare(wanted | syscalls.NEW_USERS)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _be_first(tell: int, alive: int, theirs: int) -> None:
    """Process 1: ends when the keeper does; has no handlers, so nobody inside can end it."""
    try:
        os.close(theirs)
        syscalls.end_with_parent()
        if select.select([alive], [], [], 0)[0]:  # the keeper ended before that
            os._exit(0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
        try:
            syscalls.mount_proc()
            said = b"1"
        except OSError:
            said = b"0"
        os.write(tell, said)
        os.closerange(0, FDS_CLOSED)  # a pipe that the user reads from must not stay open for us
        while True:
            signal.pause()
    finally:
        os._exit(1)


def _become(argv: list[str], env: dict[str, str], stdio: list[int], go: int, tell: int) -> None:
    """In the new process: become the program, or tell why not."""
    try:
        os.read(go, 1)
        signal.set_wakeup_fd(-1)
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, programs expect the default
            signal.signal(ignored, signal.SIG_DFL)
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        os.write(tell, _STATUS.pack(error.errno or 1))
    finally:
        os._exit(127)


def _connect(networks: Sequence[int]) -> None:
    """A line: service, instance, further routers, program. Every link has addresses of its own at both ends."""
    for namespace in networks:
        syscalls.enter_network(namespace)
        if _has_ipv6():
            # A router asks for its neighbours by a link-local address, which would have to pass the check for
            # duplicates first: two seconds.
            Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
    for number, namespace in enumerate(networks):
        syscalls.enter_network(namespace)
        here = Network()
        try:
            _configure(here, number, networks)
        finally:
            here.close()


def _configure(here: Network, number: int, networks: Sequence[int]) -> None:
    here.up(LOOPBACK_INDEX)
    families = SERVICE_ADDRESSES if _has_ipv6() else SERVICE_ADDRESSES[:1]
    is_service, is_last = number == 0, number == len(networks) - 1
    if not is_last:
        here.add_veth(AWAY, TOWARDS_SERVICE, networks[number + 1])
    for interface, link, end in ((TOWARDS_SERVICE, number - 1, 2), (AWAY, number, 1)):
        if (interface == TOWARDS_SERVICE and is_service) or (interface == AWAY and is_last):
            continue
        index = socket.if_nametoindex(interface)
        here.up(index)
        for family in families:
            here.add_address(index, _link_address(family.version, link, end), 30 if family.version == 4 else 64)
    for address in families:
        if is_service:
            here.add_address(LOOPBACK_INDEX, address, address.max_prefixlen)
        else:
            here.add_route(address, _link_address(address.version, number - 1, 1))
        if not is_last:
            here.add_route(None, _link_address(address.version, number, 2))
    if not is_service and not is_last:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        if len(families) > 1:
            Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")


def _has_ipv6() -> bool:
    return os.path.isdir("/proc/sys/net/ipv6")


def _link_address(version: int, link: int, end: int) -> IPv4Address | IPv6Address:
    """One end of a link: 198.18.0.0/15 is for test networks (RFC 2544), fd00::/8 for local ones (RFC 4193)."""
    if version == 4:
        return IPv4Address("198.18.0.0") + 4 * link + end
    return IPv6Address("fd73:6d64:7363::") + (link << 64) + end


def _kill_descendants(running: dict[int, int]) -> None:
    """Where there is no process namespace: kill children, and theirs. Orphans are children of ours."""
    parents: dict[int, list[int]] = {os.getpid(): list(running)}
    if os.path.isdir("/proc/self"):
        from imdsctl.host.processes import parent_of, pids

        parents = {}
        for pid in pids():
            parents.setdefault(parent_of(pid) or 0, []).append(pid)
    todo = [os.getpid()]
    while todo:
        for pid in parents.get(todo.pop(), ()):
            todo.append(pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def main(control: str, hops: str) -> None:
    """Make what is asked, say how that went, and keep it."""
    with socket.socket(fileno=int(control)) as line:
        line.set_inheritable(False)
        keeper = Keeper(line)
        try:
            own_proc, proc = keeper.make_none() if hops == "none" else keeper.make(int(hops))
        except OSError as error:
            send(line, {"errno": error.errno, "call": error.filename or ""})
        else:
            send(line, {"own_proc": own_proc}, [proc])
            os.close(proc)
            keeper.serve()
        finally:
            keeper.end()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The bed of `imdsctl run`, on this kernel: who reaches the service, how far its answers go, and what is left of it.

As root the namespaces are plain ones, as anybody else they are in a user namespace. Skipped where the system refuses
both, but never in CI.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.contract.daemon import LEAVES_A_DAEMON
from tests.contract.needs import with_namespaces

from imdsctl.host.bed import INSTANCE, PROGRAM, SERVICE, Bed, refused

IPV4, IPV6 = "169.254.169.254", "fd00:ec2::254"
SECONDS_MAX = 20.0


@pytest.fixture
def bed_of() -> Iterator[Callable[[int], Bed]]:
    """Makes beds, which are gone after the test."""
    made: list[Bed] = []

    def make(hops: int = 0) -> Bed:
        made.append(with_namespaces(lambda: Bed(hops=hops)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def reaches(bed: Bed, address: str, *, place: str, ttl: int) -> bool:
    """Whether what the service writes with this TTL arrives at the place."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    level, option = (
        (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if ":" in address else (socket.IPPROTO_IP, socket.IP_TTL)
    )
    with bed.listen(SERVICE, address, 80) as listener, bed.socket(place, family) as client:
        client.connect((address, 80))
        with listener.accept()[0] as connection:
            connection.setsockopt(level, option, ttl)
            connection.sendall(b"token")
            # A veth pair delivers within the call: what is not there now was dropped, retransmissions aside.
            return bool(select.select([client], [], [], 0.3)[0])


@pytest.mark.parametrize("address", [IPV4, IPV6])
@pytest.mark.parametrize("hops", [0, 1, 2])
def test_an_answer_goes_as_far_as_its_hop_limit_and_no_further(
    bed_of: Callable[[int], Bed], address: str, hops: int
) -> None:
    bed = bed_of(hops)
    assert reaches(bed, address, place=PROGRAM, ttl=hops + 1)
    if hops:
        assert not reaches(bed, address, place=PROGRAM, ttl=hops)
        assert reaches(bed, address, place=INSTANCE, ttl=1)


def test_a_program_keeps_its_identity_directory_and_files_and_gets_a_network_of_its_own(
    bed_of: Callable[[int], Bed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input").write_text("mine")
    ended = bed_of(0).run(["sh", "-c", "cat input; id -u; pwd; ls /proc/sys/net/ipv4/conf; echo gone >&2; exit 7"])
    said = ended.stdout.decode().split()
    assert said[:3] == [f"mine{os.getuid()}", str(tmp_path), "all"]
    assert set(said[2:]) == {"all", "default", "eth0", "lo"}
    assert (ended.stderr, ended.code) == (b"gone\n", 7)


def test_a_program_that_a_signal_ends_has_the_code_that_a_shell_gives_it(bed_of: Callable[[int], Bed]) -> None:
    assert bed_of(0).run(["sh", "-c", "kill -TERM $$"]).code == 128 + signal.SIGTERM


@pytest.mark.parametrize(("command", "expected"), [("/nowhere/at-all", FileNotFoundError), ("/", PermissionError)])
def test_what_cannot_be_started_says_why(bed_of: Callable[[int], Bed], command: str, expected: type[OSError]) -> None:
    bed = bed_of(0)
    with pytest.raises(expected):
        bed.start([command])
    assert bed.run(["true"]).code == 0, "the bed is still good"


def test_programs_inherit_what_the_user_opened_for_them_and_no_descriptor_of_ours(
    bed_of: Callable[[int], Bed], tmp_path: Path
) -> None:
    given = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(given, True)
    try:
        users = {str(fd).encode() for fd in range(3, 1024) if _is_inheritable(fd)}
        bed = bed_of(0)
        bed.run(["true"])
        seen = set(bed.run([sys.executable, "-c", "import os; print(*os.listdir('/proc/self/fd'))"]).stdout.split())
        assert str(given).encode() in users
        assert len(seen - users) == 4, "its three streams, and the directory that it reads"
    finally:
        os.close(given)


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def namespaces() -> dict[str, set[int]]:
    """Every network namespace that a process of this host is in or holds, with those processes."""
    found: dict[str, set[int]] = {}
    for home in Path("/proc").iterdir():
        if home.name.isdigit():
            for each in (home / "ns/net", *_open_files(home)):
                with suppress(OSError):  # a file that was closed meanwhile, a process that has ended
                    link = os.readlink(each)
                    if link.startswith("net:"):
                        found.setdefault(link, set()).add(int(home.name))
    return found


def _open_files(home: Path) -> list[Path]:
    try:
        return list((home / "fd").iterdir())
    except OSError:
        return []


def test_closing_ends_daemons_and_namespaces(bed_of: Callable[[int], Bed]) -> None:
    bed = bed_of(1)
    inside = {os.readlink(f"/proc/{bed._keeper.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{bed._keeper.pid}/fd")}
    made = {link for link in inside if link.startswith("net:")}
    assert len(made) == 3
    assert bed.run([sys.executable, "-c", LEAVES_A_DAEMON]).stdout == b"ready\n"
    assert made & set(namespaces())
    bed.close()
    assert not made & set(namespaces())


def test_a_bed_dies_with_the_process_that_made_it_daemons_included() -> None:
    with_namespaces(lambda: Bed().close())
    script = (
        "import os, sys, subprocess, time\n"
        "from imdsctl.host.bed import Bed\n"
        "bed = Bed(hops=1)\n"
        f"assert bed.run([sys.executable, '-c', {LEAVES_A_DAEMON!r}]).code == 0\n"
        "print(bed._keeper.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        keeper = int(owner.stdout.readline())
        own = os.readlink("/proc/self/ns/net")
        made = {link for link, pids in namespaces().items() if keeper in pids and link != own}
        owner.kill()
    assert made
    _until(lambda: not made & set(namespaces()) and not Path(f"/proc/{keeper}").exists())


def _until(true: Callable[[], bool]) -> None:
    """The kernel takes its time to end a process; nobody tells us when it has."""
    deadline = time.monotonic() + SECONDS_MAX
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(1, "Operation not permitted", "unshare"), "apparmor_restrict_unprivileged_userns"),
        (OSError(28, "No space left on device", "unshare"), "max_user_namespaces"),
        (OSError(95, "Operation not supported", "rtnetlink"), "--no-namespaces"),
    ],
)
def test_a_refusal_says_what_to_do(error: OSError, words: str) -> None:
    told = refused(error)
    assert told.code == "namespaces-refused"
    assert words in (told.hint or "")

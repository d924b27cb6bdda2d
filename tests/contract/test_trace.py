"""`imdsctl trace` on a host that is real but for its wires: namespaces, a service, a container's network, processes.

Needs root, as the command does. See `imds_bed.py` for the bed.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.contract.needs import missing

from imdsctl.host import bpf
from imdsctl.host.connect_hooks import cgroup2_root

BED = Path(__file__).with_name("imds_bed.py")
SECONDS_MAX = 60.0
CONTAINER_ID = "3f4a" * 16
NET_RAW, SYS_ADMIN, PERFMON, BPF = 13, 21, 38, 39
V1 = "GET /latest/meta-data/ HTTP/1.1\r\nHost: x\r\n\r\n"
V2 = "GET / HTTP/1.1\r\nHost: x\r\nX-aws-ec2-metadata-token: TOKEN\r\n\r\n"
TOKEN = "PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n"
FOUR, SIX, MAPPED = "169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254"

CLIENTS = {"plain", "six", "mapped", "modern", "denied", "boxed", "boxed-six", "falls-back", "falls-back-six", "noise"}
CLIENTS |= {"vanishing"}

CLIENT = """
import os, socket, sys
name, address, then, *requests = sys.argv[1:]
with open("/proc/self/comm", "w") as file:
    file.write(name)
token = "AQAEAwrong"
for request in requests:
    connection = socket.create_connection((address, 80), timeout=20)
    connection.settimeout(0.2 if request.startswith("PUT") and then == "impatient" else 20)
    connection.sendall(request.replace("TOKEN", token).encode("latin-1"))
    if then == "vanish":
        os._exit(0)
    answer = b""
    try:
        while more := connection.recv(4096):
            answer += more
    except TimeoutError:
        pass
    if request.startswith("PUT"):
        token = answer.partition(b"\\r\\n\\r\\n")[2].decode()
print("there", flush=True)
sys.stdin.read()
"""


@dataclass
class Trace:
    """A running `imdsctl trace`; after the `with`, what it said."""

    process: subprocess.Popen[str]
    talk: list[str] = field(default_factory=list)
    output: str = ""
    exit_code: int | None = None
    log: str = ""

    @property
    def result(self) -> dict[str, Any]:
        last: dict[str, Any] = json.loads(self.output.splitlines()[-1])
        return last

    def program(self, name: str) -> dict[str, Any]:
        """The row of the client with this name."""
        [found] = [each for each in self.result["programs"] if each["name"] == name]
        row: dict[str, Any] = found
        return row

    def calls(self, name: str) -> list[str]:
        """`v1 answered 2` and so on, for a client."""
        kinds = self.program(name)["calls"].items()
        return [f"{kind} {outcome} {number}" for kind, of in kinds for outcome, number in of.items() if number]


@dataclass(frozen=True)
class Bed:
    """The host, and what can be run in its parts (`host`, `container`)."""

    places: dict[str, str]
    env: dict[str, str]
    translated: bool
    log: Path

    def command(self, place: str, *command: str) -> list[str]:
        return [sys.executable, str(BED), "enter", self.places[place], *command]

    def client_command(self, name: str, address: str, *requests: str, then: str = "stay") -> Sequence[str]:
        return [sys.executable, "-ISc", CLIENT, name, address, then, *requests]

    def vanishing(self, name: str, place: str, address: str, *requests: str) -> None:
        """Run a client that is gone as soon as it has asked."""
        command = self.command(place, *self.client_command(name, address, *requests, then="vanish"))
        subprocess.run(command, check=True, timeout=SECONDS_MAX)

    @contextmanager
    def client(self, name: str, place: str, address: str, *requests: str, then: str = "stay") -> Iterator[int]:
        """Run a client that has its answers, and stays until the end of the `with`; gives its number."""
        process = subprocess.Popen(
            self.command(place, *self.client_command(name, address, *requests, then=then)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert process.stderr is not None
            assert line == "there\n", process.stderr.read()
            yield process.pid
        finally:
            process.communicate(timeout=SECONDS_MAX)

    @contextmanager
    def trace(self, *options: str, without: str = "", ended_by: int = signal.SIGINT) -> Iterator[Trace]:
        """Trace the host until the end of the `with`."""
        cut = [sys.executable, str(BED), "without", without] if without else []
        process = subprocess.Popen(
            self.command("host", *cut, sys.executable, "-m", "imdsctl", "trace", *options),
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        trace = Trace(process)
        try:
            assert process.stderr is not None
            for line in process.stderr:
                trace.talk.append(line)
                if line.startswith("observing"):
                    break
            yield trace
            process.send_signal(ended_by)
            trace.output, rest = process.communicate(timeout=SECONDS_MAX)
            trace.talk.append(rest)
            trace.exit_code = process.returncode
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def bed(new_shell: Callable[[], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    if sys.platform != "linux" or os.geteuid() != 0:
        missing("capturing packets and making network namespaces needs root on Linux")
    env, log = dict(new_shell().env), tmp_path_factory.mktemp("bed") / "requests.jsonl"
    process = subprocess.Popen(
        [sys.executable, str(BED), "serve", str(log), "1"],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        if not line:
            missing(f"network namespaces cannot be made here: {process.stderr.read().strip().splitlines()[-1]}")
        made = json.loads(line)
        places = {name: f"/proc/{made['pid']}/fd/{fd}" for name, fd in made["spaces"].items()}
        yield Bed(places, env, made["translated"], log)
    finally:
        process.stdin.close()
        process.wait(SECONDS_MAX)
        process.stdout.close()
        process.stderr.close()


@pytest.fixture(scope="module")
def observed(bed: Bed) -> Trace:
    """What a trace says about clients of every kind."""
    already = bed.log.stat().st_size
    with ExitStack() as clients, bed.trace("--json") as trace:
        for name, place, address, requests in (
            ("plain", "host", FOUR, [V1]),
            ("six", "host", SIX, [V1]),
            ("mapped", "host", MAPPED, [V1]),
            ("modern", "host", FOUR, [TOKEN, V2, V2]),
            ("denied", "host", SIX, [V2]),
            ("boxed", "container", FOUR, [V1]),
            ("boxed-six", "container", SIX, [V1, V1]),
            ("noise", "host", FOUR, ["\x16\x03\x01\x80" + "".join(map(chr, range(128, 256))) + "\r\n\r\n"]),
        ):
            clients.enter_context(bed.client(name, place, address, *requests))
        for name, address in (("falls-back", FOUR), ("falls-back-six", SIX)):
            clients.enter_context(bed.client(name, "container", address, TOKEN, V1, then="impatient"))
        for _ in range(20):
            bed.vanishing("vanishing", "host", FOUR, V1)
    assert trace.exit_code == 0, trace.talk
    # The service writes a line when it has answered, which may be after a client that does not wait is gone.
    until, calls = (
        time.monotonic() + SECONDS_MAX,
        sum(sum(of.values()) for of in trace.result["total"]["calls"].values()),
    )
    while trace.log.count("\n") < calls and time.monotonic() < until:
        trace.log = bed.log.read_text()[already:]
    return trace


@pytest.fixture
def hooked(observed: Trace) -> Trace:
    """The same, where the kernel lets us attach hooks: otherwise short-lived processes are missed, as documented."""
    if observed.result["attribution"] != "connect-hooks":
        pytest.skip(f"this kernel has no connect hooks for us: {observed.talk[0].strip()}")
    return observed


@pytest.mark.parametrize(
    ("client", "calls"),
    [
        ("plain", ["v1 answered 1"]),
        ("six", ["v1 answered 1"]),
        ("mapped", ["v1 answered 1"]),
        ("modern", ["v2 answered 2", "token answered 1"]),
        ("denied", ["v2 refused 1"]),
        ("boxed", ["v1 answered 1"]),
        ("boxed-six", ["v1 answered 2"]),
        ("falls-back", ["v1 answered 1", "token hop-limit 1"]),
        ("falls-back-six", ["v1 answered 1", "token hop-limit 1"]),
        ("noise", ["other refused 1"]),
    ],
)
def test_every_call_is_told_with_the_process_that_made_it(hooked: Trace, client: str, calls: list[str]) -> None:
    assert hooked.calls(client) == calls


def test_a_client_behind_the_hop_limit_is_seen_to_fall_back(hooked: Trace) -> None:
    assert hooked.program("falls-back")["falls_back_to_v1"] is True
    assert hooked.program("modern")["falls_back_to_v1"] is False


def test_a_process_is_told_with_its_command_line_and_its_parents(hooked: Trace) -> None:
    plain = hooked.program("plain")
    assert plain["executable"] == os.path.realpath(sys.executable)[:160]
    assert plain["command"].startswith(f"{sys.executable} -ISc"[:150])
    assert plain["uid"] == 0
    assert plain["parents"][0]["pid"] == os.getpid()
    assert (plain["first_path"], plain["connections"], plain["processes"]) == ("/latest/meta-data/", 1, 1)


def test_processes_that_end_at_once_are_not_missed(hooked: Trace) -> None:
    known = [each for each in hooked.result["programs"] if each["name"] == "vanishing"]
    assert sum(each["processes"] for each in known) == 20
    assert sum(each["connections"] for each in known) == 20
    assert hooked.result["not_attributed"] == []


def test_behind_address_translation_a_connection_counts_once_and_for_its_own_process(bed: Bed, hooked: Trace) -> None:
    if not bed.translated:
        pytest.skip("this kernel has no nftables with NAT, so the bed only routes")
    assert hooked.program("boxed")["connections"] == 1
    assert hooked.program("falls-back")["connections"] == 2
    assert {each["name"] for each in hooked.result["programs"] if each["connections"]} == CLIENTS


def test_trace_and_the_service_itself_count_the_same(bed: Bed, observed: Trace) -> None:
    served = Counter(json.loads(line)["access"] for line in observed.log.splitlines())
    total = {kind: Counter(of) for kind, of in observed.result["total"]["calls"].items()}
    assert observed.result["packets_lost"] == 0
    assert sum(total["v1"].values()) == served["v1"] == 1 + 1 + 1 + 1 + 2 + 2 + 20
    assert (total["v2"]["answered"], total["v2"]["refused"]) == (served["v2"], served["v2-refused"]) == (2, 1)
    # Two of the three tokens that the service gave did not arrive.
    assert sum(total["token"].values()) == served["token"] == 3
    assert total["token"]["hop-limit"] == 2
    assert sum(total["other"].values()) == served["refused"] == 1


def test_without_hooks_sockets_tell_who_calls_and_what_they_cannot_tell_is_counted(bed: Bed) -> None:
    with ExitStack() as clients, bed.trace("--json", "--no-hooks", "--fail-on", "v1") as trace:
        pid = clients.enter_context(bed.client("stays", "host", FOUR, V1))
        clients.enter_context(bed.client("stays-boxed", "container", SIX, V1))
        bed.vanishing("vanishing", "host", FOUR, V1)
    assert trace.exit_code == 3
    assert trace.result["attribution"] == "sockets"
    assert trace.calls("stays") == trace.calls("stays-boxed") == ["v1 answered 1"]
    assert trace.program("stays")["last_pid"] == pid
    known = sum(each["connections"] for each in trace.result["programs"])
    unknown = sum(each["connections"] for each in trace.result["not_attributed"])
    assert known + unknown == 3
    assert all(each["meaning"] for each in trace.result["not_attributed"])


def test_metrics_are_served_on_loopback_and_sigterm_ends_with_the_summary(bed: Bed) -> None:
    with bed.trace("--prometheus", "0", ended_by=signal.SIGTERM) as trace:
        url = next(line for line in trace.talk if line.startswith("metrics: ")).split()[1]
        bed.vanishing("plain", "host", FOUR, V1)
        fetch = f"import urllib.request as u; print(u.urlopen({url!r}, timeout=20).read().decode())"
        values: dict[str, float] = {}
        until = time.monotonic() + SECONDS_MAX
        while values.get("imdsctl_trace_calls_total v1 answered") != 1 and time.monotonic() < until:
            page = subprocess.check_output(bed.command("host", sys.executable, "-ISc", fetch), text=True)
            values = {
                " ".join(filter(None, (sample.name, sample.labels.get("kind"), sample.labels.get("outcome")))): (
                    sample.value
                )
                for family in text_string_to_metric_families(page)
                for sample in family.samples
            }
        assert values["imdsctl_trace_calls_total v1 answered"] == 1
    assert url.startswith("http://127.0.0.1:")
    assert trace.exit_code == 0
    assert "1 IMDSv1 call" in trace.output
    assert "plain" in trace.output


def test_a_trace_ends_by_itself_when_its_time_is_over(bed: Bed) -> None:
    with bed.trace("--duration", "0.1", "--fail-on", "any-v1-attempt") as trace:
        trace.process.wait(SECONDS_MAX)
    assert trace.exit_code == 0
    assert "nothing on this host asked" in trace.output


def test_ctrl_c_before_the_time_is_over_says_so_by_its_exit_code(bed: Bed) -> None:
    with bed.trace("--duration", "1h", "--json") as trace:
        pass
    assert trace.exit_code == 130
    assert trace.result["final"] is True


def test_without_the_right_to_capture_it_says_what_to_do(bed: Bed) -> None:
    with bed.trace("--duration", "1h", without=str(NET_RAW)) as trace:
        trace.process.wait(SECONDS_MAX)
    assert trace.exit_code == 1
    assert trace.output == ""
    assert "error[capture-not-permitted]" in "".join(trace.talk)
    assert "sudo imdsctl trace" in "".join(trace.talk)


def test_without_the_right_to_hooks_it_goes_on_and_says_what_it_may_miss(bed: Bed) -> None:
    with bed.trace("--json", without=f"{SYS_ADMIN},{PERFMON},{BPF}") as trace:
        pass
    assert trace.exit_code == 0
    assert "warning[hooks-unavailable]" in "".join(trace.talk)
    assert trace.result["attribution"] == "sockets"


@pytest.fixture
def container_cgroup() -> Iterator[Path]:
    """A cgroup that is named as Docker names those of its containers."""
    root = cgroup2_root(Path("/proc/self/mounts").read_text())
    if root is None:
        pytest.skip("there is no cgroup2 hierarchy here")
    cgroup = root / f"docker-{CONTAINER_ID}.scope"
    try:
        cgroup.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error.strerror}")
    try:
        yield cgroup
    finally:
        cgroup.rmdir()


@pytest.mark.parametrize("then", ["end", "vanish"])
def test_a_container_is_known_by_its_cgroup(bed: Bed, hooked: Trace, container_cgroup: Path, then: str) -> None:
    with bed.trace("--json") as trace:
        command = bed.command("container", *bed.client_command("boxed", FOUR, V1, then=then))
        script = f'echo $$ > {container_cgroup}/cgroup.procs && exec "$@"'
        subprocess.run(
            ["/bin/sh", "-c", script, "sh", *command], stdin=subprocess.DEVNULL, check=True, timeout=SECONDS_MAX
        )
    assert trace.program("boxed")["container"] == f"docker:{CONTAINER_ID[:12]}"


def attached() -> int:
    """How many programs hang on connect in the root cgroup."""
    root = cgroup2_root(Path("/proc/self/mounts").read_text())
    assert root is not None
    fd = os.open(root, os.O_RDONLY)
    try:
        ids = (bpf.ctypes.c_uint32 * 64)()
        query = bpf.ctypes.create_string_buffer(
            struct.pack("=IIIIQI", fd, 10, 0, 0, bpf.ctypes.addressof(ids), 64), 128
        )
        number = bpf._SYSCALL_NUMBERS[os.uname().machine]
        assert bpf.ctypes.CDLL(None).syscall(number, 16, query, 128) == 0
        return int(struct.unpack_from("=I", query, 24)[0])
    finally:
        os.close(fd)


def test_kill_9_leaves_no_hook_behind(bed: Bed, hooked: Trace) -> None:
    before = attached()
    with bed.trace("--json", ended_by=signal.SIGKILL) as trace:
        assert attached() == before + 1
    assert trace.exit_code == -signal.SIGKILL
    assert attached() == before

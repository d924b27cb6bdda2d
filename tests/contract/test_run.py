"""`imdsctl run` on this kernel, with programs that know nothing of it: as root, and as a user without any capability.

Skipped where the system has no network namespaces, but never in CI.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.contract.daemon import HAS_A_DAEMON, LEAVES_A_DAEMON
from tests.contract.needs import missing, with_namespaces

from imdsctl.host.bed import Bed

SECONDS_MAX = 30.0
WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all")
"""What a container's root has left. CAP_SETFCAP is what the kernel wants to see before it maps user 0 to itself."""
USERS = ("root", "no-capabilities")
AWS = re.compile("^(AWS_|https?_proxy|no_proxy)", re.IGNORECASE)

CLIENT = """
import http.client, os, sys
host, token = sys.argv[1], ""
for step in sys.argv[2:]:
    patience = float(os.environ.get("TOKEN_PATIENCE", "30")) if step == "token" else 30
    connection = http.client.HTTPConnection(host, 80, timeout=patience)
    try:
        if step == "token":
            ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
            connection.request("PUT", "/latest/api/token", headers=ttl)
        else:
            headers = {"X-aws-ec2-metadata-token": token} if step == "v2" else {}
            connection.request("GET", "/latest/meta-data/instance-id", headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        token = body if step == "token" else token
        print(step, answer.status)
    except TimeoutError:
        print(step, "timeout")
    finally:
        connection.close()
"""
"""Does what it is told: `token`, `v2` (with the token), `v1`; prints what came of it."""


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    with_namespaces(lambda: Bed().close())


def command_of(user: str, *arguments: str) -> list[str]:
    prefix: Sequence[str] = ()
    if user == "no-capabilities" and os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            missing("setpriv (util-linux) is not there to give up capabilities")
        prefix = WITHOUT_CAPABILITIES
    return [*prefix, sys.executable, "-m", "imdsctl", "run", *arguments]


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not AWS.match(name)}
    return {**kept, "HOME": str(home), "XDG_DATA_HOME": str(home / "data"), **more}


class Ran:
    """A run that is over: what it said, and its report."""

    def __init__(self, done: subprocess.CompletedProcess[str], report: Path) -> None:
        self.code, self.stdout, self.stderr = done.returncode, done.stdout, done.stderr
        self.report: Any = json.loads(report.read_text()) if report.exists() and report.stat().st_size else None

    def calls(self) -> dict[str, int]:
        """Calls by outcome, all callers together."""
        summed: dict[str, int] = {}
        for caller in self.report["callers"]:
            for use, count in caller["calls"].items():
                summed[use] = summed.get(use, 0) + count
        return summed


def run(home: Path, *arguments: str, user: str = "root", **env: str) -> Ran:
    report = home / "report.json"
    done = subprocess.run(
        command_of(user, "--report", str(report), *arguments),
        env=environment(home, **env),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
        stdin=subprocess.DEVNULL,
    )
    return Ran(done, report)


def client(*steps: str, host: str = "169.254.169.254") -> list[str]:
    return ["--", sys.executable, "-c", CLIENT, host, *steps]


# -- what the program meets, and the verdict --------------------------------------------------------------------------


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(("hops", "host"), [(0, "169.254.169.254"), (1, "fd00:ec2::254")])
def test_a_program_that_uses_tokens_is_ready_for_required_at_its_own_distance(
    tmp_path: Path, user: str, hops: int, host: str
) -> None:
    options = ["--http-tokens", "required", "--hops", str(hops), "--hop-limit", str(hops + 1)]
    ran = run(tmp_path, *options, *client("token", "v2", host=host), user=user)
    assert (ran.code, ran.stdout) == (0, "token 200\nv2 200\n"), ran.stderr
    assert ran.report["verdict"] == {"readiness": "ready", "hop_limit": hops + 1, "reasons": []}
    (caller,) = ran.report["callers"]
    assert caller["program"].startswith("python")
    assert caller["command"].startswith(sys.executable)
    assert f"ready for required, hop limit {hops + 1}" in ran.stderr


def test_a_token_ends_one_hop_beyond_the_limit_and_the_table_says_so(tmp_path: Path) -> None:
    ran = run(tmp_path, "--hops", "1", *client("token", "v1"), TOKEN_PATIENCE="1")
    assert ran.stdout == "token timeout\nv1 200\n"
    assert ran.calls() == {"token-lost": 1, "v1": 1}
    assert ran.report["verdict"]["hop_limit"] == 2
    assert [each["why"] for each in ran.report["verdict"]["reasons"]] == ["fell-back"]
    assert "try `--hop-limit 2`" in ran.stderr


def test_botocore_falls_back_behind_hop_limit_1_and_the_verdict_names_hop_limit_2(tmp_path: Path) -> None:
    program = ["--", sys.executable, "-c", "import botocore.session as s; print(s.Session().get_credentials().method)"]
    ran = run(tmp_path, "--role", "app", "--hops", "1", "--fail-on", "v1", *program)
    assert (ran.code, ran.stdout) == (3, "iam-role\n")
    assert [(each["why"], each["program"][:6]) for each in ran.report["verdict"]["reasons"]] == [
        ("fell-back", "python")
    ]
    raised = run(tmp_path, "--role", "app", "--hops", "1", "--hop-limit", "2", "--fail-on", "any-v1-attempt", *program)
    assert (raised.code, raised.stdout) == (0, "iam-role\n")
    assert raised.report["verdict"] == {"readiness": "ready", "hop_limit": 2, "reasons": []}


@pytest.mark.parametrize(
    ("tokens", "fail_on", "code"),
    [("optional", "v1", 3), ("required", "v1", 0), ("required", "any-v1-attempt", 3), ("optional", None, 0)],
)
def test_fail_on(tmp_path: Path, tokens: str, fail_on: str | None, code: int) -> None:
    options = ["--http-tokens", tokens, *(["--fail-on", fail_on] if fail_on else [])]
    assert run(tmp_path, *options, *client("v1")).code == code


def test_every_short_lived_process_is_named(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "for _ in range(40):\n"
        "  if os.fork() == 0:\n"
        "    sys.argv = ['', '169.254.169.254', 'v1']\n"
        f"    exec({CLIENT!r})\n"
        "    os._exit(0)\n"
        "  os.wait()\n"
    )
    ran = run(tmp_path, "--", sys.executable, "-c", script)
    (caller,) = ran.report["callers"]
    assert (caller["calls"], len(caller["processes"])) == ({"v1": 40}, 40)


def test_no_token_gets_into_the_report(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        missing("curl is not there")
    service = "http://169.254.169.254/latest"
    script = (
        f"T=$(curl -s -X PUT {service}/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 60'); echo $T; "
        f'for i in 1 2; do curl -s -o /dev/null -H "X-aws-ec2-metadata-token: $T" {service}/meta-data/; '
        f'T=$(curl -s -X PUT {service}/api/token -H "X-aws-ec2-metadata-token-ttl-seconds: 60"); done'
    )
    ran = run(tmp_path, "--", "sh", "-c", script)
    token = ran.stdout.strip()
    assert token.startswith("AQAEA")
    assert token not in json.dumps(ran.report["callers"]) + ran.stderr
    assert len(ran.report["callers"]) == 2, "calls that differ by their token only share a row"


# -- the program's own matters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", USERS)
def test_streams_files_directory_and_exit_code_are_the_programs(tmp_path: Path, user: str) -> None:
    (tmp_path / "input").write_text("from the file\n")
    ran = run(tmp_path, "--json", "--", "sh", "-c", "cat input; echo made > output; printf end; exit 7", user=user)
    assert ran.code == 7
    said, _, last = ran.stdout.removesuffix("\n").rpartition("\n")
    assert said == "from the file\nend"
    assert json.loads(last) == ran.report
    assert (tmp_path / "output").read_text() == "made\n"
    assert ran.report["verdict"]["readiness"] == "unproven"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_stays_who_they_are_and_gains_no_capability(tmp_path: Path) -> None:
    if shutil.which("setpriv") is None:
        missing("setpriv (util-linux) is not there")
    tmp_path.chmod(0o777)
    # Reading everything: so that it works wherever this Python is. In the program's user namespace that counts nothing.
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    become += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    program = ["sh", "-c", "id -u; id -g; grep CapEff /proc/self/status"]
    done = subprocess.run(
        [*become, *command_of("root", "--hops", "1", "--", *program)],
        env=environment(tmp_path),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["65534", "65534", "CapEff:", "0" * 16], done.stderr
    assert done.returncode == 0


def test_standard_input_reaches_the_program(tmp_path: Path) -> None:
    done = subprocess.run(
        command_of("root", "cat"), input=b"typed", env=environment(tmp_path), capture_output=True, check=True
    )
    assert done.stdout == b"typed"


@pytest.mark.parametrize(
    ("arguments", "code", "diagnostic"),
    [
        (["--", "no-such-program"], 127, "command-missing"),
        (["--", "/"], 126, "command-not-executable"),
        (["--no-namespaces", "--hops", "1", "true"], 2, "usage"),
        (["--role", "not a role", "true"], 2, "role-unknown"),
        (["--config", "/nowhere.toml", "true"], 2, "imds-config-unreadable"),
        (["--report", "/nowhere/report.json", "true"], 2, "report-unwritable"),
        (["--instance", "i-1", "--role", "app", "true"], 2, "usage"),
    ],
)
def test_bad_input_is_one_diagnostic_and_leaves_nothing(
    tmp_path: Path, arguments: list[str], code: int, diagnostic: str
) -> None:
    mark = uuid.uuid4().hex
    done = subprocess.run(
        command_of("root", *arguments),
        env=environment(tmp_path, MARK=mark),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert re.findall(r"^error\[([a-z-]+)\]", done.stderr, re.MULTILINE) == [diagnostic]
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not marked(mark)


@pytest.mark.parametrize("arguments", [["--hop-limit", "65", "true"], ["--hops", "64", "true"], []])
def test_an_option_out_of_range_or_no_command_is_a_usage_error(tmp_path: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        command_of("root", *arguments), env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Error: " in done.stderr


# -- loopback ---------------------------------------------------------------------------------------------------------

CALLER = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as connection:
    connection.sendall(b"hello")
    connection.shutdown(socket.SHUT_WR)
    print(connection.makefile("rb").read().decode())
"""


@pytest.fixture(params=["127.0.0.1", "::1"])
def echo(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """A service on this host's loopback that answers with what it was told, once its client has said all."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET

    def answer(listener: socket.socket) -> None:
        try:
            while True:
                with listener.accept()[0] as connection:
                    connection.sendall(connection.makefile("rb").read() + b", you")
        except OSError:
            return

    with socket.create_server((request.param, 0), family=family) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        yield listener.getsockname()[:2]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize("user", USERS)
def test_the_hosts_loopback_is_reached_when_asked_for_and_only_then(
    tmp_path: Path, echo: tuple[str, int], user: str
) -> None:
    program = ["--", sys.executable, "-c", CALLER, echo[0], str(echo[1])]
    reached = run(tmp_path, "--network", "host-loopback", *program, user=user)
    assert (reached.code, reached.stdout) == (0, "hello, you\n"), reached.stderr
    assert "ConnectionRefusedError" in run(tmp_path, *program, user=user).stderr


# -- without namespaces -----------------------------------------------------------------------------------------------


def test_without_namespaces_the_sdk_finds_the_service_by_its_variable_and_is_named(tmp_path: Path) -> None:
    program = ["--", sys.executable, "-c", "import botocore.session as s; print(s.Session().get_credentials().method)"]
    ran = run(tmp_path, "--no-namespaces", "--role", "app", *program)
    assert (ran.code, ran.stdout) == (0, "iam-role\n")
    assert "warning[run-without-namespaces]" in ran.stderr
    assert ran.report["verdict"] == {"readiness": "ready", "hop_limit": None, "reasons": []}
    assert ran.report["callers"][0]["program"].startswith("python")


# -- ending -----------------------------------------------------------------------------------------------------------


def marked(mark: str) -> list[str]:
    """The processes that have this mark in their environment."""
    found = []
    for home in Path("/proc").iterdir():
        if home.name.isdigit():
            try:
                if mark.encode() in (home / "environ").read_bytes():
                    found.append(f"{home.name} {(home / 'cmdline').read_bytes()!r}")
            except OSError:
                continue
    return found


def networks_of(mark: str) -> set[str]:
    """The network namespaces in which marked processes are, or which they hold."""
    found = set()
    for each in marked(mark):
        home = Path("/proc", each.partition(" ")[0])
        try:
            links = [os.readlink(home / "ns/net"), *(os.readlink(fd) for fd in (home / "fd").iterdir())]
        except OSError:
            continue
        found.update(link for link in links if link.startswith("net:"))
    return found - {os.readlink("/proc/self/ns/net")}


@pytest.mark.parametrize("how", ["root", "no-capabilities", "no-namespaces"])
@pytest.mark.parametrize(
    ("number", "to_group"),
    [
        (signal.SIGKILL, False),
        (signal.SIGKILL, True),
        (signal.SIGTERM, True),
        (signal.SIGABRT, False),
    ],
)
def test_any_signal_that_ends_it_ends_everything(tmp_path: Path, how: str, number: int, to_group: bool) -> None:
    mark = uuid.uuid4().hex
    options = ["--no-namespaces"] if how == "no-namespaces" else ["--hops", "1"]
    command = command_of(how, *options, "--", sys.executable, "-c", HAS_A_DAEMON)
    with subprocess.Popen(
        command,
        env=environment(tmp_path, MARK=mark),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        networks = networks_of(mark)
        assert len(networks) == (0 if how == "no-namespaces" else 3)
        (os.killpg if to_group else os.kill)(running.pid, number)
        code = running.wait(SECONDS_MAX)
    assert code in (-number, 128 + number)
    deadline = time.monotonic() + SECONDS_MAX
    # Killed outright, nobody says when the kernel has taken everything away.
    while marked(mark) or networks & _all_networks():
        assert time.monotonic() < deadline, marked(mark)
        time.sleep(0.01)


def _all_networks() -> set[str]:
    found = set()
    for home in Path("/proc").iterdir():
        if home.name.isdigit():
            try:
                found.add(os.readlink(home / "ns/net"))
            except OSError:
                continue
    return found


def test_what_the_program_left_behind_ends_with_it(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    for options in ([], ["--no-namespaces"]):
        ran = run(tmp_path, *options, "--", sys.executable, "-c", LEAVES_A_DAEMON, MARK=mark)
        assert (ran.code, ran.stdout) == (0, "ready\n")
        assert not marked(mark)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_are_passed_on_once_and_the_programs_answer_counts(tmp_path: Path, number: int) -> None:
    script = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda *_: (print('got it', flush=True), sys.exit(5)))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen(
        command_of("root", "--", sys.executable, "-c", script),
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(number)
        said, _ = running.communicate(timeout=SECONDS_MAX)
    assert (running.returncode, said) == (5, b"got it\n")

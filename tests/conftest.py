"""What whole-program tests share: `imdsctl` as a process, and a local AWS that really listens.

Nothing here reaches the user's AWS settings or directories, and nothing waits for time to pass: `local up --detach`
returns when the server answers.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent
LONGEST_FIRST = (
    "contract/test_terraform.py",
    "contract/test_export_by_account.py",
    "journeys/test_local.py",
    "unit/policy/test_differential.py",
    "contract/test_imds_clients.py",
    "contract/test_terraform_autoscaling.py",
    "journeys/test_kill.py",
    "contract/test_terraform_parameters.py",
    "contract/test_export.py",
    "journeys/test_faults.py",
    "journeys/test_permissions.py",
    "journeys/test_bad_input.py",
    "journeys/test_demo.py",
    "journeys/test_demo_attack.py",
    "contract/test_cli_every_operation.py",
)
"""Files that take a good part of a minute: one that is begun last is what all other processes wait for."""
SOURCE = TESTS.parent / "src"
COMMAND_SECONDS_MAX = float(os.environ.get("IMDSCTL_COMMAND_SECONDS_MAX", "120"))


def pytest_configure() -> None:
    """Ctrl-C is tested, and what a background job of a shell starts ignores it: so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, and everything else as it stands: `--no-loadscope-reorder` leaves it so."""
    rank = {TESTS / name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """A process more than there are cores: tests of Terraform and of time-outs wait half of the time."""
    return (yield) + 1


@dataclass(frozen=True)
class Shell:
    """A user's shell: a home of its own, and the environment variables that were exported in it."""

    home: Path
    env: Mapping[str, str]

    def run(self, *command: str, **changed: str | None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `changed` sets environment variables for it, or (None) takes them away."""
        env = {**self.env, **{name: value for name, value in changed.items() if value is not None}}
        for name, value in changed.items():
            if value is None:
                env.pop(name, None)
        return subprocess.run(
            command,
            env=env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS_MAX,
        )

    def imdsctl(self, *arguments: str, **changed: str | None) -> subprocess.CompletedProcess[str]:
        """Run `imdsctl`, as a process; a server is left behind by one that was started for real."""
        if arguments[:2] == ("local", "up") or any(name.startswith("PYTHON") for name in changed):
            return self.run(sys.executable, "-m", "imdsctl", *arguments, **changed)
        return self._forked("imdsctl", *arguments, **changed)

    def aws(self, *arguments: str, **changed: str | None) -> subprocess.CompletedProcess[str]:
        """Run the AWS CLI that stands beside this Python."""
        return self._forked("aws", *arguments, **changed)

    def _forked(self, program: str, *words: str, **changed: str | None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end in a process that was forked where all it loads is loaded: tests/warm_server.py."""
        env = {name: value for name, value in {**self.env, **changed}.items() if value is not None}
        asked = {"program": program, "words": words, "env": env, "folder": str(self.home)}
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        ):
            connection.settimeout(COMMAND_SECONDS_MAX)
            connection.connect(warm_server())
            line = json.dumps(asked).encode() + b"\n"
            connection.sendall(line[socket.send_fds(connection, [line], [out.fileno(), err.fileno()]) :])
            status = os.waitstatus_to_exitcode(int(connection.recv(32)))
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode().replace("\r\n", "\n"))
        return subprocess.CompletedProcess([program, *words], status, *texts)

    def exporting(self, script: str) -> Shell:
        """This shell after `eval "$(...)"` of a script of exports."""
        pairs = [word.split("=", 1) for line in script.splitlines() for word in shlex.split(line) if "=" in word]
        return Shell(self.home, {**self.env, **dict(pairs)})


@functools.cache
def warm_server() -> str:
    """The socket of the fork server of this test process, started by its first command."""
    folder = tempfile.TemporaryDirectory(prefix="imdsctl-")
    path = str(Path(folder.name) / "socket")
    script = str(Path(__file__).with_name("warm_server.py"))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    server = subprocess.Popen([sys.executable, script, path], env=env, **pipes)
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"

    def end() -> None:
        server.communicate()  # its standard input ends, and so does it
        folder.cleanup()

    atexit.register(end)
    return path


StartLocal = Callable[..., Shell]


@pytest.fixture(scope="session")
def new_shell(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Shell]:
    """Makes shells with an empty home and no AWS setting, proxy or colour."""

    def make() -> Shell:
        home = tmp_path_factory.mktemp("home")
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not re.match(r"(?i)(AWS|XDG|IMDSCTL)_|\w+_proxy$", name)
        }
        env = {
            **inherited,
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "AWS_CONFIG_FILE": str(home / "no-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(home / "no-credentials"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
            "NO_COLOR": "1",
            "COLUMNS": "160",
            "PYTHONPATH": os.pathsep.join([str(SOURCE), *filter(None, [inherited.get("PYTHONPATH")])]),
        }
        (home / "run").mkdir(mode=0o700)
        return Shell(home, env)

    return make


@pytest.fixture
def shell(new_shell: Callable[[], Shell]) -> Shell:
    """A new user's shell."""
    return new_shell()


@pytest.fixture(scope="session")
def start_local(new_shell: Callable[[], Shell]) -> Iterator[StartLocal]:
    """Starts `imdsctl local up` with options, on a free port; gives a shell that did `eval "$(imdsctl local env)"`.

    It throttles only when a test asks for it: how soon a client is over a limit depends on the machine's speed.
    """
    started: list[Shell] = []

    def start(*options: str) -> Shell:
        shell = new_shell()
        throttling = () if "--throttle" in options else ("--no-throttle",)
        up = shell.imdsctl("local", "up", "--detach", "--port", "0", *throttling, *options)
        assert up.returncode == 0, up.stderr
        started.append(shell)
        printed = shell.imdsctl("local", "env")
        assert printed.returncode == 0, printed.stderr
        return shell.exporting(printed.stdout)

    yield start
    for shell in started:
        down = shell.imdsctl("local", "down")
        assert down.returncode == 0, down.stderr

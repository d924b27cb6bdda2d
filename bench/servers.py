"""The servers under measurement, each a process pinned to the server's core."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import on_core

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 10.0
HOST = "127.0.0.1"
REPOSITORY = Path(__file__).resolve().parent.parent


class ServerFailed(Exception):
    """A server did not come up."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; `env` is what a client needs to talk to it as an administrator."""

    name: str
    pid: int
    port: int
    start_seconds: float
    env: Mapping[str, str] = field(repr=False)


@contextmanager
def running(
    name: str, command: Sequence[str], *, env: Mapping[str, str], port: int, core: int, log: Path
) -> Iterator[tuple[int, float]]:
    """A process on a core of its own, from when it listens (pid and seconds till then) until it has ended.

    Raises ServerFailed.
    """
    with log.open("wb") as output:
        with on_core(core):
            process = subprocess.Popen(
                list(command), cwd=REPOSITORY, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            began = time.perf_counter()
            while not _listens(port):
                if process.poll() is not None or time.perf_counter() - began > START_SECONDS_MAX:
                    raise ServerFailed(f"{name} did not come up: {log.read_text(errors='replace')[-500:].strip()}")
                time.sleep(0.01)
            yield process.pid, time.perf_counter() - began
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def local_aws(
    directory: Path, core: int, *, accounts: int, instances: int, options: Sequence[str] = ()
) -> Iterator[Server]:
    """`imdsctl local up` with 17 Regions for each account, in memory."""
    port = free_port()
    env = client_env(directory)
    command = imdsctl("local", "up", "--no-throttle", "--port", str(port), "--regions", "default", "--seed", "1")
    command += ["--accounts", str(accounts), "--instances", str(instances), *options]
    log = directory / "local.log"
    with running("imdsctl local", command, env=env, port=port, core=core, log=log) as (pid, seconds):
        yield Server("imdsctl local", pid, port, seconds, env | exports(_local_env(env)))


def _local_env(env: Mapping[str, str]) -> str:
    """What `local env` prints; a server listens a moment before it can be found. Raises ServerFailed."""
    began = time.perf_counter()
    while True:
        asked = subprocess.run(imdsctl("local", "env"), env=env, cwd=REPOSITORY, capture_output=True, text=True)
        if asked.returncode == 0:
            return asked.stdout
        if time.perf_counter() - began > START_SECONDS_MAX:
            raise ServerFailed(f"imdsctl local is not found: {asked.stderr.strip()}")


def imdsctl(*arguments: str) -> list[str]:
    """The command line of our own program."""
    return [sys.executable, "-m", "imdsctl", *arguments]


@contextmanager
def moto(python: Path, directory: Path, core: int) -> Iterator[Server]:
    """moto_server, run by the interpreter it is installed for."""
    port = free_port()
    command = [str(python), "-m", "moto.server", "-H", HOST, "-p", str(port)]
    env = client_env(directory)
    with running("moto_server", command, env=env, port=port, core=core, log=directory / "moto.log") as (pid, seconds):
        yield Server("moto_server", pid, port, seconds, env | _credentials(port))


@contextmanager
def ministack(python: Path, directory: Path, core: int) -> Iterator[Server]:
    """ministack with its defaults (it checks no signature), run by the interpreter it is installed for."""
    port = free_port()
    env = client_env(directory) | {"GATEWAY_PORT": str(port), "BIND_HOST": HOST, "LOG_LEVEL": "WARNING"}
    command = [str(python), "-m", "ministack"]
    log = directory / "ministack.log"
    with running("ministack", command, env=env, port=port, core=core, log=log) as (pid, seconds):
        yield Server("ministack", pid, port, seconds, client_env(directory) | _credentials(port))


def _credentials(port: int) -> dict[str, str]:
    """What a client of a peer needs; neither of them checks who asks."""
    return {
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "AWS_REGION": "us-east-1",
    }


def client_env(directory: Path) -> dict[str, str]:
    """This environment without anything of AWS or of a proxy in it, and with every user directory under `directory`."""
    env = {name: value for name, value in os.environ.items() if not re.match(r"(?i)AWS_|\w+_proxy$|MOTO_", name)}
    for name in ("XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        env[name] = str(directory / name.lower())
        Path(env[name]).mkdir(mode=0o700, exist_ok=True)
    return env | {"HOME": str(directory), "NO_COLOR": "1", "AWS_EC2_METADATA_DISABLED": "true"}


def exports(text: str) -> dict[str, str]:
    """The variables of a shell script's `export` lines."""
    words = [shlex.split(line.removeprefix("export ")) for line in text.splitlines() if line.startswith("export ")]
    return dict(word.split("=", 1) for line in words for word in line if "=" in word)


def free_port() -> int:
    """A port of HOST where nothing listens now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0

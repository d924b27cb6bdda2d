"""`imdsctl local` from the first line typed to the last line printed, each command in a process of its own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest

ENDED = 60  # seconds after which a hanging command fails its test


class Shell:
    """Runs commands in an environment that has nothing of the user's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.env["XDG_RUNTIME_DIR"] = str(folder / "run")
        self.env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        (folder / "run").mkdir()

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "imdsctl", "local", *arguments],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=ENDED,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def up(self, *arguments: str) -> None:
        self("up", "--detach", "--port", "0", "--instances", "3", "--accounts", "3", *arguments)

    def settings(self, *arguments: str) -> dict[str, str]:
        """What `eval "$(imdsctl local env)"` would set."""
        lines = self("env", *arguments).stdout.splitlines()
        assert all(line.startswith("export ") for line in lines)
        return dict(shlex.split(line)[1].partition("=")[::2] for line in lines)

    def servers(self) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-m", "imdsctl", "local", "status", "--json"],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=ENDED,
            check=False,
        )
        answer = json.loads(done.stdout)
        assert answer["format_version"] == 1
        assert answer["running"] == bool(answer["servers"]) == (done.returncode == 0)
        found: list[dict[str, Any]] = answer["servers"]
        return found


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    for server in shell.servers():
        os.kill(server["pid"], signal.SIGTERM)


def client(service: str, settings: dict[str, str]) -> Any:
    return botocore.session.Session().create_client(
        service,
        region_name=settings["AWS_DEFAULT_REGION"],
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
    )


def test_up_env_status_down(shell: Shell) -> None:
    assert shell.servers() == []
    shell.up()
    [server] = shell.servers()
    settings = shell.settings()
    assert settings["AWS_ENDPOINT_URL"] == server["url"] == f"http://127.0.0.1:{server['port']}"
    assert settings["AWS_REGION"] == settings["AWS_DEFAULT_REGION"] == "us-east-1"
    accounts = client("organizations", settings).list_accounts()["Accounts"]
    assert len(accounts) == 3
    other = shell.settings("--account", accounts[2]["Id"], "--region", "eu-west-1")
    assert client("sts", other).get_caller_identity()["Account"] == accounts[2]["Id"]
    [file] = (shell.folder / "run" / "imdsctl").glob("local-*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    shell("down")
    assert shell.servers() == []
    assert not file.exists()
    assert "no local AWS is running" in shell("down").stderr


def test_a_killed_server_goes_on_from_its_state(shell: Shell) -> None:
    shell.up("--state", "kept", "--seed", "5")
    settings = shell.settings("--state", "kept")
    ec2 = client("ec2", settings)
    ec2.modify_instance_metadata_defaults(HttpTokens="required", HttpPutResponseHopLimit=2)
    reservations = ec2.describe_instances()["Reservations"]
    os.kill(shell.servers()[0]["pid"], signal.SIGKILL)
    assert shell.servers() == []
    shell("up", "--detach", "--port", "0", "--state", "kept")
    ec2 = client("ec2", shell.settings())
    assert ec2.get_instance_metadata_defaults()["AccountLevel"]["HttpTokens"] == "required"
    assert ec2.describe_instances()["Reservations"] == reservations
    [server] = shell.servers()
    assert (server["seed"], server["accounts"], server["writes"]) == (5, 3, 1)
    assert server["state"] == str((shell.folder / "kept").resolve())


def test_ctrl_c_ends_a_server_in_the_foreground(shell: Shell) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "imdsctl", "local", "up", "--port", "0"],
        env=shell.env,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    assert server.stderr.readline().startswith("local AWS at http://127.0.0.1:")
    server.send_signal(signal.SIGINT)
    assert "Traceback" not in server.communicate(timeout=ENDED)[1]
    assert server.returncode == 0
    assert shell.servers() == []


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_port_in_use_is_said_with_the_next_step(shell: Shell, detach: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = shell("up", "--port", str(taken.getsockname()[1]), *detach, code=1).stderr
    assert "error[port-in-use]" in said
    assert "--port" in said
    assert shell.servers() == []


def test_a_state_in_use_is_said(shell: Shell) -> None:
    shell.up("--state", "kept")
    said = shell("up", "--port", "0", "--state", "kept", code=1).stderr
    assert "error[state-in-use]" in said
    assert "imdsctl local down --state" in said


def test_half_a_state_is_said_and_left_as_it_is(shell: Shell) -> None:
    (shell.folder / "half").mkdir()
    (shell.folder / "half" / "log").write_text("something")
    assert "error[state-incomplete]" in shell("up", "--port", "0", "--state", "half", code=1).stderr
    assert (shell.folder / "half" / "log").read_text() == "something"


def test_another_seed_does_not_fit_a_kept_state(shell: Shell) -> None:
    shell.up("--state", "kept", "--seed", "5")
    shell("down")
    said = shell("up", "--port", "0", "--state", "kept", "--seed", "6", code=1).stderr
    assert "error[state-differs]" in said
    assert "`--seed`" in said


def test_two_servers_have_to_be_told_apart(shell: Shell) -> None:
    shell.up("--seed", "1")
    shell.up("--seed", "2")
    first, second = shell.servers()
    assert "error[local-ambiguous]" in shell("env", code=2).stderr
    assert shell.settings("--port", str(second["port"]))["AWS_ENDPOINT_URL"] == second["url"]
    shell("down", "--port", str(first["port"]))
    assert [server["port"] for server in shell.servers()] == [second["port"]]


def test_down_ends_nothing_that_is_not_ours(shell: Shell) -> None:
    shell.up()
    [file] = (shell.folder / "run" / "imdsctl").glob("local-*.json")
    stale = json.loads(file.read_text())
    shell("down")
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    file.write_text(json.dumps({**stale, "pid": bystander.pid}))
    assert "no local AWS is running" in shell("down").stderr
    assert bystander.poll() is None
    bystander.communicate(b"\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("up", "--regions", "mars-north-1"), 2, "region-unknown"),
        (("up", "--regions", "eu-west1"), 2, "did you mean `eu-west-1`"),
        (("up", "--port", "99999"), 2, "--port"),
        (("up", "--accounts", "0"), 2, "--accounts"),
        (("up", "--host", "192.0.2.1", "--port", "0"), 1, "address-not-available"),
        (("up", "--host", "no such host", "--port", "0"), 1, "address-not-available"),
        (("env",), 1, "local-not-running"),
        (("env", "--region", "eu-west-9"), 2, "region-unknown"),
    ],
)
def test_a_wrong_command_line_is_said(shell: Shell, arguments: tuple[str, ...], code: int, said: str) -> None:
    assert said in shell(*arguments, code=code).stderr


def test_an_account_that_is_not_there(shell: Shell) -> None:
    shell.up()
    assert "error[account-unknown]" in shell("env", "--account", "000000000000", code=2).stderr

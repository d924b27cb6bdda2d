"""`imdsctl imds serve` as a process of its own, asked by botocore, curl's way and by raw sockets."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from botocore.utils import InstanceMetadataFetcher

ENDED = 30  # seconds after which a hanging command fails its test


def environment(folder: Path) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    env["XDG_DATA_HOME"] = str(folder / "data")
    return env


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "imdsctl", "imds", *arguments]


@contextmanager
def served(folder: Path, *arguments: str, end: int = signal.SIGTERM) -> Iterator[list[str]]:
    """The addresses (HOST:PORT) of a service that runs; afterwards it must have ended with 0."""
    server = subprocess.Popen(
        command("serve", *arguments), env=environment(folder), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    try:
        first = server.stderr.readline()
        found = re.findall(r"http://(\S+?)(?=[,:]\s)", first)
        assert found, first + server.stderr.read()
        yield found
        server.send_signal(end)
        out, err = server.communicate(timeout=ENDED)
        assert server.returncode == 0, err
        (folder / "stdout").write_text(out)
    finally:
        server.kill()
        server.communicate()


def ask(address: str, method: str, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=ENDED)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def refused(folder: Path, *arguments: str) -> str:
    done = subprocess.run(command(*arguments), env=environment(folder), capture_output=True, text=True, timeout=ENDED)
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize("tokens", ["optional", "required"])
def test_botocore_gets_the_roles_credentials(tmp_path: Path, tokens: str) -> None:
    with served(tmp_path, "--bind", "127.0.0.1:0", "--http-tokens", tokens, "--role", "app") as [address]:
        fetcher = InstanceMetadataFetcher(base_url=f"http://{address}/", num_attempts=1, env={})
        found = fetcher.retrieve_iam_role_credentials()
    assert found["role_name"] == "app"
    assert found["access_key"].startswith("ASIAEXAMPLEV2")


def test_required_refuses_v1_on_every_address(tmp_path: Path) -> None:
    arguments = ("--bind", "127.0.0.1:0", "--bind", "[::1]:0", "--http-tokens", "required", "--json")
    with served(tmp_path, *arguments, end=signal.SIGINT) as addresses:
        assert len(addresses) == 2
        for address in addresses:
            assert ask(address, "GET", "/latest/meta-data/instance-id")[0] == 401
            status, token = ask(address, "PUT", "/latest/api/token", X_aws_ec2_metadata_token_ttl_seconds="60")
            assert (status, len(token)) == (200, 56)
            status, body = ask(address, "GET", "/latest/meta-data/instance-id", X_aws_ec2_metadata_token=token)
            assert (status, body[:2]) == (200, "i-")
    lines = [json.loads(line) for line in (tmp_path / "stdout").read_text().splitlines()]
    assert [line["access"] for line in lines] == ["v1-refused", "token", "v2"] * 2


def test_the_identity_document_verifies_against_the_certificate_that_the_tool_prints(tmp_path: Path) -> None:
    from base64 import b64decode

    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509 import load_pem_x509_certificates

    with served(tmp_path, "--bind", "127.0.0.1:0") as [address]:
        document = ask(address, "GET", "/latest/dynamic/instance-identity/document")[1]
        signature = ask(address, "GET", "/latest/dynamic/instance-identity/signature")[1]
    printed = subprocess.run(command("certificate"), env=environment(tmp_path), capture_output=True, timeout=ENDED)
    key = load_pem_x509_certificates(printed.stdout)[0].public_key()
    assert isinstance(key, RSAPublicKey)
    key.verify(b64decode(signature), document.encode(), PKCS1v15(), SHA256())


def test_a_config_file_and_options_over_it(tmp_path: Path) -> None:
    config = tmp_path / "imds.toml"
    config.write_text(
        '[options]\nhttp-tokens = "required"\n[instance]\nregion = "eu-west-1"\n[paths]\n"meta-data/x" = "y"'
    )
    arguments = ("--bind", "127.0.0.1:0", "--config", str(config), "--http-tokens", "optional", "--spot", "stop")
    with served(tmp_path, *arguments) as [address]:
        assert ask(address, "GET", "/latest/meta-data/x") == (200, "y")
        assert ask(address, "GET", "/latest/meta-data/placement/region") == (200, "eu-west-1")
        assert json.loads(ask(address, "GET", "/latest/meta-data/spot/instance-action")[1])["action"] == "stop"


def test_a_port_in_use_is_said_and_the_other_address_is_given_back(tmp_path: Path) -> None:
    with served(tmp_path, "--bind", "127.0.0.1:0") as [address]:
        said = refused(tmp_path, "serve", "--bind", "127.0.0.1:0", "--bind", address)
    assert "error[port-in-use]" in said
    assert address in said


def test_a_port_that_needs_more_rights_is_said(tmp_path: Path) -> None:
    first_free = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not first_free.exists() or int(first_free.read_text()) <= 1:
        pytest.skip("here everybody may take every port")
    without = ["setpriv", "--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service"]
    done = subprocess.run(
        [*(without if os.geteuid() == 0 else []), *command("serve", "--bind", "127.0.0.1:1")],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=ENDED,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error[port-not-allowed]")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--hop-limit", "65"), "--hop-limit"),
        (("--hop-limit", "0"), "--hop-limit"),
        (("--bind", "localhost"), "bind-invalid"),
        (("--bind", "::1:80"), "bind-invalid"),
        (("--bind", "127.0.0.1:99999"), "bind-invalid"),
        (("--bind", "192.0.2.1:0"), "bind-failed"),
        (("--role", "no/slash"), "role-unknown"),
        (("--config", "missing.toml"), "imds-config-unreadable"),
        (("--http-tokens", "yes"), "--http-tokens"),
        (("--spot", "die"), "usage"),
    ],
)
def test_bad_input_is_explained(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(tmp_path, "serve", *arguments)

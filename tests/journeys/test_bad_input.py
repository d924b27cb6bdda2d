"""Bad input of every kind: one clear diagnostic with the next step, the documented exit code, nothing lost.

Documented exit codes: 1 failed, 2 the command line or the input is wrong.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

FAILED, USAGE = 1, 2


def only_diagnostic(done: Any, exit_code: int) -> tuple[str, str]:
    """The one error that a command ended with: its code and its whole text."""
    assert done.returncode == exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    found = re.findall(r"^error\[([a-z-]+)\]: \S", done.stderr, re.MULTILINE)
    assert len(found) == 1, done.stderr
    assert re.search(r"^hint: \S", done.stderr, re.MULTILINE), done.stderr
    return found[0], done.stderr


@pytest.fixture(scope="module")
def user(start_local: Callable[..., Any]) -> Any:
    """A user with credentials of a small organization, and one scan of it."""
    user = start_local("--accounts", "2", "--instances", "2", "--seed", "11", "--v1-percent", "0")
    scanned = user.imdsctl("scan", "--regions", "us-east-1")
    assert scanned.returncode == 0, scanned.stderr
    return user


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("version = 1\nenforce = [", "intent-syntax", ":2"),
        ("version = 1\nenforce = 'yes'\n", "intent-invalid", "intent.toml:2"),
        ("version = 1\n[region-default]\n", "intent-invalid", "intent.toml:2"),
        ("version = 99\n", "intent-invalid", "intent.toml:1"),
        (None, "intent-unreadable", "intent.toml"),
    ],
)
def test_a_malformed_intent_file_names_the_line(
    user: Any, tmp_path: Path, text: str | None, code: str, place: str
) -> None:
    intent = tmp_path / "intent.toml"
    if text is not None:
        intent.write_text(text)
    plan = tmp_path / "plan.json"
    found, said = only_diagnostic(user.imdsctl("plan", "--intent", str(intent), "-o", str(plan)), USAGE)
    assert found == code
    assert place in said
    assert not plan.exists()


def test_an_intent_file_with_two_mistakes_reports_both(user: Any, tmp_path: Path) -> None:
    intent = tmp_path / "intent.toml"
    intent.write_text("version = 1\nenforce = 1\n[images]\nimds-support = 'v3'\n")
    done = user.imdsctl("plan", "--intent", str(intent))
    assert done.returncode == USAGE
    assert done.stderr.count("error[intent-invalid]") == 2


@pytest.mark.parametrize("damage", ["cut", "edited", "empty", "not a plan", "missing"])
def test_a_malformed_plan_file_is_not_applied(user: Any, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "plan.json"
    made = user.imdsctl("plan", "-o", str(path))
    assert made.returncode == 0, made.stderr
    whole = path.read_text()
    if damage == "missing":
        path.unlink()
    else:
        edited = whole.replace("required", "optional", 1)
        assert edited != whole
        content = {"cut": whole[: len(whole) // 2], "edited": edited, "empty": "", "not a plan": '{"a": 1}'}
        path.write_text(content[damage])
    found, said = only_diagnostic(user.imdsctl("apply", str(path), "--confirm", "1"), USAGE)
    assert found == ("plan-unreadable" if damage == "missing" else "plan-invalid")
    assert "imdsctl plan" in said
    assert not path.with_name("plan.json.journal").exists()


# -- names -----------------------------------------------------------------------------------------------------------


def test_an_unknown_account_is_named(user: Any) -> None:
    code, said = only_diagnostic(user.imdsctl("scan", "--accounts", "123456789012"), USAGE)
    assert code == "account-unknown"
    assert "`123456789012`" in said


def test_a_region_that_does_not_exist_is_named(user: Any) -> None:
    code, said = only_diagnostic(user.imdsctl("scan", "--regions", "eu-west-9"), USAGE)
    assert code == "region-unknown"
    assert "`eu-west-9`" in said


def test_a_region_that_does_not_exist_cannot_be_started(shell: Any) -> None:
    code, said = only_diagnostic(shell.imdsctl("local", "up", "--port", "0", "--regions", "eu-wset-1"), USAGE)
    assert code == "region-unknown"
    assert "`eu-west-1`" in said, "the Region that was meant"


def test_wrong_credentials_are_refused(user: Any) -> None:
    code, _ = only_diagnostic(user.imdsctl("scan", AWS_SECRET_ACCESS_KEY="wrong"), FAILED)
    assert code == "credentials-refused"


def test_missing_credentials_are_said_to_be_missing(user: Any) -> None:
    done = user.imdsctl("scan", AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    code, _ = only_diagnostic(done, USAGE)
    assert code == "credentials-missing"


def test_an_unknown_option_is_a_usage_error(shell: Any) -> None:
    done = shell.imdsctl("scan", "--acounts", "123456789012")
    assert done.returncode == USAGE
    assert "--accounts" in done.stderr, "the option that was meant"
    assert "Traceback" not in done.stderr


# -- the local AWS ---------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_said(shell: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, said = only_diagnostic(shell.imdsctl("local", "up", "--port", port), FAILED)
    assert code == "port-in-use"
    assert port in said


def test_a_half_written_state_directory_is_left_as_it_is(shell: Any) -> None:
    state = shell.home / "state"
    assert (
        shell.imdsctl("local", "up", "--detach", "--port", "0", "--state", str(state), "--accounts", "2").returncode
        == 0
    )
    assert shell.imdsctl("local", "down").returncode == 0
    whole = (state / "world.json").read_bytes()
    log = (state / "log").read_bytes()

    def up() -> Any:
        return shell.imdsctl("local", "up", "--port", "0", "--state", str(state))

    (state / "world.json").write_bytes(whole[: len(whole) // 2])
    assert only_diagnostic(up(), FAILED)[0] == "state-incomplete"
    assert (state / "world.json").read_bytes() == whole[: len(whole) // 2]
    (state / "world.json").unlink()
    assert only_diagnostic(up(), FAILED)[0] == "state-incomplete"
    assert (state / "log").read_bytes() == log


# -- what comes over the wire ----------------------------------------------------------------------------------------


Damage = Callable[[bytes], tuple[str, bytes, int]]
"""A whole answer to what is sent instead: content type, content, and the length that is claimed."""


class Between:
    """Stands between a command and a local AWS, and damages the answers to some actions."""

    def __init__(self, upstream: str, damaged: set[str], damage: Damage, times: int | None) -> None:
        self.times = times  # how many answers are damaged; None: all of them
        self.upstream = urlsplit(upstream)
        self.damaged = damaged
        self.damage = damage
        self.asked: list[str] = []
        self.url = ""

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """The request handler that http.server wants."""
        between = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # and GET: `command` says which
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                upstream = http.client.HTTPConnection(str(between.upstream.hostname), int(between.upstream.port or 80))
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() != "connection":
                        upstream.putheader(name, value)
                upstream.endheaders(body)
                answer = upstream.getresponse()
                content, kind = answer.read(), answer.getheader("content-type", "")
                upstream.close()
                length = len(content)
                action = re.match(rb"(?:.*&)?Action=(\w+)", body)
                name = action[1].decode() if action else self.headers.get("x-amz-target", "").rpartition(".")[2]
                between.asked.append(name)
                if name in between.damaged and between.times != 0:
                    between.times = None if between.times is None else between.times - 1
                    kind, content, length = between.damage(content)
                self.send_response(answer.status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(length))
                self.end_headers()
                self.wfile.write(content)
                if length != len(content):
                    self.close_connection = True

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        return Handler


def cut(content: bytes) -> tuple[str, bytes, int]:
    """The first half of an answer; the connection closes before the rest."""
    return "text/xml;charset=UTF-8", content[: len(content) // 2], len(content)


def page_of_a_proxy(content: bytes) -> tuple[str, bytes, int]:
    """What a captive portal answers to everything."""
    page = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in<br></body></html>"
    return "text/html", page, len(page)


@contextmanager
def between(user: Any, damaged: set[str], damage: Damage, times: int | None = None) -> Iterator[Between]:
    """A listening `Between`."""
    stands = Between(user.env["AWS_ENDPOINT_URL"], damaged, damage, times)
    server = ThreadingHTTPServer(("127.0.0.1", 0), stands.handler())
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        stands.url = f"http://127.0.0.1:{server.server_port}"
        yield stands
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("damage", [cut, page_of_a_proxy])
def test_an_endpoint_that_does_not_speak_aws_ends_the_scan_with_a_diagnostic(user: Any, damage: Any) -> None:
    with between(user, {"GetCallerIdentity"}, damage) as stands:
        done = user.imdsctl("scan", "--json", AWS_ENDPOINT_URL=stands.url, AWS_MAX_ATTEMPTS="1")
    code, said = only_diagnostic(done, FAILED)
    assert code == "aws-unreachable"
    assert "127.0.0.1" in said


@pytest.mark.slow  # imdsctl itself waits before its second attempt
def test_an_answer_that_is_cut_once_is_asked_for_again(user: Any) -> None:
    with between(user, {"DescribeInstances"}, cut, times=1) as stands:
        arguments = ("scan", "--json", "--current-account", "--regions", "us-east-1", "--fail-on", "unknown")
        done = user.imdsctl(*arguments, AWS_ENDPOINT_URL=stands.url)
    assert stands.asked.count("DescribeInstances") == 2
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["unknown"] == []


def test_an_answer_that_cannot_be_read_makes_that_part_unknown(user: Any) -> None:
    with between(user, {"DescribeInstances"}, page_of_a_proxy) as stands:
        arguments = ("scan", "--json", "--current-account", "--regions", "us-east-1", "--fail-on", "unknown")
        done = user.imdsctl(*arguments, AWS_ENDPOINT_URL=stands.url)
    assert "DescribeInstances" in stands.asked
    assert done.returncode == FAILED, "unknown fails the gate"
    assert "Traceback" not in done.stderr
    scan = json.loads(done.stdout)
    (target,) = scan["targets"]
    assert [each["what"] for each in target["unseen"]] == ["instances"]
    assert target["instances"] == []
    assert scan["totals"]["instances"]["unknown"] == 1
    assert target["default"]["options"]["ManagedBy"] == "account", "what could be read is there"


def test_an_endpoint_where_nobody_listens_is_said(user: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        done = user.imdsctl("scan", AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")
    code, said = only_diagnostic(done, FAILED)
    assert code == "aws-unreachable"
    assert str(port) in said or "127.0.0.1" in said


@pytest.mark.parametrize("damage", [cut, page_of_a_proxy])
def test_a_write_whose_answer_is_lost_is_read_back_and_nothing_is_lost(user: Any, tmp_path: Path, damage: Any) -> None:
    region = "eu-west-1" if damage is cut else "eu-west-2"
    where, plan = ("--db", str(tmp_path / "scans.sqlite")), str(tmp_path / "plan.json")
    scope = ("--current-account", "--regions", region)
    intent = tmp_path / "intent.toml"
    intent.write_text(
        'version = 1\n[[exception]]\nmatch = { resource = ["web-blue"] }\nowner = "web"\nreason = "unused"\n'
        "expires = 2099-12-31\n"
    )
    assert user.imdsctl("scan", *scope, *where).returncode == 0
    assert user.imdsctl("plan", "-o", plan, "--intent", str(intent), *where).returncode == 0
    apply = ("apply", plan, "--confirm", str(json.loads(Path(plan).read_text())["count"]))
    with between(user, {"ModifyInstanceMetadataDefaults", "ModifyInstanceMetadataOptions"}, damage) as stands:
        damaged = user.imdsctl(*apply, AWS_ENDPOINT_URL=stands.url, AWS_MAX_ATTEMPTS="1")
    assert "ModifyInstanceMetadataDefaults" in stands.asked
    assert damaged.returncode in (0, FAILED), damaged.stderr
    assert "Traceback" not in damaged.stderr
    assert user.imdsctl(*apply).returncode == 0
    verified = user.imdsctl("verify", *scope, *where, "--intent", str(intent))
    assert verified.returncode == 0, verified.stdout

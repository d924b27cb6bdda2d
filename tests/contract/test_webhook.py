"""The webhook's notices, read by a plain HTTP server that answers as it is told."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from imdsctl.adapters.webhook import ATTEMPTS_MAX, WAITING_MAX, Webhook
from imdsctl.domain.diagnostics import DiagnosticError


class FakeClock:
    """Does not wait; chance is always half."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def fraction(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Receiver:
    """What came, and what is answered: statuses in order, then 204."""

    def __init__(self) -> None:
        self.came: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[tuple[int, dict[str, str]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.came.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, headers = receiver.statuses.pop(0) if receiver.statuses else (204, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    receiver = Receiver()
    yield receiver
    receiver.close()


def deliver(url: str, *notices: Any, secret: str | None = None) -> tuple[FakeClock, list[tuple[str, str]]]:
    """Send notices and wait for their end; the pauses, and what failed."""
    clock, failed = FakeClock(), []

    async def run() -> None:
        webhook = Webhook(url, secret, clock, lambda *told: failed.append(told))
        for each in notices:
            webhook.send(each)
        await webhook.close()

    asyncio.run(run())
    return clock, failed


def test_a_notice_arrives_signed_with_user_and_password_in_a_header(receiver: Receiver) -> None:
    url = f"http://bot:p%40ss@127.0.0.1:{receiver.port}/hook?token=hush"
    _, failed = deliver(url, {"kind": "round"}, secret="s3cret")
    [(path, headers, body)] = receiver.came
    assert path == "/hook?token=hush"
    assert json.loads(body) == {"kind": "round"}
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "Basic Ym90OnBAc3M="
    assert headers["x-imdsctl-signature"] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert failed == []


def test_without_a_secret_nothing_is_signed_and_notices_keep_their_order(receiver: Receiver) -> None:
    deliver(f"http://127.0.0.1:{receiver.port}/", *({"number": number} for number in range(3)))
    assert [json.loads(body)["number"] for _, _, body in receiver.came] == [0, 1, 2]
    assert "x-imdsctl-signature" not in receiver.came[0][1]


def test_a_receiver_in_trouble_is_asked_again_with_growing_pauses_or_when_it_says(receiver: Receiver) -> None:
    receiver.statuses = [(500, {}), (503, {"Retry-After": "7"}), (429, {"Retry-After": "9999"})]
    clock, failed = deliver(f"http://127.0.0.1:{receiver.port}/", {"kind": "round"})
    assert len(receiver.came) == 4
    assert clock.slept == [0.75, 7.0, 30.0]
    assert failed == []


@pytest.mark.parametrize("status", [301, 400, 403, 404])
def test_a_refusal_and_a_redirect_are_final_and_the_secret_address_is_not_told(receiver: Receiver, status: int) -> None:
    receiver.statuses = [(status, {"Location": f"http://127.0.0.1:{receiver.port}/elsewhere"})]
    _, failed = deliver(f"http://bot:pass@127.0.0.1:{receiver.port}/hush?token=hush", {"kind": "round"})
    assert [path for path, _, _ in receiver.came] == ["/hush?token=hush"]
    assert failed == [("http://127.0.0.1", f"it answered {status}")]


def test_it_gives_up_after_some_attempts(receiver: Receiver) -> None:
    receiver.statuses = [(502, {})] * ATTEMPTS_MAX
    clock, failed = deliver(f"http://127.0.0.1:{receiver.port}/", {"kind": "round"}, {"kind": "next"})
    assert len(clock.slept) == ATTEMPTS_MAX - 1
    assert failed == [("http://127.0.0.1", "it answered 502")]
    assert json.loads(receiver.came[-1][2]) == {"kind": "next"}


def test_nobody_there_is_a_failure_that_names_the_reason(receiver: Receiver) -> None:
    receiver.close()
    _, failed = deliver(f"http://127.0.0.1:{receiver.port}/", {"kind": "round"})
    assert failed == [("http://127.0.0.1", "Connection refused")]
    receiver.thread = threading.Thread(target=lambda: None)
    receiver.thread.start()
    receiver.server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    receiver.server.shutdown = lambda: None  # type: ignore[method-assign]


def test_the_oldest_of_too_many_go_and_the_next_that_arrives_says_how_many(receiver: Receiver) -> None:
    deliver(f"http://127.0.0.1:{receiver.port}/", *({"number": number} for number in range(WAITING_MAX + 3)))
    first = json.loads(receiver.came[0][2])
    assert first == {"number": 3, "dropped": 3}
    assert len(receiver.came) == WAITING_MAX


@pytest.mark.parametrize(
    "url", ["ftp://host/", "https://", "host/path", "http://host:99999/", "http://h/a b", "http://h\n"]
)
def test_what_is_no_address_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        Webhook(url, None, FakeClock(), lambda *told: None)
    assert caught.value.exit_code == 2
    [diagnostic] = caught.value.diagnostics
    assert diagnostic.code == "webhook-invalid"
    assert url not in str(caught.value)

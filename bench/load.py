"""A load generator that is cheaper than the servers it measures: one event loop, raw protocol callbacks.

Every connection has one request in flight; requests are signed anew every second, which is as fine as the date in a
signature is (a server that checks signatures checks every one); every response is checked, so that a fast refusal does
not count as a fast answer. A server that closes the connection after each answer (as moto's does) is reconnected to.
Run as a process of its own: reads one JSON object on stdin, prints one on stdout.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlencode

from bench.measure import cpu_seconds_of
from imdsctl.wire.sigv4 import sign

BUFFER_BYTES = 256 * 1024
ANSWER_SECONDS_MAX = 30.0
CONTENT_TYPE = "application/x-www-form-urlencoded; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go and who signs them."""

    host: str
    port: int
    access_key: str
    secret_key: str
    token: str | None
    region: str


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and what its answer has to contain: `marker` exactly (or at least) `occurrences` times."""

    params: Mapping[str, str]
    marker: str
    occurrences: int
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Volume:
    """How long to ask, and how often at most."""

    connections: int
    seconds: float
    requests_max: int
    warm_up: int = 1


@dataclass(frozen=True, slots=True)
class Rate:
    """What came out. `server_cpu_ms` is the server's CPU time per request, `generator_busy` this process's share."""

    requests: int
    seconds: float
    connections: int
    server_cpu_ms: float
    generator_busy: float
    response_bytes: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


class WrongAnswer(Exception):
    """A server answered something else than the question's answer."""


class Requester:
    """Builds signed requests; only date and signature differ between two of them."""

    def __init__(self, target: Target, question: Question) -> None:
        self._target = target
        self._body = urlencode(question.params).encode()
        self._headers = {"host": f"{target.host}:{target.port}", "content-type": CONTENT_TYPE}
        self._second = 0
        self._signed = b""

    def __call__(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second, self._signed = second, self._sign(second)
        return self._signed

    def _sign(self, second: int) -> bytes:
        target = self._target
        added = sign(
            "POST",
            "/",
            "",
            self._headers,
            self._body,
            access_key=target.access_key,
            secret_key=target.secret_key,
            token=target.token,
            region=target.region,
            service="ec2",
            amz_date=datetime.fromtimestamp(second, UTC).strftime("%Y%m%dT%H%M%SZ"),
        )
        lines = [f"{name}: {value}" for name, value in (self._headers | added).items()]
        head = "\r\n".join(["POST / HTTP/1.1", *lines, f"content-length: {len(self._body)}", "", ""])
        return head.encode() + self._body


class Run:
    """The requests still to send, shared by the connections."""

    def __init__(self, target: Target, question: Question, requests: int, seconds: float) -> None:
        self.target = target
        self.request = Requester(target, question)
        self.marker = question.marker.encode()
        self.question = question
        self.left = requests
        self.done = 0
        self.response_bytes = 0
        self.deadline = time.perf_counter() + seconds
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.in_flight = 0

    def take(self) -> bool:
        """Whether to send one more."""
        if self.left <= 0 or time.perf_counter() >= self.deadline or self.over.done():
            return False
        self.left -= 1
        self.in_flight += 1
        return True

    def finished(self, head: bytes, body: memoryview, occurrences: int) -> None:
        self.in_flight -= 1
        status = head[9:12]
        question = self.question
        right = occurrences >= question.occurrences if question.at_least else occurrences == question.occurrences
        if status != b"200" or not right:
            seen = f"{occurrences} of {question.occurrences} {question.marker}"
            self.fail(f"{status.decode()}: {seen}: {bytes(body[:500]).decode(errors='replace')}")
            return
        self.done += 1
        self.response_bytes = len(body)

    def fail(self, why: str) -> None:
        if not self.over.done():
            self.over.set_exception(WrongAnswer(why))

    def idle(self) -> None:
        """A connection has nothing left to send."""
        if self.in_flight == 0 and not self.over.done():
            self.over.set_result(None)


class Connection(asyncio.BufferedProtocol):
    """One request in flight, over and over."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._transport: asyncio.Transport | None = None
        self._forget()

    def _forget(self) -> None:
        self._filled = 0
        self._body_at = 0
        self._length: int | None = None
        self._waiting = False
        self._reusable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        if self._run.take():
            self._forget()
            self._waiting = True
            self._transport.write(self._run.request())
        else:
            self._transport.close()
            self._run.idle()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._filled == len(self._buffer):
            self._grow(2 * len(self._buffer))
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if not self._body_at and not self._read_head():
            return
        if self._length is not None and self._filled >= self._body_at + self._length:
            self._answered(self._body_at + self._length)

    def _grow(self, size: int) -> None:
        """Make room; the buffer is kept for the answers to come."""
        self._buffer = self._buffer[: self._filled] + bytes(size - self._filled)
        self._view = memoryview(self._buffer)

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, self._filled)
        if end < 0:
            return False
        self._body_at = end + 4
        head = bytes(self._buffer[:end]).lower()
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name == b"content-length":
                self._length = int(value)
            elif name == b"connection" and value.strip() == b"close":
                self._reusable = False
        self._reusable = self._reusable and not head.startswith(b"http/1.0")
        if self._length is not None and self._body_at + self._length > len(self._buffer):
            self._grow(self._body_at + self._length)
        return True

    def _answered(self, end: int) -> None:
        self._waiting = False
        occurrences = self._buffer.count(self._run.marker, self._body_at, end)
        self._run.finished(bytes(self._buffer[: self._body_at]), self._view[self._body_at : end], occurrences)
        if self._reusable:
            self._send()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting and self._body_at and self._length is None:
            self._answered(self._filled)
        elif self._waiting:
            self._run.fail(f"the connection was lost after {self._filled} bytes of an answer ({exc})")
            return
        if not self._reusable:
            self._run.over.get_loop().create_task(self.open(self._run, self))

    @staticmethod
    async def open(run: Run, connection: Connection | None = None) -> None:
        """Connect a new connection, or an old one again."""
        protocol = connection or Connection(run)
        protocol._forget()
        try:
            await run.over.get_loop().create_connection(lambda: protocol, run.target.host, run.target.port)
        except OSError as error:
            run.fail(f"cannot connect: {error}")


async def ask(target: Target, question: Question, volume: Volume, server_pid: int) -> Rate:
    """Warm up, then ask for `volume.seconds` and measure. Raises WrongAnswer."""

    async def volley(requests: int, seconds: float, connections: int) -> Run:
        run = Run(target, question, requests, seconds)
        for _ in range(min(connections, requests)):
            await Connection.open(run)
        try:
            async with asyncio.timeout(seconds + ANSWER_SECONDS_MAX):
                await run.over
        except TimeoutError:
            raise WrongAnswer(f"no answer within {ANSWER_SECONDS_MAX:g} s") from None
        return run

    if volume.warm_up:
        await volley(volume.warm_up, 60, 1)
    server_before, own_before, began = cpu_seconds_of(server_pid), time.process_time(), time.perf_counter()
    run = await volley(volume.requests_max, volume.seconds, volume.connections)
    seconds = time.perf_counter() - began
    return Rate(
        run.done,
        seconds,
        volume.connections,
        (cpu_seconds_of(server_pid) - server_before) * 1000 / run.done,
        (time.process_time() - own_before) / seconds,
        run.response_bytes,
    )


def main() -> int:
    """The process: a job on stdin, its rate (or `error`) on stdout."""
    job: dict[str, Any] = json.load(sys.stdin)
    # Not uvloop: it holds writes back until its turn ends, and server and generator would then wait for each other.
    with asyncio.Runner() as runner:
        try:
            rate = runner.run(
                ask(Target(**job["target"]), Question(**job["question"]), Volume(**job["volume"]), job["server_pid"])
            )
        except WrongAnswer as error:
            print(json.dumps({"error": str(error)}))
            return 1
    print(json.dumps(asdict(rate)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A load generator with a connection per request, as a metadata service serves: epoll and plain sockets.

On loopback a connect is done before it returns, so a request costs its client five system calls and little Python; what
is measured is the server. Every answer is checked. Run as a process of its own: reads one JSON object on stdin, prints
one on stdout.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ANSWER_BYTES_MAX = 64 * 1024
SILENCE_SECONDS_MAX = 10.0


class WrongAnswer(Exception):
    """A server answered something else, or not at all."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What came out. `server_cpu_us` is the server's CPU time per request, `generator_busy` this process's share."""

    requests: int
    seconds: float
    server_cpu_us: float
    p50_ms: float
    p99_ms: float
    generator_busy: float
    answer_bytes: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def cpu_seconds_exactly(pid: int) -> float:
    """The time that a running process's threads had a core, to the nanosecond (the ticks of `stat` are too coarse)."""
    return sum(int(each.read_text().split()[0]) for each in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


class Connection:
    """One request under way."""

    __slots__ = ("answer", "answered", "began", "socket")

    def __init__(self, connected: socket.socket, began: float) -> None:
        self.socket = connected
        self.began = began
        self.answer = b""
        self.answered = False


class Client:
    """Asks the same over and over, `connections` at a time."""

    def __init__(self, port: int, request: bytes, body_bytes: int, connections: int) -> None:
        self._address = ("127.0.0.1", port)
        self._request = request
        self._body_bytes = body_bytes
        self._connections = connections
        self._epoll = select.epoll()
        self._open: dict[int, Connection] = {}
        self.latencies: list[float] = []
        self.answer_bytes = 0

    def run(self, seconds: float) -> None:
        """Ask for so long. Raises WrongAnswer."""
        self.latencies = []
        until = time.perf_counter() + seconds
        while len(self._open) < self._connections:
            self._ask()
        while self._open:
            ready = self._epoll.poll(SILENCE_SECONDS_MAX)
            if not ready:
                raise WrongAnswer(f"no answer within {SILENCE_SECONDS_MAX:g} s")
            for fd, _ in ready:
                if self._ended(self._open[fd]):
                    del self._open[fd]
                    if time.perf_counter() < until:
                        self._ask()

    def _ask(self) -> None:
        began = time.perf_counter()
        connected = socket.socket()
        connected.connect(self._address)
        connected.send(self._request)
        self._open[connected.fileno()] = Connection(connected, began)
        self._epoll.register(connected, select.EPOLLIN)

    def _ended(self, connection: Connection) -> bool:
        """Read what there is. The server closes first, and so keeps the port's TIME_WAIT: we wait for its end."""
        try:
            while data := connection.socket.recv(ANSWER_BYTES_MAX, socket.MSG_DONTWAIT):
                connection.answer += data
                if not connection.answered and self._whole(connection.answer):
                    connection.answered = True
                    self.latencies.append(time.perf_counter() - connection.began)
        except BlockingIOError:
            return False
        if not connection.answered:
            raise WrongAnswer(repr(connection.answer[:300]))
        self.answer_bytes = len(connection.answer)
        connection.socket.close()
        return True

    def _whole(self, answer: bytes) -> bool:
        end = answer.find(b"\r\n\r\n")
        if not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
            raise WrongAnswer(repr(answer[:300]))
        return end >= 0 and len(answer) == end + 4 + self._body_bytes


def ask(port: int, request: bytes, body_bytes: int, connections: int, seconds: float, server_pid: int) -> Rate:
    """Warm up for a fifth of the time, then ask and measure. Raises WrongAnswer, OSError."""
    client = Client(port, request, body_bytes, connections)
    client.run(seconds / 5)
    server_before, own_before, began = cpu_seconds_exactly(server_pid), time.process_time(), time.perf_counter()
    client.run(seconds)
    took = time.perf_counter() - began
    latencies = sorted(client.latencies)
    return Rate(
        len(latencies),
        took,
        (cpu_seconds_exactly(server_pid) - server_before) * 1e6 / len(latencies),
        latencies[len(latencies) // 2] * 1e3,
        latencies[len(latencies) * 99 // 100] * 1e3,
        (time.process_time() - own_before) / took,
        client.answer_bytes,
    )


def main() -> int:
    """The process: a job on stdin, its rate (or `error`) on stdout."""
    job: dict[str, Any] = json.load(sys.stdin)
    job["request"] = job["request"].encode()
    try:
        rate = ask(**job)
    except (WrongAnswer, OSError) as error:
        print(json.dumps({"error": str(error)}))
        return 1
    print(json.dumps(asdict(rate) | {"per_second": rate.per_second}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

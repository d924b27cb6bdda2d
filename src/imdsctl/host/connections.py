"""Connections to the metadata service, from their segments to their calls. Pure: segments and time in, calls out.

The same packet is seen on every interface that it crosses: on a container's veth, on the bridge, on the host's own
interface. Repeated segments are no news to a stream. Where the host translates addresses, the same connection comes
by once more with another client address: it is known by its sequence numbers, and only its first look counts, which is
the one nearest to the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from imdsctl.host.calls import (
    Asked,
    Call,
    Outcome,
    asked,
    body_bytes,
    outcome_of,
    starts_reply,
    starts_request,
    status_of,
)
from imdsctl.host.http_heads import Stream
from imdsctl.host.packets import FIN, RST, SYN, Client, Segment

CONNECTIONS_MAX = 50_000
HELD_BYTES_MAX = 32 * 1024 * 1024
"""Of heads and segments that wait for more, over all connections."""
REQUESTS_WAITING_MAX = 64
"""Of one connection, without an answer."""
IDLE_SECONDS_MAX = 60.0
CLOSING_SECONDS_MAX = 5.0
"""So long may an answer come after the client said that it sends no more, or after a reset."""
ALIAS_SECONDS_MAX = 1.0
"""So soon after its first look a packet comes by with its translated address."""
FINISHED_SECONDS = 2.0
"""So long a finished connection is remembered, for the packets of it that are still to come by elsewhere."""

_SEQUENCE = 0xFFFFFFFF

Owner = TypeVar("Owner")


class Connection(Generic[Owner]):
    """One connection, and its requests that wait for an answer."""

    __slots__ = (
        "_asked",
        "_hop_limited",
        "_hops",
        "_replies",
        "_requests",
        "aliases",
        "client",
        "closing",
        "finished",
        "held_bytes",
        "origin",
        "owner",
        "seen_at",
        "ttl",
    )

    def __init__(self, client: Client, origin: tuple[int, int], ttl: int, owner: Owner) -> None:
        self.client = client
        self.origin = origin
        self.owner = owner
        self.aliases: list[Client] = []
        self.seen_at = 0.0
        self.closing = False
        self.finished = False
        self.held_bytes = 0
        self.ttl = ttl
        self._hops = [0, 0]  # as sent, and with a translated address
        self._hop_limited = False
        self._asked: list[tuple[Asked, float]] = []
        self._requests = Stream(starts_request)
        self._replies = Stream(starts_reply)

    def forwarded(self, segment: Segment, *, translated: bool = False) -> None:
        """A packet of the client's was seen: a TTL lower than its first one tells how far this host forwards it."""
        self._hops[translated] = max(self._hops[translated], self.ttl - segment.ttl)

    def stops_here(self, segment: Segment, *, translated: bool = False) -> bool:
        """True for an answer that this host will drop on its way to the client, because its hop limit is used up."""
        if segment.ttl > self._hops[translated]:
            return False
        # What was let through already comes by once more with the lower TTL, on the other side of this host.
        if segment.size and not self._replies.knows(segment):
            self._hop_limited = True
        return True

    def feed(self, segment: Segment, now: float, calls: list[tuple[Owner, Call]]) -> None:
        """Take a segment of either direction."""
        self.seen_at = now
        if segment.flags & RST:
            # Not all that are sent end a connection: a client resets what an old one of the same port left behind,
            # and anybody may make them up.
            self.closing = True
            return
        if segment.to_service:
            self._requests.feed(segment, lambda head, whole: self._request(head, whole, now, calls))
            self.closing |= bool(segment.flags & FIN)
        else:
            self._replies.feed(segment, lambda head, whole: self._reply(head, whole, calls))
        if self._requests.finished and self._replies.finished:
            self.finish(calls)

    def finish(self, calls: list[tuple[Owner, Call]]) -> None:
        """The connection is over: what was asked and not answered stays so."""
        self._take_unfinished(self.seen_at)
        while self._asked:
            waiting, at = self._asked.pop(0)
            outcome = Outcome.HOP_LIMIT if self._hop_limited else Outcome.NO_ANSWER
            calls.append((self.owner, Call(waiting, outcome, at)))
        self.finished = True
        self._requests.forget()
        self._replies.forget()

    def held_now(self) -> int:
        """How many bytes its streams keep."""
        return self._requests.held_bytes + self._replies.held_bytes

    def _request(self, head: bytes, whole: bool, now: float, calls: list[tuple[Owner, Call]]) -> int | None:
        if not head.strip():  # empty lines before a request
            return 0
        if len(self._asked) >= REQUESTS_WAITING_MAX:
            waiting, at = self._asked.pop(0)
            calls.append((self.owner, Call(waiting, Outcome.NO_ANSWER, at)))
        self._asked.append((asked(head), now))
        return body_bytes(head, is_reply=False) if whole else None

    def _take_unfinished(self, at: float) -> None:
        """A head that never ended, or that was answered before it did, was a request, too."""
        if (head := self._requests.unfinished()).strip():
            self._asked.append((asked(head), at))

    def _reply(self, head: bytes, whole: bool, calls: list[tuple[Owner, Call]]) -> int | None:
        status = status_of(head)
        if status is None:
            return None
        if 100 <= status < 200:
            return 0
        if not self._asked:
            self._take_unfinished(self.seen_at)
        if not self._asked:
            return body_bytes(head, is_reply=True) if whole else None
        request, at = self._asked.pop(0)
        calls.append((self.owner, Call(request, outcome_of(request.kind, status), at)))
        if request.method == "HEAD" or status in (204, 304):
            return 0
        return body_bytes(head, is_reply=True) if whole else None


class Connections(Generic[Owner]):
    """All connections that are seen now. Memory is bounded by the constants above; what gives way is counted.

    `new_owner` is called once for a new connection; what it gives comes back with every call of the connection.
    """

    def __init__(self, new_owner: Callable[[Client], Owner]) -> None:
        self._new_owner = new_owner
        self._connections: dict[Client, Connection[Owner]] = {}
        self._aliases: dict[Client, Connection[Owner]] = {}
        self._origins: dict[tuple[int, int], Connection[Owner]] = {}
        self._held_bytes = 0
        self.given_up = 0
        """Connections that were forgotten early: there were too many, or too much of them waited for its end."""

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, segment: Segment, now: float, calls: list[tuple[Owner, Call]]) -> None:
        """Take a segment, seen at `now` (seconds that never go back); append the calls that are known now."""
        client = segment.client
        connection = self._connections.get(client)
        if connection is None or (
            segment.flags & SYN and segment.to_service and not self._repeats(connection, segment)
        ):
            connection = self._begin(segment, connection, now, calls)
            if connection is None:
                return
        if segment.to_service:
            connection.forwarded(segment)
        elif connection.stops_here(segment):
            return
        if connection.finished:
            return
        connection.feed(segment, now, calls)
        held = connection.held_now()
        if held != connection.held_bytes:
            self._held_bytes += held - connection.held_bytes
            connection.held_bytes = held
            if self._held_bytes > HELD_BYTES_MAX:
                self._make_room(calls)

    def expire(self, now: float, calls: list[tuple[Owner, Call]]) -> None:
        """Finish what has been silent for too long. To be called about once a second."""
        for connection in list(self._connections.values()):
            silent = now - connection.seen_at
            if connection.finished:
                if silent > FINISHED_SECONDS:
                    self._remove(connection)
            elif silent > IDLE_SECONDS_MAX or (connection.closing and silent > CLOSING_SECONDS_MAX):
                connection.finish(calls)

    def finish(self, calls: list[tuple[Owner, Call]]) -> None:
        """Nothing more will be seen."""
        for connection in list(self._connections.values()):
            connection.finish(calls)
            self._remove(connection)

    def _repeats(self, connection: Connection[Owner], segment: Segment) -> bool:
        return connection.origin == _origin(segment)

    def _begin(
        self, segment: Segment, before: Connection[Owner] | None, now: float, calls: list[tuple[Owner, Call]]
    ) -> Connection[Owner] | None:
        """The connection that a segment begins; None: it only is another look at one, or says nothing."""
        client = segment.client
        known = self._aliases.get(client)
        if not segment.to_service:
            if known is not None:
                known.stops_here(segment, translated=True)
            return None
        origin = _origin(segment)
        if known is not None and (not segment.flags & SYN or known.origin == origin):
            known.forwarded(segment, translated=True)
            return None
        elsewhere = self._origins.get(origin)
        if elsewhere is not None and _is_translated(segment, elsewhere, now):
            elsewhere.forwarded(segment, translated=True)
            elsewhere.aliases.append(client)
            self._aliases[client] = elsewhere
            return None
        if not segment.flags & SYN and not segment.size:
            return None
        if before is not None:
            before.finish(calls)
            self._remove(before)
        while len(self._connections) >= CONNECTIONS_MAX:
            self._give_up(next(iter(self._connections.values())), calls)
        connection = Connection(client, origin, segment.ttl, self._new_owner(client))
        connection.seen_at = now
        self._connections[client] = self._origins[origin] = connection
        return connection

    def _make_room(self, calls: list[tuple[Owner, Call]]) -> None:
        for connection in list(self._connections.values()):
            if connection.held_bytes:
                self._give_up(connection, calls)
            if self._held_bytes <= HELD_BYTES_MAX // 2:
                return

    def _give_up(self, connection: Connection[Owner], calls: list[tuple[Owner, Call]]) -> None:
        if not connection.finished:
            self.given_up += 1
            connection.finish(calls)
        self._remove(connection)

    def _remove(self, connection: Connection[Owner]) -> None:
        self._held_bytes -= connection.held_bytes
        connection.held_bytes = 0
        self._connections.pop(connection.client, None)
        for alias in connection.aliases:
            if self._aliases.get(alias) is connection:
                del self._aliases[alias]
        if self._origins.get(connection.origin) is connection:
            del self._origins[connection.origin]


def _is_translated(segment: Segment, connection: Connection[Owner], now: float) -> bool:
    """Another look at a connection: soon after the first, with another address, from a host that forwards it.

    Sequence numbers alone do not tell: at thousands of connections a second two that are alike come every few hours.
    """
    soon = now - connection.seen_at <= ALIAS_SECONDS_MAX
    return soon and segment.client[0] != connection.client[0] and segment.ttl <= connection.ttl


def _origin(segment: Segment) -> tuple[int, int]:
    """Where the client's bytes begin in its sequence numbers: translation of addresses leaves it as it is."""
    return (segment.sequence + (1 if segment.flags & SYN else 0)) & _SEQUENCE, len(segment.client[0])

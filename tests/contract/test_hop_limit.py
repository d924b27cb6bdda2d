"""The hop limit, by the kernel: a token arrives at the limit and never one hop beyond, retransmissions included.

Real packets in network namespaces: the metadata server one hop before the instance, and a program with routers between.
Everything is asked at once, so that one wait of six seconds is a wait for all: what does not arrive is retransmitted
four times meanwhile, and a capture on the instance shows with which TTL. Skipped where the system refuses namespaces,
but never in CI.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest
from tests.contract.needs import with_namespaces

from imdsctl.adapters.metadata_server import MetadataServer, Peer
from imdsctl.domain.options import HttpTokens
from imdsctl.host.bed import INSTANCE, PROGRAM, SERVICE, Bed
from imdsctl.imds.fixed import DEFAULT_OPTIONS, FixedSource, example_credentials, example_facts
from imdsctl.imds.messages import Reply, Request
from imdsctl.imds.service import MetadataService

WAIT_SECONDS = 6.0
RETRANSMISSIONS_MIN = 3
LIMITS = (1, 2, 3, 64)
HOPS = (0, 1, 2)
"""Routers between the instance and the program; without one the program is on the instance."""
IPV4, IPV6 = "169.254.169.254", "fd00:ec2::254"
ALL_PROTOCOLS = 0x0003
ETHERNET_BYTES = 14

PUT = b"PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n"
PUT_WITHOUT_TTL = b"PUT /latest/api/token HTTP/1.1\r\nHost: x\r\n\r\n"
GET = b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: x\r\n\r\n"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Door:
    """Where the server listens: an address, a port, and if one socket is for both families."""

    address: str
    port: int
    both: bool
    limit: int

    def listener(self, bed: Bed) -> socket.socket:
        if not self.both:
            return bed.listen(SERVICE, self.address, self.port)
        listener = bed.socket(SERVICE, socket.AF_INET6)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", self.port))
        return listener


DOORS = [
    Door(address, first + limit, both, limit)
    for address, first, both in ((IPV4, 8000, False), (IPV6, 8000, False), (IPV4, 9000, True))
    for limit in LIMITS
]


@dataclass(frozen=True)
class Question:
    """One request, from one place through one door."""

    request: bytes
    door: Door
    hops: int

    @property
    def arrives(self) -> bool:
        """The instance is the first hop. Only answers to a PUT are limited."""
        return self.request is GET or self.door.limit >= self.hops + 1


QUESTIONS = [
    *(Question(request, door, hops) for request in (PUT, GET) for door in DOORS for hops in HOPS),
    *(Question(PUT_WITHOUT_TTL, door, hops) for door in DOORS if door.limit == 1 for hops in HOPS),
]


@pytest.fixture(scope="module")
def beds() -> Iterator[Sequence[Bed]]:
    """One bed for each number of routers."""
    with ExitStack() as stack:
        yield with_namespaces(lambda: [stack.enter_context(Bed(hops=hops)) for hops in HOPS])


def respond(request: Request, peer: Peer) -> Reply:
    """A service for every port, with the hop limit that the port stands for."""
    limit = peer.local[1] % 1000
    options = replace(DEFAULT_OPTIONS, http_tokens=HttpTokens.OPTIONAL, http_put_response_hop_limit=limit)
    service = MetadataService(FixedSource(options, example_facts(), example_credentials), b"key")
    return service.respond(request, time.time())


async def answer(bed: Bed, question: Question) -> bytes:
    """What arrives within the wait."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in question.door.address else socket.AF_INET
    arrived = b""
    with bed.socket(PROGRAM, family) as client:
        client.setblocking(False)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await loop.sock_connect(client, (question.door.address, question.door.port))
                await loop.sock_sendall(client, question.request)
                while data := await loop.sock_recv(client, 4096):
                    arrived += data
        except TimeoutError:
            pass
    return arrived


async def ask(beds: Sequence[Bed], questions: Sequence[Question]) -> list[bytes]:
    """All at once, of one server that listens in every bed."""
    server = MetadataServer(respond)
    await server.start([door.listener(bed) for bed in beds for door in DOORS])
    try:
        return await asyncio.gather(*(answer(beds[each.hops], each) for each in questions))
    finally:
        await server.close()


@dataclass(frozen=True)
class Captured:
    """A packet with a token answer in it."""

    port: int
    ttl: int


def captured(sniffer: socket.socket) -> list[Captured]:
    """The packets of answers to a PUT that a capture has seen."""
    seen = []
    while True:
        try:
            frame, address = sniffer.recvfrom(65536)
        except BlockingIOError:
            return seen
        if address[2] == socket.PACKET_OUTGOING:
            continue
        packet = frame[ETHERNET_BYTES:]
        ipv6 = packet[0] >> 4 == 6
        header_bytes = 40 if ipv6 else (packet[0] & 15) * 4
        segment = packet[header_bytes:]
        if b"X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 60" in segment:
            seen.append(Captured(int.from_bytes(segment[:2], "big"), packet[7] if ipv6 else packet[8]))


def sniffer(bed: Bed, place: str) -> socket.socket:
    """A capture of everything that a place sees."""
    made = bed.socket(place, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    made.setblocking(False)
    return made


def test_a_token_arrives_at_the_limit_and_never_one_hop_beyond(beds: Sequence[Bed]) -> None:
    with sniffer(beds[1], INSTANCE) as on_instance, sniffer(beds[1], PROGRAM) as on_program:
        answers = asyncio.run(ask(beds, QUESTIONS))
        forwarded, reached = captured(on_instance), captured(on_program)
    for question, arrived in zip(QUESTIONS, answers, strict=True):
        status = b"HTTP/1.1 400" if question.request is PUT_WITHOUT_TTL else b"HTTP/1.1 200"
        if question.arrives:
            assert arrived.startswith(status), question
        else:
            assert arrived == b"", question
    # One router beyond the limit: nothing of a token was on the wire there, and it was sent again and again.
    beyond = {door.port for door in DOORS if door.limit == 1}
    assert len(beyond) == 2
    assert not [packet for packet in reached if packet.port in beyond]
    assert {packet.port for packet in reached} == {door.port for door in DOORS} - beyond
    for port in beyond:
        ttls = [packet.ttl for packet in forwarded if packet.port == port]
        assert set(ttls) == {1}
        assert len(ttls) > RETRANSMISSIONS_MIN


def test_the_distance_of_a_client_is_read_from_its_first_packet(beds: Sequence[Bed]) -> None:
    """What `run` uses to say where a call came from."""
    asked: list[tuple[int | None, str]] = []

    def seen(peer: Peer, request: Request | None, reply: Reply) -> None:
        asked.append((peer.distance, peer.address[0]))

    async def run() -> None:
        server = MetadataServer(respond, seen=seen, distances=True)
        doors = [door for door in DOORS if door.limit == 64]
        await server.start([door.listener(bed) for bed in beds for door in doors])
        for hops, bed in enumerate(beds):
            for door in doors:
                await answer(bed, Question(GET, door, hops))
        await server.close()

    asyncio.run(run())
    distances = [distance for distance, _ in asked]
    assert distances == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert not [address for _, address in asked if address.startswith("::ffff:")]

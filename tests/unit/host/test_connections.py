"""From packets to calls, whatever the packets: no socket, no clock."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.host.packet_maker import ACK, FIN, RST, SYN, Talk, ip, tcp

from imdsctl.host import connections as bounds
from imdsctl.host.calls import Call
from imdsctl.host.connections import Connections
from imdsctl.host.packets import DATAGRAMS_MAX, Client, Decoder

CASES = json.loads((Path(__file__).resolve().parents[2] / "cases" / "trace" / "calls.json").read_text())
V1 = b"GET /latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n"
V2 = b"GET /latest/meta-data/ HTTP/1.1\r\nX-aws-ec2-metadata-token: AQAEA\r\n\r\n"
PUT = b"PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n"


def reply(status: int = 200, body: bytes = b"ok") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body)


class Listener:
    """Decoder and connections, with every call that came out."""

    def __init__(self) -> None:
        self.decoder = Decoder()
        self.connections: Connections[Client] = Connections(lambda client: client)
        self.calls: list[tuple[Client, Call]] = []
        self.now = 1_000.0

    def hear(self, packets: Iterable[bytes]) -> Listener:
        for packet in packets:
            segment = self.decoder.decode(packet)
            if segment is not None:
                self.connections.add(segment, self.now, self.calls)
        return self

    def later(self, seconds: float) -> Listener:
        self.now += seconds
        self.connections.expire(self.now, self.calls)
        return self

    def end(self) -> list[str]:
        self.connections.finish(self.calls)
        return self.said

    @property
    def said(self) -> list[str]:
        return [f"{call.asked.kind} {call.outcome} {call.asked.path}" for _, call in self.calls]


V1_ANSWERED = "v1 answered /latest/meta-data/"
V2_ANSWERED = "v2 answered /latest/meta-data/"
TOKEN_ANSWERED = "token answered /latest/api/token"


@pytest.mark.parametrize("client", ["10.0.0.9", "fd00::9"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_call_is_what_it_was(case: dict[str, object], client: str) -> None:
    request = str(case["request"]).encode()
    status = case["status"]
    assert isinstance(status, int)
    assert Listener().hear(Talk(client).call(request, reply(status))).said == [case["is"]]


def test_a_call_is_known_when_its_answer_came_and_not_before() -> None:
    talk, listener = Talk(), Listener()
    assert listener.hear([*talk.begin(), talk.to(V1)]).said == []
    assert listener.hear([talk.back(reply())]).said == [V1_ANSWERED]
    assert listener.hear(talk.end()).end() == [V1_ANSWERED]


def test_every_split_of_a_request_is_the_same_request() -> None:
    for cut in range(1, len(V2)):
        talk = Talk()
        packets = [*talk.begin(), talk.to(V2[:cut]), talk.to(V2[cut:]), talk.back(reply()), *talk.end()]
        assert Listener().hear(packets).said == [V2_ANSWERED], cut


def test_an_answer_in_pieces_is_one_answer() -> None:
    for cut in range(1, len(reply())):
        talk = Talk()
        answer = reply(401)
        packets = [*talk.begin(), talk.to(V1), talk.back(answer[:cut]), talk.back(answer[cut:]), *talk.end()]
        assert Listener().hear(packets).said == ["v1 refused /latest/meta-data/"], cut


def test_only_the_beginning_of_a_long_answer_is_captured() -> None:
    talk = Talk()
    first, second = reply(body=b"x" * 3000), reply(401)
    packets = [*talk.begin(), talk.to(V1), talk.back(first)[:1024], talk.to(V1), talk.back(second), *talk.end()]
    assert Listener().hear(packets).said == [V1_ANSWERED, "v1 refused /latest/meta-data/"]


@given(st.randoms(use_true_random=False), st.lists(st.integers(1, 60), min_size=1, max_size=12))
@settings(max_examples=200)
def test_segments_in_any_order_and_repeated_are_the_same_calls(chance: random.Random, cuts: list[int]) -> None:
    talk = Talk()
    begin = list(talk.begin())
    stream, pieces = V1 + PUT + V2, []
    while stream:
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(talk.to(stream[:size]))
        stream = stream[size:]
    pieces += chance.choices(pieces, k=3)
    chance.shuffle(pieces)
    if len(pieces) > 30:  # more early segments than are kept: covered by the next test
        pieces = sorted(pieces, key=lambda piece: (int.from_bytes(piece[24:28], "big") - 0xFFFFFFF0) & 0xFFFFFFFF)
    listener = Listener().hear([*begin, *pieces])
    assert listener.hear([talk.back(reply() + reply() + reply()), *talk.end()]).said == [
        V1_ANSWERED,
        TOKEN_ANSWERED,
        V2_ANSWERED,
    ]


def test_after_a_gap_the_next_request_is_seen() -> None:
    talk = Talk()
    packets = [*talk.begin()]
    talk.to(V1)  # never captured
    packets += [talk.to(V2) for _ in range(40)]
    said = Listener().hear(packets).end()
    assert said.count("v2 no-answer /latest/meta-data/") == 40


def test_requests_that_are_kept_alive_or_pipelined_are_told_apart() -> None:
    talk = Talk()
    packets = [*talk.begin(), talk.to(V1 + V2), talk.back(reply(401) + reply(200)), talk.to(PUT), talk.back(reply())]
    assert Listener().hear(packets).end() == ["v1 refused /latest/meta-data/", V2_ANSWERED, TOKEN_ANSWERED]


def test_a_connection_that_is_older_than_the_trace_is_understood_from_its_next_request_on() -> None:
    talk = Talk()
    packets = [talk.back(b"rest of a body"), talk.to(b"rest of a head\r\n\r\n"), talk.to(V1), talk.back(reply())]
    assert Listener().hear(packets).said == [V1_ANSWERED]


def test_a_continue_is_no_answer() -> None:
    talk = Talk()
    packets = [*talk.begin(), talk.to(PUT), talk.back(b"HTTP/1.1 100 Continue\r\n\r\n"), talk.back(reply(417))]
    assert Listener().hear(packets).said == ["token refused /latest/api/token"]


def test_an_answer_to_head_has_no_body() -> None:
    talk = Talk()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    packets = [*talk.begin(), talk.to(b"HEAD / HTTP/1.1\r\n\r\n"), talk.back(head), talk.to(V1), talk.back(reply())]
    assert Listener().hear(packets).said == ["v1 answered /", V1_ANSWERED]


# --- the same packet on several interfaces --------------------------------------------------------------------------


def test_a_packet_that_crosses_three_interfaces_is_one_packet() -> None:
    packets = [each for packet in Talk().call(V1, reply()) for each in [packet] * 3]
    assert Listener().hear(packets).end() == [V1_ANSWERED]


def test_a_connection_behind_address_translation_is_one_connection_with_its_inner_address() -> None:
    inner = Talk("172.17.0.2", 40_000).call(V1, reply())
    outer = Talk("10.0.0.9", 50_001, ttl=63).call(V1, reply())
    there = [each for pair in zip(inner[:1] + inner[2:3], outer[:1] + outer[2:3], strict=True) for each in pair]
    back = [each for pair in zip(outer[3:], inner[3:], strict=True) for each in pair]
    listener = Listener().hear([there[0], there[1], outer[1], inner[1], there[2], there[3], *back])
    assert listener.end() == [V1_ANSWERED]
    assert [client for client, _ in listener.calls] == [(bytes([172, 17, 0, 2]), 40_000)]


def test_the_same_sequence_number_much_later_is_another_connection() -> None:
    listener = Listener().hear([Talk("10.0.0.9").to(flags=SYN)]).later(bounds.ALIAS_SECONDS_MAX + 0.1)
    assert listener.hear(Talk("10.0.0.8").call(V1, reply())).said == [V1_ANSWERED]


def test_two_connections_of_one_address_with_the_same_sequence_number_are_two() -> None:
    first, second = Talk(port=40_000), Talk(port=40_001)
    packets = [*first.begin(), *second.begin(), first.to(V1), second.to(V2), first.back(reply()), second.back(reply())]
    assert Listener().hear(packets).said == [V1_ANSWERED, V2_ANSWERED]


def test_the_same_port_again_is_a_new_connection() -> None:
    first, second = Talk(), Talk(sent=77, answered=99)
    assert Listener().hear([*first.call(V1, reply()), *second.call(V2, reply())]).said == [V1_ANSWERED, V2_ANSWERED]


@pytest.mark.parametrize("translated", [False, True], ids=["routed", "translated"])
def test_an_answer_whose_hop_limit_is_used_up_here_did_not_arrive(translated: bool) -> None:
    inside, outside = Talk("172.17.0.2"), Talk("10.0.0.9" if translated else "172.17.0.2", ttl=63)
    packets = []
    for talk in (inside, outside):
        packets.append(talk.to(flags=SYN))
    packets += [outside.back(flags=SYN | ACK), inside.back(flags=SYN | ACK, ttl=63), inside.to(PUT), outside.to(PUT)]
    packets += [outside.back(reply(), ttl=1)]
    assert Listener().hear(packets).end() == ["token hop-limit /latest/api/token"]


@pytest.mark.parametrize("translated", [False, True], ids=["routed", "translated"])
def test_an_answer_with_one_hop_to_spare_arrives(translated: bool) -> None:
    inside, outside = Talk("172.17.0.2"), Talk("10.0.0.9" if translated else "172.17.0.2", ttl=63)
    packets = [inside.to(flags=SYN), outside.to(flags=SYN)]
    packets += [outside.back(flags=SYN | ACK), inside.back(flags=SYN | ACK, ttl=63), inside.to(PUT), outside.to(PUT)]
    packets += [outside.back(reply(), ttl=2), inside.back(reply(), ttl=1)]
    packets += [inside.to(V1), outside.to(V1)]
    assert Listener().hear(packets).end() == [TOKEN_ANSWERED, "v1 no-answer /latest/meta-data/"]


def test_a_client_on_the_host_itself_gets_an_answer_with_hop_limit_one() -> None:
    talk = Talk()
    packets = [*talk.begin(), talk.to(PUT), talk.back(reply(), ttl=1)]
    assert Listener().hear(packets).said == [TOKEN_ANSWERED]


def test_client_and_service_may_have_the_same_address() -> None:
    assert Listener().hear(Talk("169.254.169.254").call(V1, reply())).said == [V1_ANSWERED]


# --- how connections end --------------------------------------------------------------------------------------------


def test_a_reset_leaves_the_request_without_an_answer() -> None:
    talk = Talk()
    packets = [*talk.begin(), talk.to(V1), talk.back(flags=RST)]
    listener = Listener().hear(packets).later(bounds.CLOSING_SECONDS_MAX + 1)
    assert listener.said == ["v1 no-answer /latest/meta-data/"]


def test_a_reset_that_does_not_end_the_connection_hides_nothing() -> None:
    talk = Talk()
    packets = [talk.to(flags=SYN), Talk(sent=5).to(flags=RST)]
    talk.sent -= 1
    assert Listener().hear([*packets, *talk.call(V1, reply())]).said == [V1_ANSWERED]


def test_a_client_that_gives_up_got_no_answer() -> None:
    talk, listener = Talk(), Listener()
    listener.hear([*talk.begin(), talk.to(PUT), talk.to(flags=FIN | ACK)])
    assert listener.later(1).said == []
    assert listener.later(bounds.CLOSING_SECONDS_MAX).said == ["token no-answer /latest/api/token"]


def test_silence_ends_a_connection_and_then_nothing_of_it_is_kept() -> None:
    talk, listener = Talk(), Listener()
    listener.hear([*talk.begin(), talk.to(V1)])
    assert listener.later(bounds.IDLE_SECONDS_MAX + 1).said == ["v1 no-answer /latest/meta-data/"]
    assert len(listener.later(bounds.FINISHED_SECONDS + 1).connections) == 0


def test_a_head_that_never_ends_is_a_request_too() -> None:
    talk = Talk()
    packets = [*talk.begin(), talk.to(b"GET /slow HTTP/1.1\r\nX-aws-ec2-meta"), *talk.end()]
    assert Listener().hear(packets).said == ["v1 no-answer /slow"]


# --- packets of every shape -----------------------------------------------------------------------------------------


def test_vlan_tags_are_skipped() -> None:
    inner, outer = bytes.fromhex("00050800"), bytes.fromhex("600581000005") + bytes.fromhex("0800")
    for tag in (inner, outer, bytes.fromhex("40050800")):
        assert Listener().hear(tag + packet for packet in Talk().call(V1, reply())).said == [V1_ANSWERED], tag


def test_ipv6_extension_headers_are_skipped() -> None:
    def with_extensions(packet: bytes) -> bytes:
        content = bytes([60, 0]) + bytes(6) + bytes([6, 1]) + bytes(14) + packet[40:]
        return packet[:4] + len(content).to_bytes(2, "big") + bytes([0]) + packet[7:40] + content

    assert Listener().hear(map(with_extensions, Talk("fd00::9").call(V1, reply()))).said == [V1_ANSWERED]


def fragments(packet: bytes, size: int) -> list[bytes]:
    content = packet[20:]
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    return [
        packet[:2]
        + (20 + len(piece)).to_bytes(2, "big")
        + packet[4:6]
        + (at * size // 8 | (0x2000 if at < len(pieces) - 1 else 0)).to_bytes(2, "big")
        + packet[8:20]
        + piece
        for at, piece in enumerate(pieces)
    ]


@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
def test_fragments_are_put_together(backwards: bool) -> None:
    packets = [each for packet in Talk().call(V2, reply()) for each in fragments(packet, 24)[:: -1 if backwards else 1]]
    assert Listener().hear(packets).said == [V2_ANSWERED]


def test_ipv6_fragments_are_put_together() -> None:
    def cut(number: int, packet: bytes) -> Iterable[bytes]:
        content = packet[40:]
        for at in range(0, len(content), 24):
            more = at + 24 < len(content)
            piece = bytes([6, 0]) + (at | more).to_bytes(2, "big") + number.to_bytes(4, "big") + content[at : at + 24]
            yield packet[:4] + len(piece).to_bytes(2, "big") + bytes([44]) + packet[7:40] + piece

    packets = [each for number, packet in enumerate(Talk("fd00::9").call(V2, reply())) for each in cut(number, packet)]
    assert Listener().hear(packets).said == [V2_ANSWERED]


def test_padding_behind_a_packet_is_not_content() -> None:
    assert Listener().hear(packet + bytes(6) for packet in Talk().call(V1, reply())).said == [V1_ANSWERED]


@pytest.mark.parametrize(
    "packet",
    [
        ip("10.0.0.9", "169.254.169.254", tcp(40_000, 443, 1, SYN)),
        ip("10.0.0.9", "169.254.169.253", tcp(40_000, 80, 1, SYN)),
        ip("10.0.0.9", "169.254.169.254", tcp(40_000, 80, 1, SYN), protocol=17),
        ip("fd00::9", "fd00:ec2::253", tcp(40_000, 80, 1, SYN)),
        ip("169.254.169.254", "10.0.0.9", tcp(8080, 80, 1, SYN)),
    ],
    ids=["another port", "another address", "UDP", "another IPv6 address", "port 80 of somebody else"],
)
def test_what_is_not_the_metadata_service_is_none_of_our_business(packet: bytes) -> None:
    assert Decoder().decode(packet) is None


# --- any bytes, bounded memory --------------------------------------------------------------------------------------

ADDRESSES = st.sampled_from(["169.254.169.254", "10.0.0.9", "fd00:ec2::254", "fd00::9"])


@st.composite
def hostile_packets(draw: st.DrawFn) -> bytes:
    version = draw(st.sampled_from([4, 6]))
    client, service = ("10.0.0.9", "169.254.169.254") if version == 4 else ("fd00::9", "fd00:ec2::254")
    content = tcp(
        draw(st.sampled_from([80, 40_000, 40_001])),
        draw(st.sampled_from([80, 40_000])),
        draw(st.sampled_from([0, 1, 2**31, 2**32 - 1])) + draw(st.integers(0, 40)),
        draw(st.integers(0, 255)),
        draw(st.one_of(st.binary(max_size=60), st.sampled_from([V1, V2, PUT, reply(), V1[:9], b"\r\n", b"\n\n"]))),
    )
    ends = (client, service) if draw(st.booleans()) else (service, client)
    packet = bytearray(
        ip(*ends, content, ttl=draw(st.integers(0, 255)), place=draw(st.sampled_from([0, 0x2000, 3, 0x1FFF])))
    )
    for _ in range(draw(st.integers(0, 3))):
        packet[draw(st.integers(0, len(packet) - 1))] = draw(st.integers(0, 255))
    return bytes(packet[: draw(st.integers(0, len(packet)))] if draw(st.booleans()) else packet)


@given(st.lists(st.one_of(st.binary(max_size=80), hostile_packets()), max_size=40))
@settings(max_examples=300)
def test_no_bytes_raise_and_every_call_can_be_printed(packets: list[bytes]) -> None:
    listener = Listener().hear(packets).later(1)
    listener.end()
    for _, call in listener.calls:
        assert call.asked.path.isprintable()
        assert len(call.asked.path) <= 200


def test_memory_is_bounded_by_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "CONNECTIONS_MAX", 100)
    listener = Listener()
    for port in range(1024, 2048):
        listener.hear([Talk(port=port, sent=port * 1000).to(flags=SYN)])
    assert len(listener.connections) == 100
    assert listener.connections.given_up == 924


def test_memory_is_bounded_by_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "HELD_BYTES_MAX", 100_000)
    listener = Listener()
    for port in range(1024, 1124):
        talk = Talk(port=port, sent=port * 100_000)
        listener.hear([*talk.begin(), *(talk.to(b"X" * 1400) for _ in range(11))])
    held = listener.connections._held_bytes
    assert held <= 100_000
    assert held == sum(each.held_now() for each in listener.connections._connections.values())
    assert listener.connections.given_up > 80
    listener.connections.finish(listener.calls)
    assert listener.connections._held_bytes == 0
    assert listener.connections._origins == listener.connections._aliases == {}


def test_memory_is_bounded_by_fragments() -> None:
    decoder = Decoder()
    for number in range(1000):
        packet = bytearray(ip("10.0.0.9", "169.254.169.254", bytes(1200), place=0x2000))
        packet[4:6] = number.to_bytes(2, "big")
        assert decoder.decode(bytes(packet)) is None
    assert len(decoder._datagrams) == DATAGRAMS_MAX


def test_a_head_without_end_is_cut() -> None:
    talk = Talk()
    packets = [*talk.begin(), *(talk.to(b"GET /long HTTP/1.1\r\n" + b"X: y\r\n" * 200) for _ in range(30))]
    listener = Listener().hear(packets)
    assert listener.connections._held_bytes <= 32 * 1024
    assert set(listener.hear([talk.back(reply(400))]).end()) == {"v1 answered /long", "v1 no-answer /long"}

"""Request heads: what is read is read as others read it, and everything else is refused.

The other end is httptools (llhttp, the parser of Node.js): a head that both take must say the same to both.
"""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imdsctl.imds.messages import Request
from imdsctl.imds.wire import BODY_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_COUNT_MAX, BadRequest, read_head

PUT = (
    b"PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n"
    b"X-aws-ec2-metadata-token-ttl-seconds:  21600\t\r\nContent-Length: 3\r\n\r\n"
)


class Other:
    """What httptools makes of a head. What follows the head is not asked for."""

    def __init__(self, head: bytes) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            self.complete = False

    @property
    def method(self) -> str:
        return str(self._parser.get_method().decode())

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


NAMES = st.sampled_from(
    [
        *(b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"X-Forwarded-For", b"x_y"),
        *(b"X-aws-ec2-metadata-token", b"X-aws-ec2-metadata-token-ttl-seconds", b"Host", b"A"),
    ]
)
SEPARATORS = st.sampled_from([b":", b": ", b":\t", b": \t "])
VALUES = st.sampled_from([b"", b"a", b"0", b"3", b"a:b", b"3 ", b"a\t b", b"close", b"\xff", b"21600"])
ODD = st.sampled_from(
    [
        *(
            b" ",
            b"\t",
            b":",
            b",",
            b"\r",
            b"\n",
            b"\r\n",
            b"\r\n ",
            b"\0",
            b"\x7f",
            b"\x80",
            b"+",
            b"-",
            b"0x",
            b"chunked",
        ),
        *(
            b"GET",
            b"/",
            b"HTTP/1.1",
            b"HTTP/2.0",
            b"Content-Length",
            b"Content-Length: 5",
            b"Transfer-Encoding: chunked",
        ),
    ]
)
FIRST_LINES = st.sampled_from([PUT[:30], b"GET /a?b#c HTTP/1.0", b"HEAD http://a/b HTTP/1.1", b"OPTIONS * HTTP/1.1"])
LINES = st.lists(st.builds(lambda name, mark, value: name + mark + value, NAMES, SEPARATORS, VALUES), max_size=4)
RIGHT = st.builds(lambda first, lines: b"\r\n".join([first, *lines, b"", b""]), FIRST_LINES, LINES)
"""Mostly heads that are right, so that both parsers have something to say."""
WRONG = st.builds(
    lambda head, at, odd: head[: at % len(head)] + odd + head[at % len(head) :], RIGHT, st.integers(0), ODD
)
"""The same with something odd in them."""
HEADS = RIGHT | WRONG


@given(HEADS)
@example(PUT)
@example(b"GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n")
@example(PUT[:30] + b"\r\nContent-Length:3\r\nExpect:\r\n\r\n")
def test_whatever_is_read_says_the_same_to_another_parser(head: bytes) -> None:
    try:
        read = read_head(head)
    except BadRequest:
        return
    if read is None:
        return
    request, taken = read
    other = Other(head[: head.index(b"\r\n\r\n") + 4])
    if not other.complete:
        return  # the other is stricter in places, with methods for instance
    assert (request.method, request.target, list(request.headers)) == (other.method, other.target, other.headers)
    # A client that says `Expect` sends no body before it has an answer.
    expects = any(name == b"expect" for name, _ in other.headers)
    lengths = [int(value) for name, value in other.headers if name == b"content-length" and not expects]
    assert taken == head.index(b"\r\n\r\n") + 4 + sum(lengths)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_none_or_refused(data: bytes) -> None:
    try:
        read = read_head(data + b"\r\n\r\n")
    except BadRequest:
        return
    assert read is not None


@given(HEADS | st.just(PUT), st.binary(max_size=20))
def test_what_follows_a_head_changes_nothing(head: bytes, more: bytes) -> None:
    try:
        read = read_head(head)
    except BadRequest:
        with pytest.raises(BadRequest):
            read_head(head + more)
    else:
        assert read_head(head + more) == read


def test_a_head_is_read_when_its_last_byte_is_there() -> None:
    for length in range(len(PUT)):
        assert read_head(PUT[:length]) is None
    assert read_head(PUT, ipv6=True) == (
        Request(
            "PUT",
            b"/latest/api/token",
            [
                (b"host", b"169.254.169.254"),
                (b"x-aws-ec2-metadata-token-ttl-seconds", b"21600"),
                (b"content-length", b"3"),
            ],
            True,
        ),
        len(PUT) + 3,
    )


def head_of(*, bytes_in_all: int) -> bytes:
    start = b"GET / HTTP/1.1\r\nA: "
    return start + b"b" * (bytes_in_all - len(start)) + b"\r\n\r\n"


def test_a_head_may_be_as_long_as_the_limit_and_no_longer() -> None:
    assert read_head(head_of(bytes_in_all=HEAD_BYTES_MAX)) is not None
    with pytest.raises(BadRequest):
        read_head(head_of(bytes_in_all=HEAD_BYTES_MAX + 1))
    with pytest.raises(BadRequest):
        read_head(b"x" * (HEAD_BYTES_MAX + len(b"\r\n\r\n")))


def test_so_many_headers_and_such_a_body_and_no_more() -> None:
    def with_headers(count: int) -> bytes:
        return b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * count + b"\r\n"

    def with_body(length: int) -> bytes:
        return b"GET / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % length

    assert read_head(with_headers(HEADERS_COUNT_MAX)) is not None
    assert read_head(with_body(BODY_BYTES_MAX)) is not None
    for beyond in (with_headers(HEADERS_COUNT_MAX + 1), with_body(BODY_BYTES_MAX + 1)):
        with pytest.raises(BadRequest):
            read_head(beyond)

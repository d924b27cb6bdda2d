"""Answers as bytes: status line, headers and body in one piece, with the headers that EC2's server sends.

Their order is the observed one: the answers of the token path and those without a body end with `Content-Type`, those
of the tree begin with it.
"""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from typing import NamedTuple

from imdsctl.imds.pages import error_page

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Not Allowed",  # so EC2's server spells it
    417: "Expectation Failed",
}

TEXT = b"text/plain"
BYTES = b"application/octet-stream"

WITH_PAGE = frozenset({400, 401, 404})
"""Statuses whose answers come with a page (401 and 404 were observed); the others were observed with an empty body."""

_OK = b"HTTP/1.1 200 OK\r\n"
_SERVER = b"\r\nServer: EC2ws\r\nConnection: close\r\n"
_SERVER_LAST = _SERVER + b"\r\n"
_SERVER_THEN_TEXT = _SERVER + b"Content-Type: text/plain\r\n\r\n"


class Content(NamedTuple):
    """Something of the tree, with the headers that do not change from one answer to the next."""

    headers: bytes
    body: bytes


def content(body: bytes, kind: bytes, modified: int) -> Content:
    """A body with its content type and the time of its last change, in seconds since 1970."""
    headers = b"Content-Type: %b\r\nAccept-Ranges: none\r\nLast-Modified: %b\r\nContent-Length: %d\r\nDate: " % (
        kind,
        http_date(modified),
        len(body),
    )
    return Content(headers, body)


def found(shown: Content, now: float, *, ttl: int | None = None, head: bool = False) -> bytes:
    """200 with something of the tree. `ttl` is what a token has left, in seconds; `head` leaves the body out."""
    return b"".join(
        (
            _OK,
            b"" if ttl is None else b"X-Aws-Ec2-Metadata-Token-Ttl-Seconds: %d\r\n" % ttl,
            shown.headers,
            http_date(int(now)),
            _SERVER_LAST,
            b"" if head else shown.body,
        )
    )


def token(given: bytes, now: float, ttl: int) -> bytes:
    """200 with a token."""
    return b"%bX-Aws-Ec2-Metadata-Token-Ttl-Seconds: %d\r\nContent-Length: %d\r\nDate: %b%b%b" % (
        _OK,
        ttl,
        len(given),
        http_date(int(now)),
        _SERVER_THEN_TEXT,
        given,
    )


def allowed(methods: bytes, now: float) -> bytes:
    """The answer to OPTIONS: the methods, and nothing that would let a browser's page of another origin go on."""
    return b"%bAllow: %b\r\nContent-Length: 0\r\nDate: %b%b" % (_OK, methods, http_date(int(now)), _SERVER_THEN_TEXT)


def refusal(status: int, now: float, *, allow: bytes | None = None, head: bool = False) -> bytes:
    """Any other answer. `allow` lists the methods of a 405."""
    if status in WITH_PAGE:
        line, page = _page(status)
        return b"%bContent-Type: text/html\r\nContent-Length: %d\r\nDate: %b%b%b" % (
            line,
            len(page),
            http_date(int(now)),
            _SERVER_LAST,
            b"" if head else page,
        )
    return b"%b%bContent-Length: 0\r\nDate: %b%b" % (
        _page(status)[0],
        b"" if allow is None else b"Allow: %b\r\n" % allow,
        http_date(int(now)),
        _SERVER_THEN_TEXT,
    )


@lru_cache(maxsize=64)
def http_date(second: int) -> bytes:
    """`Tue, 03 Mar 2026 10:00:00 GMT` of a second since 1970."""
    return formatdate(second, usegmt=True).encode()


@lru_cache
def _page(status: int) -> tuple[bytes, bytes]:
    """Status line and page."""
    return f"HTTP/1.1 {status} {REASONS[status]}\r\n".encode(), error_page(status, REASONS[status])

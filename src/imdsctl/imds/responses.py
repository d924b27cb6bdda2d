"""Answers as bytes: status line, headers and body in one piece, with the headers that EC2's server sends."""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache

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
"""Statuses whose answers were observed with a page; the others came with an empty body."""


@lru_cache(maxsize=64)
def http_date(second: int) -> bytes:
    """`Tue, 03 Mar 2026 10:00:00 GMT` of a second since 1970."""
    return formatdate(second, usegmt=True).encode()


def ok(
    body: bytes,
    now: float,
    *,
    kind: bytes = TEXT,
    modified: int | None = None,
    ttl: int | None = None,
    head: bool = False,
) -> bytes:
    """A 200. `modified` is in seconds since 1970; `ttl` what a token has left; `head` leaves the body out."""
    return b"".join(
        (
            b"HTTP/1.1 200 OK\r\n",
            b"" if ttl is None else b"X-Aws-Ec2-Metadata-Token-Ttl-Seconds: %d\r\n" % ttl,
            b"Content-Type: %b\r\n" % kind,
            b"" if modified is None else b"Accept-Ranges: none\r\nLast-Modified: %b\r\n" % http_date(modified),
            b"Content-Length: %d\r\nDate: %b\r\nServer: EC2ws\r\nConnection: close\r\n\r\n"
            % (len(body), http_date(int(now))),
            b"" if head else body,
        )
    )


def refusal(status: int, now: float, *, allow: bytes | None = None, head: bool = False) -> bytes:
    """Any other answer. `allow` lists the methods of a 405."""
    body, kind = (_page(status), b"text/html") if status in WITH_PAGE else (b"", TEXT)
    return b"".join(
        (
            _status_line(status),
            b"" if allow is None else b"Allow: %b\r\n" % allow,
            b"Content-Type: %b\r\nContent-Length: %d\r\nDate: %b\r\nServer: EC2ws\r\nConnection: close\r\n\r\n"
            % (kind, len(body), http_date(int(now))),
            b"" if head else body,
        )
    )


@lru_cache
def _page(status: int) -> bytes:
    return error_page(status, REASONS[status])


@lru_cache
def _status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {REASONS[status]}\r\n".encode()

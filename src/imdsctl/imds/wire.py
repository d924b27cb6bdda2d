"""HTTP/1.1 request heads, read strictly: what two readers could understand differently is refused.

A metadata service stands at the end of whatever an attacker could put between: everything that request smuggling lives
on (bare line feeds, folded lines, a space before the colon, two lengths, chunked bodies) is a 400 here.
"""

from __future__ import annotations

import re

from imdsctl.imds.messages import Request

HEAD_BYTES_MAX = 16 * 1024
HEADERS_COUNT_MAX = 100
BODY_BYTES_MAX = 16 * 1024
"""A body is read and ignored: no request of the metadata service has one, but some clients send `Content-Length`."""

END = b"\r\n\r\n"

_LINE = re.compile(rb"([!-~]+) ([!-~\x80-\xff]+) HTTP/1\.[01]")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class BadRequest(ValueError):
    """Not a request head as RFC 9112 has it, or a larger one than we read."""


def read_head(data: bytes, *, ipv6: bool = False) -> tuple[Request, int] | None:
    """The request at the beginning of `data` and the bytes that it takes, its body included; None when more is needed.

    The body need not be there yet: it is nobody's, but a client may not listen before it has sent it. A client that
    says `Expect` sends none before it has an answer. That is why a PUT may then announce one in pieces, as s3fs does:
    EC2 answers 417. Raises BadRequest.
    """
    end = data.find(END)
    if end < 0:
        if len(data) > HEAD_BYTES_MAX:
            raise BadRequest("the head is too long")
        return None
    if end > HEAD_BYTES_MAX:
        raise BadRequest("the head is too long")
    first, *lines = data[:end].split(b"\r\n")
    line = _LINE.fullmatch(first)
    if line is None or len(lines) > HEADERS_COUNT_MAX:
        raise BadRequest("not a request line, or too many headers")
    method, target = line.groups()
    headers = []
    length = None
    expects = in_pieces = False
    for each in lines:
        name, colon, value = each.partition(b":")
        if not colon or _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise BadRequest("not a header")
        name = name.lower()
        value = value.strip(b" \t")
        if name == b"content-length":
            if length is not None or not value.isdigit() or len(value) > 8:
                raise BadRequest("not a length, or two of them")
            length = int(value)
        elif name == b"transfer-encoding":
            in_pieces = True
        elif name == b"expect":
            expects = True
        headers.append((name, value))
    if in_pieces and (length is not None or not expects or method != b"PUT"):
        raise BadRequest("no request of the metadata service has a body in pieces")
    length = length or 0
    if length > BODY_BYTES_MAX:
        raise BadRequest("no request of the metadata service has such a body")
    return Request(method.decode(), target, headers, ipv6), end + len(END) + (0 if expects else length)

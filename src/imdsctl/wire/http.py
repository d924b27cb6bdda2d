"""One HTTP request and one HTTP response, as values.

Nothing here opens a connection: an adapter turns these into bytes on a socket and back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it stands on the wire.

    `path` and `query` are raw: percent-encoded, `query` without its question mark. Header names are lower case.
    `host_prefix` is what the operation's endpoint trait puts before the host name (`"data-"`), empty for most.
    `head` are the request line and the headers that are not in `headers`, where a client has them written already.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    host_prefix: str = ""
    head: str = ""


class HttpResponse:
    """A response as it stands on the wire. Header names are lower case.

    The body may be given in pieces; `pieces` is for whoever sends it and need not copy them, `body` is the whole.
    """

    __slots__ = ("headers", "pieces", "status")

    def __init__(
        self, status: int, headers: Mapping[str, str] | None = None, body: bytes | Sequence[bytes] = b""
    ) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {} if headers is None else headers
        self.pieces: Sequence[bytes] = (body,) if isinstance(body, bytes) else body

    @property
    def body(self) -> bytes:
        """The body in one piece."""
        if len(self.pieces) != 1:
            self.pieces = (b"".join(self.pieces),)
        return self.pieces[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HttpResponse):
            return NotImplemented
        return (self.status, self.headers, self.body) == (other.status, other.headers, other.body)

    __hash__ = None  # type: ignore[assignment]  # headers are a mapping

    def __repr__(self) -> str:
        return f"HttpResponse({self.status}, {self.headers!r}, {self.body!r})"

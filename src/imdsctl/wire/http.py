"""One HTTP request and one HTTP response, as values.

Nothing here opens a connection: an adapter turns these into bytes on a socket and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it stands on the wire.

    `path` and `query` are raw: percent-encoded, `query` without its question mark. Header names are lower case.
    `host_prefix` is what the operation's endpoint trait puts before the host name (`"data-"`), empty for most.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    host_prefix: str = ""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response as it stands on the wire. Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

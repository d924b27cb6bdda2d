"""What goes into the metadata service and what comes out, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head as it stood on the wire.

    `target` is the request target unchanged (origin-form, absolute-form, whatever was sent); header names are lower
    case, in the order sent, repeated ones repeated. `ipv6` says by which of the two addresses the service was reached.
    """

    method: str
    target: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    ipv6: bool = False


class Access(StrEnum):
    """What a request was, for those who count: CloudWatch's metrics, `run`'s table, the log of `imds serve`."""

    TOKEN = "token"  # a PUT that was answered with a token
    TOKEN_REFUSED = "token-refused"  # a PUT on the token path that got none
    V2 = "v2"  # carried a valid token
    V2_REFUSED = "v2-refused"  # carried an invalid or expired token, or one of another instance
    V1 = "v1"  # carried none, and was let through (whatever the status: a 404 is an IMDSv1 call, too)
    V1_REFUSED = "v1-refused"  # carried none while tokens are required
    REFUSED = "refused"  # nothing of the above: endpoint disabled, another method, a malformed request


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, ready for the socket; the connection closes after it, as EC2's does.

    `hop_limit` is None, or the IP TTL (IPv6: hop limit) that every packet of the answer must leave with: that of an
    answer to a PUT on the token path, whatever its status. `path` is the path that was asked for, for the log. Empty
    content (status 0) means: close without a word, as where nothing listens.
    """

    content: bytes
    status: int
    access: Access
    path: str
    hop_limit: int | None = None

"""What the commands of this machine ask of a running local AWS's metadata services, as JSON; and how it is written.

Sans I/O: a path and a body go in, a response comes out. Only who knows the server's control key is answered; a wrong
or missing key is refused as a path that does not exist, before anything of the request is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.imds.messages import Access, Reply, Request

CONTROL_PATH = "/_imdsctl/metadata/"
CONTROL_HEADER = "x-imdsctl-control"
"""Carries the server's control key. A header of one's own makes a browser ask before it sends, and it gets no answer
that would let it."""


def written_request(request: Request) -> dict[str, Any]:
    """A request as JSON; bytes as the text of their code points."""
    return {
        "method": request.method,
        "target": request.target.decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers],
        "ipv6": request.ipv6,
    }


def read_request(written: Mapping[str, Any]) -> Request:
    """The request of `written_request`. Raises KeyError, TypeError, ValueError or AttributeError when it is not one."""
    return Request(
        written["method"],
        written["target"].encode("latin-1"),
        [(name.encode("latin-1"), value.encode("latin-1")) for name, value in written["headers"]],
        bool(written["ipv6"]),
    )


def written_reply(reply: Reply) -> dict[str, Any]:
    """A reply as JSON."""
    return {
        "content": reply.content.decode("latin-1"),
        "status": reply.status,
        "access": str(reply.access),
        "path": reply.path,
        "hop_limit": reply.hop_limit,
    }


def read_reply(written: Mapping[str, Any]) -> Reply:
    """The reply of `written_reply`."""
    return Reply(
        written["content"].encode("latin-1"),
        written["status"],
        Access(written["access"]),
        written["path"],
        written["hop_limit"],
    )

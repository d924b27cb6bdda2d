"""What a call to the metadata service was: from the heads of a request and its answer. Pure.

Source: EC2 User Guide, "Use the Instance Metadata Service to access instance metadata".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

PATH_CHARACTERS_MAX = 200

_TOKEN_HEADER = b"\nx-aws-ec2-metadata-token:"
_TOKEN_PATH = b"/api/token"
_REQUEST_LINE = re.compile(rb"\s*([A-Z]{1,20}) (\S+)")
_STATUS_LINE = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*(\d{1,10})[ \t]*\r?\n")
_CHUNKED = re.compile(rb"\ntransfer-encoding:")


class Kind(StrEnum):
    """What was asked for."""

    V1 = "v1"  # GET or HEAD without a token: IMDSv1
    V2 = "v2"  # GET or HEAD with a token: IMDSv2
    TOKEN = "token"  # PUT for a token
    OTHER = "other"  # another method, or no HTTP at all


class Outcome(StrEnum):
    """What came of it."""

    ANSWERED = "answered"  # a 404 is an answer, too
    REFUSED = "refused"  # a token not given, 401, 403
    HOP_LIMIT = "hop-limit"  # answered, but the answer stopped on this host: its hop limit was used up
    NO_ANSWER = "no-answer"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `path` is what was asked for, without its query, printable and shortened."""

    kind: Kind
    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Call:
    """A request and what came of it; `at` is when it was sent, seconds since 1970."""

    asked: Asked
    outcome: Outcome
    at: float


def starts_request(data: bytes) -> bool:
    """A segment that begins a request."""
    return _REQUEST_LINE.match(data) is not None


def starts_reply(data: bytes) -> bool:
    """A segment that begins an answer."""
    return data.startswith(b"HTTP/")


def asked(head: bytes) -> Asked:
    """What a head asks for; anything that is no request is `other`."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        return Asked(Kind.OTHER, "", "(not HTTP)")
    method, target = line.groups()
    path = target.partition(b"?")[0][: 4 * PATH_CHARACTERS_MAX]
    if method == b"PUT":
        kind = Kind.TOKEN if path.rstrip(b"/").endswith(_TOKEN_PATH) else Kind.OTHER
    elif method in (b"GET", b"HEAD"):
        kind = Kind.V2 if _TOKEN_HEADER in head.lower() else Kind.V1
    else:
        kind = Kind.OTHER
    return Asked(kind, method.decode("ascii"), shown(path.decode(errors="replace"), PATH_CHARACTERS_MAX))


def status_of(head: bytes) -> int | None:
    """An answer's status; None: it is no answer in HTTP."""
    found = _STATUS_LINE.match(head)
    return int(found[1]) if found else None


def body_bytes(head: bytes, *, is_reply: bool) -> int | None:
    """How many bytes of body follow a head; None: it does not say."""
    small = head.lower()
    if _CHUNKED.search(small):
        return None
    length = _LENGTH.search(small)
    if length is not None:
        return int(length[1])
    return None if is_reply else 0


def outcome_of(kind: Kind, status: int) -> Outcome:
    """What a status means for a request of this kind."""
    if kind is Kind.TOKEN:
        return Outcome.ANSWERED if status == 200 else Outcome.REFUSED
    if kind is Kind.OTHER:
        return Outcome.REFUSED if 400 <= status < 500 else Outcome.ANSWERED
    return Outcome.REFUSED if status in (401, 403) else Outcome.ANSWERED


def shown(text: str, characters_max: int) -> str:
    """`text` as it may be printed anywhere: no control characters, and not longer than that."""
    if not text.isprintable():
        text = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"

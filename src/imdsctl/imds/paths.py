"""Request targets: one canonical form for everything that a client may send."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

TOKEN_TARGET = b"/latest/api/token"
"""The only target at which a token is given, byte for byte (EC2 User Guide: "Only /latest/api/token")."""


def segments_of(target: bytes) -> tuple[str, ...] | None:
    """The path of a target as its segments, without empty ones; None when there is no path in it.

    Absolute-form counts by its path; a query and a fragment do not count. Percent-encoding is undone once, and dot
    segments after that, so that what is looked up has one spelling.
    """
    if target[:1] != b"/":
        scheme, mark, rest = target.partition(b"://")
        if not mark or scheme.lower() not in (b"http", b"https"):
            return None
        target = b"/" + rest.partition(b"/")[2]
    for mark in (b"#", b"?"):
        target = target.partition(mark)[0]
    if b"%" in target:
        target = unquote_to_bytes(target)
    kept: list[str] = []
    for segment in target.decode("utf-8", "replace").split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    return tuple(kept)


def is_token_path(segments: tuple[str, ...]) -> bool:
    """Whether this is where tokens are given, in any version and spelling."""
    return segments[1:] == ("api", "token")

"""What an answer of `check` rests on although no finding says so: the Region default as somebody wants it, and defaults
of variables that a run may be given other values for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from imdsctl.codify.iac_judge import Judge
from imdsctl.codify.iac_model import Resource
from imdsctl.codify.iac_modules import Written
from imdsctl.codify.iac_world import World

_DECIDING = ("http_tokens", "http_endpoint")


def rests_on(judge: Judge, silent: Sequence[Resource], written: Written, world: World) -> Iterator[str]:
    """A sentence for each such thing. `silent` are the resources of which nothing was found."""
    count = sum(judge.left_to_region(each) for each in silent)
    if count and not world.seen:
        wanted = ", ".join(str(each.http_tokens) for each in world.defaults)
        launches = "1 launch or template says" if count == 1 else f"{count} launches or templates say"
        yield (
            f"{launches} nothing about HttpTokens: the answer is that of a Region default of `{wanted}`, as "
            f"{world.source} wants it. With --account and --region it is as a scan saw it"
        )
    by: dict[str, list[str]] = {}
    for each in silent:
        origins = " and ".join(each.said[name].origin for name in _DECIDING if name in each.said)
        if each.imds_support is not None:
            origins += each.imds_support.origin
        for default in written.defaults:
            if default in origins:
                by.setdefault(default, []).append(each.address)
    for default, addresses in sorted(by.items()):
        yield f"{_first(addresses)}: the answer is that of {default}, and another value may change it (--var-file)"
    by = {}
    for address, origin in written.left_out:
        for default in written.defaults:
            if default in origin:
                by.setdefault(default, []).append(address)
    for default, addresses in sorted(by.items()):
        yield f"{_first(addresses)}: not made with {default}, and not judged; another value may make it (--var-file)"


def _first(addresses: list[str]) -> str:
    names = list(dict.fromkeys(addresses))
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"

"""What services take: 10,000 in one process, at most 20 KiB each with what they show."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest

from imdsctl.imds.fixed import DEFAULT_OPTIONS, FixedSource, example_credentials, example_facts
from imdsctl.imds.messages import Request
from imdsctl.imds.service import KEPT_BYTES_MAX, MetadataService

SAMPLE = 1_000
BYTES_EACH_MAX = 20 * 1024
USUAL = ("", "instance-id", "iam/info", "iam/security-credentials/web", "placement/availability-zone", "nothing")
MANY = tuple("x" * 300 + str(number) for number in range(20))


def asked(name: str, paths: Sequence[str]) -> MetadataService:
    """A service with facts of its own that was asked for a token and for all these paths."""
    facts = example_facts(role="web", name=name)
    service = MetadataService(FixedSource(DEFAULT_OPTIONS, facts, example_credentials), b"key")
    service.respond(Request("PUT", b"/latest/api/token", [(b"x-aws-ec2-metadata-token-ttl-seconds", b"60")]), 1.79e9)
    for path in paths:
        service.respond(Request("GET", f"/latest/meta-data/{path}".encode()), 1.79e9)
    return service


def bytes_each(count: int, paths: Sequence[str]) -> float:
    """What a service takes, of so many, everything that it refers to included."""
    tracemalloc.start()
    try:
        services = [asked(str(number), paths) for number in range(count)]
        return tracemalloc.get_traced_memory()[0] / len(services)
    finally:
        tracemalloc.stop()


def test_ten_thousand_services_in_one_process_have_room() -> None:
    """Services share nothing that grows with them: a thousand tell what ten thousand take."""
    assert bytes_each(SAMPLE, USUAL) < BYTES_EACH_MAX


@pytest.mark.parametrize("count", range(1, len(MANY)))
def test_what_is_kept_of_answers_has_a_bound_whoever_asks_for_what(count: int) -> None:
    """Some room for the objects around the bytes is in the bound."""
    assert bytes_each(30, MANY[:count]) - bytes_each(30, ()) < KEPT_BYTES_MAX + 1024

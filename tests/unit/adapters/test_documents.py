"""Documents give back what they were given, whatever the observation; equal values give equal bytes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_type_hints

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imdsctl.adapters.documents import DocumentError, decoded, encoded
from imdsctl.domain.evidence import InstanceEvidence
from imdsctl.domain.observations import InstanceSeen, RegionSeen, ScanEnd, ScanHeader, Target
from imdsctl.domain.options import HttpTokens, MetadataOptions

st.register_type_strategy(
    datetime, st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))
)
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
st.register_type_strategy(int, st.integers(-(2**63), 2**63 - 1))
st.register_type_strategy(str, st.text(max_size=4))


def anything(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Any value of a dataclass, fields with a default included."""
    hints = get_type_hints(kind)
    given = {each.name: st.deferred(lambda name=each.name: _any(hints[name])) for each in fields(kind)}
    return st.builds(kind, **given)


def _any(hint: Any) -> st.SearchStrategy[Any]:
    arguments = getattr(hint, "__args__", ())
    if isinstance(hint, type) and is_dataclass(hint):
        return anything(hint)
    if arguments[1:] == (...,) and is_dataclass(arguments[0]):
        return st.lists(anything(arguments[0]), max_size=3).map(tuple)
    return st.from_type(hint)


@pytest.mark.parametrize("kind", [RegionSeen, ScanHeader, ScanEnd, InstanceEvidence])
def test_what_is_written_is_what_is_read(kind: type[Any]) -> None:
    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(anything(kind))
    def check(value: Any) -> None:
        assert decoded(kind, encoded(value)) == value

    check()


def instance(number: int, **changed: Any) -> InstanceSeen:
    given = {"image_id": "ami-1", "tags": (("Name", f"web-{number}"), ("team", "shop"))}
    return InstanceSeen(f"i-{number}", "running", MetadataOptions(HttpTokens.OPTIONAL, 1), **{**given, **changed})


def region(*instances: InstanceSeen) -> RegionSeen:
    return RegionSeen(Target("111122223333", "eu-west-1"), instances=instances)


def test_instances_share_what_they_repeat() -> None:
    found = decoded(RegionSeen, encoded(region(*map(instance, range(10)))))
    first, last = found.instances[0], found.instances[-1]
    assert first.options is last.options
    assert first.image_id is last.image_id
    assert first.tags[1] is last.tags[1]


def test_equal_values_give_equal_bytes() -> None:
    again = region(*(instance(number, image_id="".join(["ami-", "1"])) for number in range(4)))
    assert encoded(again) == encoded(region(*map(instance, range(4))))


def test_a_lone_surrogate_in_a_name_is_kept() -> None:
    hostile = region(instance(1, tags=(("Name", "\ud800 \u202e"),)))
    assert decoded(RegionSeen, encoded(hostile)) == hostile


def test_an_object_a_row_is_read_too() -> None:
    """As schema version 1 wrote them, from before some fields were there."""
    old = {"target": {"account_id": "1", "region": "r"}, "defaults": None, "instances": [], "unseen": []}
    old["instances"] = [{"instance_id": "i-1", "state": "running", "options": {"http_tokens": "required"}}]
    expected = RegionSeen(
        Target("1", "r"), instances=(InstanceSeen("i-1", "running", MetadataOptions(HttpTokens.REQUIRED)),)
    )
    assert decoded(RegionSeen, zlib.compress(orjson.dumps(old))) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"nothing",
        b'{"target": {"account_id": "1"}}',
        b'{"target": {"account_id": "1", "region": "r"}, "nosuch": 1}',
        b'{"target": {"account_id": "1", "region": "r"}, "instances": {"rows": 2, "instance_id": ["i-1", "i-2"]}}',
        b'{"target": {"account_id": "1", "region": "r"}, "defaults": {"http_tokens": "maybe"}}',
    ],
)
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(DocumentError, match="no document of a RegionSeen"):
        decoded(RegionSeen, zlib.compress(text))
    with pytest.raises(DocumentError):
        decoded(RegionSeen, text)


def test_a_type_without_a_codec_is_refused() -> None:
    @dataclass(frozen=True)
    class Strange:
        anything: complex

    with pytest.raises(TypeError, match="no document can hold"):
        encoded(Strange(1j))


@pytest.mark.parametrize("rows", [3, 1, 0, -1, "2", None])
def test_a_table_whose_columns_are_not_of_its_length_is_damaged(rows: Any) -> None:
    document = orjson.loads(zlib.decompress(encoded(region(instance(1), instance(2)))))
    document["instances"]["rows"] = rows
    with pytest.raises(DocumentError):
        decoded(RegionSeen, zlib.compress(orjson.dumps(document)))

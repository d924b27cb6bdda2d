"""The log of writes: what was accepted comes back, what was torn is dropped, what is damaged is said."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.local.call import Caller
from imdsctl.local.log import Record, decode, encode

NOON = datetime(2026, 11, 24, 12, 0, 0, 250, tzinfo=UTC)
CALLER = Caller("111122223333", "arn:aws:iam::111122223333:user/a", "AIDA", "AKIA")


def record(sequence: int, params: dict[str, Any] | None = None) -> Record:
    return Record(sequence, NOON, f"id-{sequence}", "ec2", "RunInstances", "eu-west-1", CALLER, params or {})


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["Name", "$time", "$bytes", "$map", ""]), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES))
def test_parameters_come_back_as_they_were(params: dict[str, Any]) -> None:
    [(found, _)] = decode(encode(record(1, params)))
    assert found == record(1, params)


LOG = b"".join(encode(record(number)) for number in (1, 2, 3))


@pytest.mark.parametrize("cut", range(1, len(encode(record(3)))))
def test_a_torn_last_line_is_dropped(cut: int) -> None:
    found = list(decode(LOG[:-cut]))
    assert [each.sequence for each, _ in found] == [1, 2]
    assert found[-1][1] == len(encode(record(1)) + encode(record(2)))


@pytest.mark.parametrize("position", [0, 9, 40, 120])
def test_damage_in_the_middle_is_said_with_its_line(position: int) -> None:
    start = len(encode(record(1)))
    damaged = bytearray(LOG)
    damaged[start + position] ^= 1
    with pytest.raises(DiagnosticError) as caught:
        list(decode(bytes(damaged)))
    assert caught.value.diagnostics[0].code == "state-damaged"
    assert "line 2" in caught.value.diagnostics[0].summary
    assert str(start) in (caught.value.diagnostics[0].hint or "")


def test_a_missing_line_is_damage() -> None:
    with pytest.raises(DiagnosticError, match="write 2 is missing"):
        list(decode(encode(record(1)) + encode(record(3))))


def test_an_empty_log_is_an_empty_history() -> None:
    assert list(decode(b"")) == []

"""The XML that is kept stays within its budget."""

from __future__ import annotations

from dataclasses import dataclass

from imdsctl.local.ec2.fragments import Fragments


@dataclass(slots=True)
class Owner:
    fragment: bytes | None = None


def test_the_oldest_goes_first() -> None:
    kept, owners = Fragments(bytes_max=10), [Owner() for _ in range(4)]
    for owner in owners:
        kept.keep(owner, b"1234")
    assert [owner.fragment for owner in owners] == [None, None, b"1234", b"1234"]
    assert kept.size == 8


def test_what_an_owner_replaced_takes_nothing_from_it() -> None:
    kept, owner = Fragments(bytes_max=10), Owner()
    kept.keep(owner, b"old.")
    owner.fragment = None
    kept.keep(owner, b"new.")
    kept.keep(Owner(), b"else")
    assert owner.fragment == b"new.", "the turn was the old one's"
    kept.keep(Owner(), b"else")
    assert owner.fragment is None


def test_one_that_is_larger_than_the_budget_is_not_kept() -> None:
    kept, owner = Fragments(bytes_max=3), Owner()
    kept.keep(owner, b"1234")
    assert owner.fragment is None
    assert kept.size == 0

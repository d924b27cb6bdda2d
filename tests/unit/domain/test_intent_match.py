"""What a match is true of."""

from __future__ import annotations

import pytest

from imdsctl.domain.intent_match import Home, Match


@pytest.mark.parametrize("name", ["/billing/", "/", "a/b", "b/", "arn:aws:eks:eu-west-1:111122223333:nodegroup/a/b/"])
def test_a_slash_in_a_tag_a_resource_or_an_account_means_itself(name: str) -> None:
    tags = (("path", name),)
    assert Match(tag=(f"path={name}",)).picks((), tags)
    assert Match(resource=(name,)).picks((name,), ())
    assert Match(account=(name,)).holds_at(Home("111122223333", "eu-west-1", account_name=name))
    bare = name.strip("/")
    assert bare == name or not Match(tag=(f"path={bare}",)).picks((), tags)
    assert bare == name or not Match(resource=(name,)).picks((bare,), ())


@pytest.mark.parametrize("path", ["Prod/EU", "/Prod/EU", "Prod/EU/", "Root/Prod/EU/", "/Prod", "P*"])
def test_an_organizational_unit_is_the_same_with_slashes_around_it(path: str) -> None:
    home = Home("111122223333", "eu-west-1", ou_path="Root/Prod/EU/Web")
    assert Match(ou=(path,)).holds_at(home)
    assert not Match(ou=(path.replace("P", "T"),)).holds_at(home)

"""`Filters` of EC2's Describe operations.

Source: EC2 User Guide, "Find your Amazon EC2 resources" (values are case-sensitive and ORed, filters are ANDed; `*`
stands for zero or more characters, `?` for one, a backslash takes the next character literally).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from imdsctl.local.ec2.errors import invalid_value, refuse

T = TypeVar("T")

Found = str | Iterable[str] | None
Field = Callable[[T], Found]
"""What a resource has for a filter: a text, several, or nothing."""

FILTERS_MAX = 50
FILTER_VALUES_MAX = 200
FILTER_VALUE_LENGTH_MAX = 255

WILDCARD = re.compile(r"[*?\\]")


def pattern(value: str) -> Callable[[str], object]:
    """A test for one filter value with wildcards."""
    out = []
    characters = iter(value)
    for character in characters:
        if character == "*":
            out.append(".*")
        elif character == "?":
            out.append(".")
        elif character == "\\":
            out.append(re.escape(next(characters, "\\")))
        else:
            out.append(re.escape(character))
    return re.compile("".join(out), re.DOTALL).fullmatch


class Filters(Generic[T]):
    """The fields an operation can filter by.

    `fields` maps a filter's name to what a resource has for it; `tags` gives a resource's tags, and makes `tag:KEY`,
    `tag-key` (and, where `tag_value` says so, `tag-value`) known.
    """

    def __init__(
        self,
        fields: Mapping[str, Field[T]],
        tags: Callable[[T], Mapping[str, str]] | None = None,
        *,
        tag_value: bool = False,
    ) -> None:
        self._fields = fields
        self._tags = tags
        self._tag_value = tag_value

    @property
    def names(self) -> list[str]:
        """The filters' names, without those of tags."""
        return list(self._fields)

    def compile(self, filters: Iterable[Mapping[str, Any]] | None) -> Callable[[T], bool] | None:
        """The request's filters as one test, or None when there are none.

        Raises InvalidParameterValue for a filter that AWS does not know for the operation, and FilterLimitExceeded.
        """
        tests: list[Callable[[T], bool]] = []
        for number, given in enumerate(filters or (), 1):
            if number > FILTERS_MAX:
                raise refuse("FilterLimitExceeded", f"The maximum number of filters on a single call is {FILTERS_MAX}")
            name = given.get("Name") or ""
            field = self._field(name)
            if field is None:
                raise invalid_value(f"The filter '{name or 'null'}' is invalid")
            values = given.get("Values")
            if not values:
                raise invalid_value(f"The filter '{name}' has no values. Specify at least one value and try again.")
            tests.append(_test(field, _matcher(values)))
        if not tests:
            return None
        if len(tests) == 1:
            return tests[0]
        return lambda resource: all(test(resource) for test in tests)

    def select(self, resources: Iterable[T], filters: Iterable[Mapping[str, Any]] | None) -> list[T]:
        """The resources that every filter lets through. Raises like `compile`."""
        test = self.compile(filters)
        return list(resources) if test is None else [resource for resource in resources if test(resource)]

    def _field(self, name: str) -> Field[T] | None:
        tags = self._tags
        if tags is not None:
            if name.startswith("tag:"):
                key = name[4:]
                return lambda resource: tags(resource).get(key)
            if name == "tag-key":
                return lambda resource: tags(resource).keys()
            if name == "tag-value" and self._tag_value:
                return lambda resource: tags(resource).values()
        return self._fields.get(name)


def _matcher(values: Iterable[str]) -> Callable[[str], bool]:
    exact: set[str] = set()
    patterns: list[Callable[[str], object]] = []
    for number, value in enumerate(values, 1):
        if number > FILTER_VALUES_MAX:
            raise refuse(
                "FilterLimitExceeded",
                f"The maximum number of filter values specified on a single call is {FILTER_VALUES_MAX}",
            )
        if len(value) > FILTER_VALUE_LENGTH_MAX:
            raise refuse(
                "FilterLimitExceeded", f"The maximum length for a filter value is {FILTER_VALUE_LENGTH_MAX} characters"
            )
        if WILDCARD.search(value):
            patterns.append(pattern(value))
        else:
            exact.add(value)
    if not patterns:
        return exact.__contains__
    return lambda text: text in exact or any(match(text) for match in patterns)


def _test(field: Field[T], matches: Callable[[str], bool]) -> Callable[[T], bool]:
    def test(resource: T) -> bool:
        found = field(resource)
        if found is None:
            return False
        if isinstance(found, str):
            return matches(found)
        return any(matches(text) for text in found)

    return test


def boolean(value: object) -> str:
    """AWS's spelling of a truth value in filters."""
    return "true" if value else "false"


def nothing(_: object) -> None:
    """For a filter that AWS knows and that no resource of the local AWS has a value for."""
    return

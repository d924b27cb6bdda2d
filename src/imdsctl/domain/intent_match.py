"""What a scope, a wave or an exception of the intent is about: globs over where a resource is and what it is called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache

GLOBS_REMEMBERED_MAX = 4096


@dataclass(frozen=True, slots=True)
class Home:
    """Where a resource is: all that a match can ask of a whole account and Region.

    `ou_path` are the names of the organizational units from the root down, joined by `/`; empty when nobody knows.
    """

    account_id: str
    region: str
    account_name: str = ""
    ou_path: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """Criteria that have to hold together; within one, any of its globs does. Without criteria: the organization.

    Globs are those of a shell (`*`, `?`, `[...]`), and upper and lower case differ.
    """

    ou: tuple[str, ...] = ()
    """The path of an organizational unit, with or without `/` at its ends; what is below it belongs to it."""
    account: tuple[str, ...] = ()
    """An account's id or name."""
    region: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    """`key=value`, or `key` alone for any value. Only instances, groups, fleets and launch templates have tags here."""
    resource: tuple[str, ...] = ()
    """An id or a name. A group's or a launch template's stands for the instances that it launched as well."""

    @property
    def narrow(self) -> bool:
        """True when it picks resources, so that it can never be about a Region default or enforcement."""
        return bool(self.tag or self.resource)

    @property
    def specificity(self) -> tuple[int, int, int, int, int]:
        """Sorts matches from the organization to a resource: what is said in a later one wins.

        A resource outweighs a tag, a tag a Region, a Region an account, an account an organizational unit, and a deep
        unit one further up. (Region over account, because a Region's default is what an account has there.)
        """
        depth = max((len(path.strip("/").split("/")) for path in self.ou), default=0)
        return bool(self.resource), bool(self.tag), bool(self.region), bool(self.account), depth

    def holds_at(self, home: Home) -> bool:
        """Whether the criteria that are about accounts and Regions hold; those about resources are not asked."""
        return (
            (not self.region or _any(self.region, (home.region,)))
            and (not self.account or _any(self.account, (home.account_id, home.account_name)))
            and (not self.ou or _any((glob.strip("/") for glob in self.ou), _units(home.ou_path)))
        )

    def picks(self, names: Iterable[str], tags: Iterable[tuple[str, str]]) -> bool:
        """Whether the criteria that are about resources hold; `names` are all that the resource answers to."""
        return (not self.resource or _any(self.resource, names)) and (
            not self.tag or _any(self.tag, (text for key, value in tags for text in (key, f"{key}={value}")))
        )

    def __str__(self) -> str:
        """For a person: `account prod-*, tag env=prod`."""
        parts = [f"{name} {' or '.join(getattr(self, name))}" for name in MATCH_KEYS if getattr(self, name)]
        return ", ".join(parts) or "everything"


EVERYWHERE = Match()
MATCH_KEYS = ("ou", "account", "region", "tag", "resource")


def _any(globs: Iterable[str], texts: Iterable[str]) -> bool:
    compiled = [_compiled(glob) for glob in globs]
    return any(pattern.match(text) for text in texts for pattern in compiled)


@lru_cache(maxsize=GLOBS_REMEMBERED_MAX)
def _compiled(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob))


@lru_cache(maxsize=GLOBS_REMEMBERED_MAX)
def _units(path: str) -> tuple[str, ...]:
    """The unit's path and those of all above it, each also without the root's own name (`Root/Prod/EU`, `Prod/EU`)."""
    parts = [part for part in path.split("/") if part]
    ends = range(1, len(parts) + 1)
    return tuple("/".join(parts[start:end]) for start in (0, 1) for end in ends if start < end)

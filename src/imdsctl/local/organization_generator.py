"""Makes a believable organization from a seed: the tree, the accounts with their credentials, the opted-in Regions.

An account is made when it is asked for: whether one exists, and which, follows from its number by arithmetic.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator, MutableMapping
from datetime import datetime, timedelta
from functools import cached_property
from math import gcd

from imdsctl.domain.regions import OPT_IN_REGIONS
from imdsctl.local.call import base32_letters
from imdsctl.local.keys import key_id
from imdsctl.local.spec import WorldSpec
from imdsctl.local.world import ENABLED, Account, Organization, OrganizationalUnit, digest

# A tree as the AWS whitepaper "Organizing Your AWS Environment Using Multiple Accounts" recommends it:
# (name, parent's name or None for the root).
_TREE = (
    ("Security", None),
    ("Infrastructure", None),
    ("Workloads", None),
    ("Prod", "Workloads"),
    ("Dev", "Workloads"),
    ("Sandbox", None),
    ("Suspended", None),
)
# The first accounts have these names and places; what follows is made from teams and stages.
_FIRST = (
    ("management", None),
    ("log-archive", "Security"),
    ("security-tooling", "Security"),
    ("network", "Infrastructure"),
    ("shared-services", "Infrastructure"),
)
_TEAMS = (
    *("checkout", "payments", "search", "catalog", "identity", "ledger", "shipping", "pricing", "insights"),
    *("billing", "media", "reviews", "fraud", "inventory", "notifications", "loyalty", "data-platform", "ml-platform"),
)
_STAGES = (("prod", "Prod"), ("dev", "Dev"), ("staging", "Dev"), ("prod", "Prod"), ("sandbox", "Sandbox"))

SUSPENDED_POSITION = 8
"""Which account (counted from 0) is suspended, in an organization that has more than this many."""
REFUSING_POSITION = 6
"""Which account refuses its role, in an organization that has more than this many."""
OPTED_OUT_SHARE = 1 / 8
"""Of the opt-in Regions asked for, the share a member account has not opted in to, when it has all of them."""


def make_organization(spec: WorldSpec) -> tuple[Organization, Accounts]:
    """The organization of a spec and its accounts by id, the management account first."""
    rng = random.Random(f"organization/{spec.seed}")
    root_id = "r-" + _letters(rng, 4)
    units: dict[str, OrganizationalUnit] = {}
    for name, parent in _TREE:
        parent_id = units[parent].id if parent else root_id
        units[name] = OrganizationalUnit(f"ou-{root_id[2:]}-{_letters(rng, 8)}", name, parent_id)
    numbers = AccountNumbers(spec.seed)
    organization = Organization("o-" + _letters(rng, 10), root_id, numbers.at(0), tuple(units.values()))
    places: dict[str | None, str] = {None: root_id, **{name: unit.id for name, unit in units.items()}}
    return organization, Accounts(spec, numbers, places)


class AccountNumbers:
    """Distinct 12-digit account ids by position, and the position of an id. None of them begins with a zero."""

    def __init__(self, seed: int) -> None:
        # position -> (position * factor + first) mod the number of ids: one to one, since the factor has an inverse.
        factor = digest("account-factor", seed) % _IDS
        while gcd(factor, _IDS) != 1:
            factor += 1
        self._factor = factor
        self._inverse: int = pow(factor, -1, _IDS)
        self._first = digest("account", seed) % _IDS

    def at(self, position: int) -> str:
        """The id at a position, from 0."""
        return str(_FIRST_ID + (position * self._factor + self._first) % _IDS)

    def position(self, account_id: str) -> int | None:
        """Where an id is (mostly far beyond the last account); None for what is no id of ours."""
        if len(account_id) != _DIGITS or not (account_id.isascii() and account_id.isdigit()) or account_id[0] == "0":
            return None
        found: int = (int(account_id) - _FIRST_ID - self._first) * self._inverse % _IDS
        return found


class Accounts(MutableMapping[str, Account]):
    """The accounts by id, in the order in which they joined; those of the spec are made when they are asked for."""

    def __init__(self, spec: WorldSpec, numbers: AccountNumbers, places: dict[str | None, str]) -> None:
        self._spec = spec
        self._numbers = numbers
        self._places = places
        self._made: dict[str, Account] = {}
        self._added: dict[str, None] = {}

    @cached_property
    def _generated(self) -> list[str]:
        return [self._numbers.at(position) for position in range(self._spec.accounts)]

    def __getitem__(self, account_id: str) -> Account:
        found = self._made.get(account_id)
        if found is None:
            position = self._position(account_id)
            if position is None:
                raise KeyError(account_id)
            name, unit = _place(position)
            if position == SUSPENDED_POSITION:
                unit = "Suspended"
            found = _account(self._spec, position, account_id, name, self._places[unit])
            self._made[account_id] = found
        return found

    def __setitem__(self, account_id: str, account: Account) -> None:
        if account_id not in self:
            self._added[account_id] = None
        self._made[account_id] = account

    def __delitem__(self, account_id: str) -> None:
        if account_id not in self._added:
            raise KeyError(account_id)  # generated accounts can be closed; they do not vanish
        del self._added[account_id], self._made[account_id]

    def __contains__(self, account_id: object) -> bool:
        return account_id in self._made or (isinstance(account_id, str) and self._position(account_id) is not None)

    def __iter__(self) -> Iterator[str]:
        yield from self._generated
        yield from self._added

    def __len__(self) -> int:
        return self._spec.accounts + len(self._added)

    def _position(self, account_id: str) -> int | None:
        position = self._numbers.position(account_id)
        return position if position is not None and position < self._spec.accounts else None


def _account(spec: WorldSpec, position: int, account_id: str, name: str, parent_id: str) -> Account:
    secret = digest("secret", spec.seed, account_id).to_bytes(64, "big")
    joined = _founded(spec.created) + timedelta(days=11, hours=5) * min(position, 120)
    account = Account(
        id=account_id,
        name=name,
        email=f"aws+{name}@example.com",
        joined=joined,
        parent_id=parent_id,
        state="SUSPENDED" if position == SUSPENDED_POSITION else "ACTIVE",
        # Invited accounts lack the role unless somebody makes it: that is the one that refuses.
        joined_method="INVITED" if position in (0, REFUSING_POSITION) else "CREATED",
        refuses_role=position == REFUSING_POSITION,
        access_key_id=key_id("AKIA", account_id, digest("key", spec.seed, account_id)),
        secret_access_key=base64.b64encode(secret[:30]).decode(),
        user_id="AIDA" + base32_letters(digest("user", spec.seed, account_id), 17),
        role_id="AROA" + base32_letters(digest("role", spec.seed, account_id), 17),
    )
    asked = [region for region in spec.regions if region in _OPT_IN]
    everything = len(asked) == len(_OPT_IN)
    for region in asked:
        out = digest("opt-out", spec.seed, account_id, region) % 1000 < 1000 * OPTED_OUT_SHARE
        if not (everything and position and out):
            account.opt_in[region] = (ENABLED, joined)
    return account


def _place(position: int) -> tuple[str, str | None]:
    if position < len(_FIRST):
        return _FIRST[position]
    number = position - len(_FIRST)
    stage, unit = _STAGES[number % len(_STAGES)]
    team_number = number // 2
    team, again = _TEAMS[team_number % len(_TEAMS)], team_number // len(_TEAMS)
    return f"{team}-{stage}" + (f"-{again + 1}" if again else ""), unit


def _founded(created: datetime) -> datetime:
    return created - timedelta(days=4 * 365)


def _letters(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(count))


_OPT_IN = frozenset(OPT_IN_REGIONS)
_DIGITS = 12
_FIRST_ID = 10 ** (_DIGITS - 1)
_IDS = 9 * _FIRST_ID

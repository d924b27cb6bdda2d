"""Makes a believable organization from a seed: the tree, the accounts with their credentials, the opted-in Regions."""

from __future__ import annotations

import base64
import random
from datetime import datetime, timedelta

from imdsctl.domain.regions import OPT_IN_REGIONS
from imdsctl.local.call import base32_letters
from imdsctl.local.world import ENABLED, Account, Organization, OrganizationalUnit, WorldSpec, digest

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


def make_organization(spec: WorldSpec) -> tuple[Organization, dict[str, Account]]:
    """The organization of a spec and its accounts by id, the management account first."""
    rng = random.Random(f"organization/{spec.seed}")
    ids = _account_ids(spec)
    root_id = "r-" + _letters(rng, 4)
    units: dict[str, OrganizationalUnit] = {}
    for name, parent in _TREE:
        parent_id = units[parent].id if parent else root_id
        units[name] = OrganizationalUnit(f"ou-{root_id[2:]}-{_letters(rng, 8)}", name, parent_id)
    organization = Organization("o-" + _letters(rng, 10), root_id, ids[0], tuple(units.values()))
    accounts: dict[str, Account] = {}
    for position, account_id in enumerate(ids):
        name, unit = _place(position)
        if position == SUSPENDED_POSITION:
            unit = "Suspended"
        accounts[account_id] = _account(spec, position, account_id, name, units[unit].id if unit else root_id)
    return organization, accounts


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
        access_key_id="AKIA" + base32_letters(digest("key", spec.seed, account_id), 16),
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


def _account_ids(spec: WorldSpec) -> list[str]:
    """Distinct 12-digit ids; AWS's do not start with a zero often, ours never."""
    ids: dict[str, None] = {}
    attempt = 0
    while len(ids) < spec.accounts:
        ids[str(10**11 + digest("account", spec.seed, attempt) % (9 * 10**11))] = None
        attempt += 1
    return list(ids)


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

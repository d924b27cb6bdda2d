"""Which accounts and Regions a sweep visits, and with whose credentials.

**Accounts.** Organizations is asked when the caller manages the organization (or is a delegated administrator). The
caller's own account is entered with the caller's credentials: a management account does not have the role that
Organizations makes in the others. An account whose `State` is not ACTIVE lets nobody in: it is reported, not entered.

**Regions.** An account's own list decides, because opting in is per account. A Region that is DISABLED (or
`not-opted-in`) refuses every caller, and AWS says that disabling one deletes nothing in it. Whether it was ever enabled
cannot be told. It is therefore listed as "not enabled" and counted apart: not clean, and not unknown either, since
nothing can be launched or changed there until somebody enables it. ENABLING and DISABLING are unknown: resources may
come or run there while we look elsewhere.

Sources: Organizations API Reference, ListAccounts (`State`); Account Management Reference Guide, "Enable or disable AWS
Regions in your account"; STS API Reference, AssumeRole.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError, Severity
from imdsctl.domain.observations import Account, AccountUnseen, Unseen
from imdsctl.domain.regions import COMMERCIAL_REGIONS, DEFAULT_REGIONS
from imdsctl.domain.verdicts import ACCOUNT_NOT_ACTIVE, REGION_NOT_ENABLED
from imdsctl.fleet import limits
from imdsctl.fleet.organization_units import Tree, closest, read_tree, resolve_units
from imdsctl.fleet.ports import Aws, Credentials, Unreachable
from imdsctl.fleet.selection import ListedAccount, Selection
from imdsctl.wire.errors import ServiceError

SESSION_NAME = "imdsctl"
UNITS = "organizational units"
"""`Unseen.what` of the organization's tree."""
ACTIVE = "ACTIVE"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who we are, as STS says."""

    account_id: str
    arn: str

    @property
    def partition(self) -> str:
        """`aws`, `aws-cn`, `aws-us-gov`..."""
        return self.arn.split(":")[1]


@dataclass(frozen=True, slots=True)
class Door:
    """Through whom an account is entered: a client with its own credentials, and who they say we are."""

    aws: Aws
    caller: Caller


@dataclass(frozen=True, slots=True)
class Visit:
    """Whom a sweep visits: `accounts` are entered, `unseen` cannot be; `notices` are warnings for the user.

    `doors` are the accounts that are not entered as `caller` (other profiles), `roles` those with a role of their own,
    both by account id. `units` are the ids of the root and the units above an account, where the tree was seen.
    `current_account`: the caller's account alone is visited, as was asked for or because no organization is seen.
    """

    caller: Caller
    accounts: tuple[Account, ...]
    unseen: tuple[AccountUnseen, ...] = ()
    inactive: tuple[Account, ...] = ()
    notices: tuple[Diagnostic, ...] = ()
    by_organization: bool = False
    doors: Mapping[str, Door] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    current_account: bool = False

    def but(self, unseen: Iterable[AccountUnseen]) -> Visit:
        """The same visit, of which that could not be seen either."""
        return replace(self, unseen=(*self.unseen, *unseen))


@dataclass(frozen=True, slots=True)
class AccountRegions:
    """An account's Regions: those to read, and those that cannot be."""

    enabled: tuple[str, ...]
    unseen: tuple[AccountUnseen, ...] = ()


class Hear(Protocol):
    """Wants to know who there is before everybody is known."""

    def called_by(self, caller: Caller) -> None:
        """Who is calling is known, and what was asked for is right."""
        ...

    def listed(self, accounts: Iterable[Account]) -> None:
        """Some more of the accounts."""
        ...


def home_region(aws: Aws) -> str:
    """Where to ask what has no Region of its own (STS, Organizations, lists of Regions)."""
    return aws.default_region or "us-east-1"


async def who_am_i(aws: Aws) -> Caller:
    """The caller. Raises DiagnosticError `region-unknown`, `credentials-refused` or `aws-unreachable`."""
    try:
        found = await aws.call(None, "sts", home_region(aws), "GetCallerIdentity", {})
    except ServiceError as error:
        if home_region(aws) not in COMMERCIAL_REGIONS and "scoped to a valid region" in error.message.lower():
            raise DiagnosticError(_no_home(home_region(aws)), exit_code=2) from None
        raise DiagnosticError(
            Diagnostic(
                "credentials-refused",
                f"AWS does not accept these credentials ({error.code}: {error.message.rstrip('.')})",
                hint="check `aws sts get-caller-identity`, sign in again, or choose another `--profile`",
            )
        ) from None
    except Unreachable as error:
        raise DiagnosticError(
            Diagnostic(
                "aws-unreachable",
                f"no usable answer from `{error.host}`: {error.reason}",
                hint=error.next_step,
            )
        ) from None
    return Caller(found["Account"], found["Arn"])


async def find_accounts(aws: Aws, selection: Selection, hear: Hear | None = None) -> Visit:
    """Ask who there is and apply the selection. `hear` is told on the way.

    Raises DiagnosticError with every unknown account, unit and Region together, when nothing is left to visit, and when
    the organization did not answer: then nobody knows whom a sweep would miss.
    """
    if selection.current_account:
        return _only(await _caller_for(aws, selection), selection, ())
    # None needs another, and two of them are many calls one after another.
    listing = asyncio.ensure_future(_list_accounts(aws, hear))
    reading_tree = asyncio.ensure_future(_tree_if_seen(aws, selection))
    try:
        caller = await _caller_for(aws, selection)
        if hear is not None:
            hear.called_by(caller)
        try:
            listed = await listing
        except (ServiceError, Unreachable) as error:
            if selection.listed:
                return _as_listed(caller, selection)
            return _without_organization(caller, selection, error)
        tree, unseen = await _shown(reading_tree, caller)
    finally:
        listing.cancel()
        reading_tree.cancel()
        await asyncio.gather(listing, reading_tree, return_exceptions=True)
    if tree is not None:
        listed = [replace(each, ou_path=tree.path(each.account_id)) for each in listed]
    if selection.listed:
        listed = _enriched(selection.listed, listed)
    chosen = _choose(selection, listed, _left_out(selection, tree, listed))
    return replace(
        _visit(caller, chosen, selection),
        by_organization=True,
        units={} if tree is None else {each.account_id: tree.above(each.account_id) for each in chosen},
    ).but(unseen)


async def _shown(reading: Awaitable[Tree | Unseen], caller: Caller) -> tuple[Tree | None, tuple[AccountUnseen, ...]]:
    """The tree, or that it could not be read."""
    found = await reading
    return (None, (AccountUnseen(caller.account_id, None, found),)) if isinstance(found, Unseen) else (found, ())


async def _caller_for(aws: Aws, selection: Selection) -> Caller:
    """The caller, when the Regions of the selection are Regions. Raises DiagnosticError."""
    caller = await who_am_i(aws)
    await check_regions(aws, caller, (*selection.regions, *selection.exclude_regions))
    if selection.regions and set(selection.regions) <= set(selection.exclude_regions):
        _refuse([Diagnostic("nothing-selected", "no Region is left to visit", hint="drop an exclusion")])
    return caller


async def find_accounts_through(doors: Sequence[Aws], selection: Selection) -> Visit:
    """The same through several clients, each with a profile of its own: every one brings the accounts that it finds.

    An account that several find is entered through the first. Raises DiagnosticError for what none of them finds.
    """
    everybody = replace(selection, accounts=(), exclude_accounts=())
    found: dict[str, tuple[Account, Door]] = {}
    visits: list[Visit] = []
    problems: list[Diagnostic] = []
    for aws in doors:
        try:
            visit = await find_accounts(aws, everybody)
        except DiagnosticError as error:
            # One organization need not have the units of another.
            if any(each.code not in _MAY_BE_ELSEWHERE for each in error.diagnostics):
                raise
            problems += error.diagnostics
            continue
        visits.append(visit)
        for account in (*visit.accounts, *visit.inactive):
            found.setdefault(account.account_id, (account, Door(aws, visit.caller)))
    if not visits:
        raise DiagnosticError(tuple(dict.fromkeys(problems)), exit_code=2)
    chosen = _choose(selection, [account for account, _ in found.values()], frozenset())
    treeless = (each for visit in visits for each in visit.unseen if each.unseen.what == UNITS)
    return replace(
        _visit(visits[0].caller, chosen, selection),
        notices=tuple(dict.fromkeys(notice for visit in visits for notice in visit.notices)),
        by_organization=visits[0].by_organization,
        doors={each.account_id: found[each.account_id][1] for each in chosen},
        units={account: units for visit in visits for account, units in visit.units.items()},
    ).but(dict.fromkeys(treeless))


_MAY_BE_ELSEWHERE = frozenset({"ou-unknown", "organization-needed", "nothing-selected"})


async def go_on(aws: Aws, selection: Selection, accounts: Iterable[Account]) -> Visit:
    """The visit of a scan that is gone on with: its accounts are those that it began with.

    Raises DiagnosticError as `who_am_i` does.
    """
    caller = await who_am_i(aws)
    visit = _visit(caller, list(accounts), selection)
    if selection.current_account or selection.listed:
        return visit
    tree, unseen = await _shown(_tree_if_seen(aws, replace(selection, ous=(), exclude_ous=())), caller)
    if tree is None:
        return visit.but(unseen)
    return replace(
        visit, by_organization=True, units={each.account_id: tree.above(each.account_id) for each in visit.accounts}
    )


def _visit(caller: Caller, chosen: Sequence[Account], selection: Selection) -> Visit:
    inactive = tuple(each for each in chosen if each.state != ACTIVE)
    return Visit(
        caller,
        tuple(each for each in chosen if each.state == ACTIVE),
        tuple(_inactive(each) for each in inactive),
        inactive,
        roles={each.account_id: each.role for each in selection.listed if each.role},
    )


def _enriched(listed: Iterable[ListedAccount], known: Iterable[Account]) -> list[Account]:
    """The accounts of a file, with what the organization says of those it knows."""
    by_id = {each.account_id: each for each in known}
    return [by_id.get(each.account_id) or Account(each.account_id, each.name) for each in listed]


def _as_listed(caller: Caller, selection: Selection) -> Visit:
    """The accounts of a file without an organization: nobody else has to know them."""
    if selection.needs_units:
        raise _units_needed()
    chosen = _choose(selection, [Account(each.account_id, each.name) for each in selection.listed], frozenset())
    return _visit(caller, chosen, selection)


async def enter(aws: Aws, caller: Caller, account_id: str, role: str) -> Credentials | None:
    """Credentials inside an account: None (our own) in our own account, else the role's.

    Raises ServiceError and Unreachable.
    The STS of a Region is asked, because tokens of the global endpoint are not valid in opt-in Regions.
    """
    if account_id == caller.account_id:
        return None
    found = await aws.call(
        None,
        "sts",
        home_region(aws),
        "AssumeRole",
        {
            "RoleArn": f"arn:{caller.partition}:iam::{account_id}:role/{role}",
            "RoleSessionName": SESSION_NAME,
            "DurationSeconds": limits.ASSUMED_ROLE_SECONDS,
        },
    )
    held = found["Credentials"]
    return Credentials(
        held["AccessKeyId"],
        held["SecretAccessKey"],
        held["SessionToken"],
        held.get("Expiration"),
        account_id,
        renew=lambda: enter(aws, caller, account_id, role),
    )


async def regions_of(
    aws: Aws, credentials: Credentials | None, account_id: str, selection: Selection
) -> AccountRegions:
    """The account's Regions that the selection wants.

    When neither Account Management nor EC2 lists them, the Regions that no account can disable are read, and the rest
    is one unknown.
    """
    try:
        statuses = await _statuses(aws, credentials)
    except (ServiceError, Unreachable) as error:
        known = tuple(each for each in (selection.regions or DEFAULT_REGIONS) if each not in selection.exclude_regions)
        unseen = Unseen("Regions", f"which Regions are enabled could not be read: {said(error)}", code_of(error))
        return AccountRegions(known, () if selection.regions else (AccountUnseen(account_id, None, unseen),))
    enabled = []
    unseen_regions = []
    for name, status in sorted(statuses.items()):
        if (selection.regions and name not in selection.regions) or name in selection.exclude_regions:
            continue
        if status in _ENABLED:
            enabled.append(name)
        elif status in _NOT_ENABLED:
            unseen_regions.append(AccountUnseen(account_id, name, _UNSEEN_REGION))
        else:
            reason = f"the Region is {status}; scan again when that is over"
            unseen_regions.append(AccountUnseen(account_id, name, Unseen("Region", reason, status)))
    return AccountRegions(tuple(enabled), tuple(unseen_regions))


def said(error: ServiceError | Unreachable) -> str:
    """What went wrong, in AWS's words where there are some."""
    return error.message if isinstance(error, ServiceError) else str(error)


def code_of(error: ServiceError | Unreachable) -> str:
    """AWS's error code; `Unreachable` when there was no answer."""
    return error.code if isinstance(error, ServiceError) else "Unreachable"


_UNSEEN_REGION = Unseen(
    "Region", "the account has not enabled this Region; what may be left in it cannot be seen", REGION_NOT_ENABLED
)
_ENABLED = frozenset({"ENABLED", "ENABLED_BY_DEFAULT", "opt-in-not-required", "opted-in"})
_NOT_ENABLED = frozenset({"DISABLED", "not-opted-in"})


async def _statuses(aws: Aws, credentials: Credentials | None) -> dict[str, str]:
    """Region to its status, in the words of ListRegions or, where that is not allowed, of DescribeRegions."""
    try:
        pages = aws.paginate(
            credentials, "account", home_region(aws), "ListRegions", {"MaxResults": limits.REGIONS_PER_PAGE}
        )
        return {each["RegionName"]: each["RegionOptStatus"] async for page in pages for each in page["Regions"]}
    except (ServiceError, Unreachable):
        return await _described(aws, credentials)


async def _described(aws: Aws, credentials: Credentials | None) -> dict[str, str]:
    found = await aws.call(credentials, "ec2", home_region(aws), "DescribeRegions", {"AllRegions": True})
    return {each["RegionName"]: each["OptInStatus"] for each in found.get("Regions", ())}


async def check_regions(aws: Aws, caller: Caller, asked: Iterable[str]) -> None:
    """Every Region that the user named has to exist in this partition. Raises DiagnosticError `region-unknown`."""
    names = tuple(dict.fromkeys(asked))
    if not names:
        return
    try:
        known: Iterable[str] = await _described(aws, None)
    except (ServiceError, Unreachable):
        if caller.partition != "aws":
            return
        known = COMMERCIAL_REGIONS
    _refuse(
        Diagnostic("region-unknown", f"there is no Region `{name}`", hint=_regions_hint(name, known))
        for name in names
        if name not in known
    )


def _no_home(name: str) -> Diagnostic:
    """AWS refuses a Region that does not exist in the words of a wrong signature; the credentials are not at fault."""
    return Diagnostic(
        "region-unknown",
        f"AWS does not know the Region `{name}` of your settings",
        hint=f"correct AWS_REGION or the profile's `region`; {_regions_hint(name, COMMERCIAL_REGIONS)}",
    )


def _regions_hint(name: str, known: Iterable[str]) -> str:
    return closest(name, known) or f"the Regions are: {', '.join(sorted(known))}"


async def _list_accounts(aws: Aws, hear: Hear | None) -> list[Account]:
    found: list[Account] = []
    async for page in aws.paginate(None, "organizations", home_region(aws), "ListAccounts", {}):
        accounts = [
            Account(each["Id"], each.get("Name", ""), each.get("State") or each.get("Status") or ACTIVE)
            for each in page.get("Accounts", ())
        ]
        if hear is not None:
            hear.listed(accounts)
        found += accounts
    return found


def _inactive(account: Account) -> AccountUnseen:
    reason = f"the account is {account.state}: nobody can enter it"
    return AccountUnseen(account.account_id, None, Unseen("account", reason, ACCOUNT_NOT_ACTIVE))


def _only(caller: Caller, selection: Selection, notices: tuple[Diagnostic, ...]) -> Visit:
    """The caller's own account and no other."""
    _refuse(
        Diagnostic(
            "account-unknown",
            f"account `{name}` is not the current one, {caller.account_id}",
            hint="leave `--current-account` out to reach other accounts through their role",
        )
        for name in selection.accounts
        if name != caller.account_id
    )
    if selection.needs_units:
        raise _units_needed()
    if caller.account_id in selection.exclude_accounts:
        raise _nothing_left()
    return Visit(caller, (Account(caller.account_id, ""),), notices=notices, current_account=True)


def _units_needed() -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            "organization-needed",
            "`--ou` and `--exclude-ou` need the organization's tree, which this caller does not see",
            hint="use credentials of the management account or of a delegated administrator, or name `--accounts`",
        ),
        exit_code=2,
    )


_NO_ORGANIZATION = "AWSOrganizationsNotInUseException"
_NONE_FOR_US = (_NO_ORGANIZATION, "AccessDenied", "UnauthorizedOperation")
"""How the codes begin that say for good that this caller sees no organization. After any other, it may see it soon."""


def _without_organization(caller: Caller, selection: Selection, error: ServiceError | Unreachable) -> Visit:
    """There is no organization for this caller: visit the accounts that were named, else the current one, and say so.

    Raises DiagnosticError when there may be one.
    """
    if code_of(error) == _NO_ORGANIZATION:
        why = "the account is not in an organization"
    else:
        why = f"Organizations does not list accounts to this caller ({code_of(error)})"
    if not selection.accounts or selection.needs_units:
        if not code_of(error).startswith(_NONE_FOR_US):
            raise DiagnosticError(
                Diagnostic(
                    "accounts-unlisted",
                    f"the organization's accounts could not be listed: {said(error)}",
                    hint=f"try again; `--current-account` looks at account {caller.account_id} alone",
                )
            )
        notice = Diagnostic(
            "current-account-only",
            f"{why}: only account {caller.account_id} is scanned",
            hint="use credentials of the management account or a delegated administrator, or name `--accounts`",
            severity=Severity.WARNING,
        )
        return _only(caller, selection, (notice,))
    _refuse(
        Diagnostic("account-unknown", f"`{name}` is not an account id", hint="account ids have twelve digits")
        for name in (*selection.accounts, *selection.exclude_accounts)
        if not _ACCOUNT_ID.fullmatch(name)
    )
    notice = Diagnostic(
        "accounts-as-named", f"{why}: the accounts are taken as named, unchecked", severity=Severity.WARNING
    )
    chosen = tuple(
        Account(name, "") for name in dict.fromkeys(selection.accounts) if name not in selection.exclude_accounts
    )
    if not chosen:
        raise _nothing_left()
    return Visit(caller, chosen, notices=(notice,))


_ACCOUNT_ID = re.compile(r"\d{12}")


async def _tree_if_seen(aws: Aws, selection: Selection) -> Tree | Unseen:
    """The tree, or why it could not be read when the selection does not need it."""
    try:
        return await read_tree(aws, home_region(aws))
    except (ServiceError, Unreachable) as error:
        if not selection.needs_units:
            return Unseen(UNITS, said(error), code_of(error))
        raise DiagnosticError(
            Diagnostic(
                "organization-needed",
                f"the organization's tree could not be read ({code_of(error)}: {said(error)})",
                hint="allow organizations:ListRoots, ListOrganizationalUnitsForParent and ListAccountsForParent",
            )
        ) from None


def _left_out(selection: Selection, tree: Tree | None, accounts: Iterable[Account]) -> frozenset[str]:
    """The accounts that `--ou` and `--exclude-ou` leave out, by id; a unit stands for everything below it."""
    if tree is None or not selection.needs_units:
        return frozenset()
    wanted = resolve_units(selection.ous, tree.units)
    unwanted = resolve_units(selection.exclude_ous, tree.units)
    _refuse((*wanted.problems, *unwanted.problems))
    above = {each.account_id: tree.above(each.account_id) for each in accounts}
    return frozenset(
        account_id
        for account_id, units in above.items()
        if (selection.ous and wanted.ids.isdisjoint(units)) or not unwanted.ids.isdisjoint(units)
    )


def _choose(selection: Selection, accounts: list[Account], left_out: frozenset[str]) -> list[Account]:
    """The accounts that the selection wants; each may be named by id or by its name."""
    names = {each.account_id for each in accounts} | {each.name for each in accounts if each.name}
    _refuse(
        Diagnostic(
            "account-unknown",
            f"`{name}` is not an account of {'the accounts file' if selection.listed else 'this organization'}",
            hint=closest(name, names) or _where_accounts_are(selection),
        )
        for name in dict.fromkeys((*selection.accounts, *selection.exclude_accounts))
        if name not in names
    )
    wanted, unwanted = set(selection.accounts), set(selection.exclude_accounts)
    chosen = [
        each
        for each in accounts
        if each.account_id not in left_out
        and (not wanted or {each.account_id, each.name} & wanted)
        and not {each.account_id, each.name} & unwanted
    ]
    if not chosen:
        raise _nothing_left()
    return chosen


def _where_accounts_are(selection: Selection) -> str:
    if selection.listed:
        return "the file names all accounts that are visited"
    return "`aws organizations list-accounts` lists them"


def _nothing_left() -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            "nothing-selected",
            "no account is left to visit",
            hint="widen `--accounts` and `--ou`, or drop an exclusion",
        ),
        exit_code=2,
    )


def _refuse(problems: Iterable[Diagnostic]) -> None:
    """Stop with all problems together (exit code 2), or go on when there is none."""
    found = tuple(problems)
    if found:
        raise DiagnosticError(found, exit_code=2)

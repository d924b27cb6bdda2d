"""Is a program ready for IMDSv2 `required`, and from which hop limit on? Decided from the calls that it made.

Source: EC2 User Guide, "Transition to using Instance Metadata Service Version 2": the answer to a PUT travels no
further than HttpPutResponseHopLimit, and with HttpTokens=required a call without a token is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

CALLERS_MAX = 1_000
"""So many different programs are told apart; calls of further ones share a row."""
PIDS_COUNTED_MAX = 1_000


class Use(StrEnum):
    """What came of one call."""

    TOKEN = "token"  # asked for a token and got it
    TOKEN_LOST = "token-lost"  # the answer with the token ended before it reached the program: hop limit
    TOKEN_REFUSED = "token-refused"
    V2 = "v2"
    V2_REFUSED = "v2-refused"  # the token was not good
    V1 = "v1"
    V1_REFUSED = "v1-refused"  # tokens are required
    OTHER_REFUSED = "other-refused"  # endpoint disabled, a method that is not allowed, no HTTP


REFUSED = (Use.TOKEN_REFUSED, Use.V2_REFUSED, Use.V1_REFUSED, Use.OTHER_REFUSED)
V1 = (Use.V1, Use.V1_REFUSED)
V2 = (Use.V2, Use.V2_REFUSED)
TOKENS = (Use.TOKEN, Use.TOKEN_LOST, Use.TOKEN_REFUSED)


@dataclass(frozen=True, slots=True)
class Caller:
    """A program that calls: its process's name, its arguments, the container it runs in. Empty: not known."""

    name: str = ""
    command: str = ""
    container: str = ""


UNKNOWN_CALLER = Caller()
OTHER_CALLERS = Caller("(other programs)")


@dataclass(slots=True)
class Usage:
    """The calls of all processes of one caller. `routers` is how far away they were at most; None: not known."""

    caller: Caller
    uses: Counter[Use] = field(default_factory=Counter)
    pids: set[int] = field(default_factory=set)
    routers: int | None = None
    first_path: str = ""
    last_path: str = ""

    def count(self, uses: Iterable[Use]) -> int:
        """Calls with any of these outcomes."""
        return sum(self.uses[use] for use in uses)


class UsageTable:
    """Calls, added up by caller, in the order in which the callers came. Bounded: see the constants."""

    def __init__(self) -> None:
        self._usages: dict[Caller, Usage] = {}

    def add(self, caller: Caller, pid: int | None, use: Use, path: str, routers: int | None) -> None:
        """Count a call."""
        if caller not in self._usages and len(self._usages) >= CALLERS_MAX:
            caller = OTHER_CALLERS
        usage = self._usages.setdefault(caller, Usage(caller))
        usage.uses[use] += 1
        if pid is not None and len(usage.pids) < PIDS_COUNTED_MAX:
            usage.pids.add(pid)
        if routers is not None:
            usage.routers = max(routers, usage.routers or 0)
        usage.first_path = usage.first_path or path
        usage.last_path = path

    def usages(self) -> Sequence[Usage]:
        """What was counted."""
        return tuple(self._usages.values())


class Readiness(StrEnum):
    """`unproven`: what was seen does not tell."""

    READY = "ready"
    NOT_READY = "not-ready"
    UNPROVEN = "unproven"


class Why(StrEnum):
    """What stands between a program and `required`."""

    NO_CALLS = "no-calls"  # nothing asked for a token or for metadata
    V1_ONLY = "v1-only"  # it never asks for a token: no hop limit helps
    V1_BESIDE_LOST = "v1-beside-lost"  # it did not ask for a token, but another program did and did not get it
    FELL_BACK = "fell-back"  # its tokens did not arrive, so it went on with IMDSv1
    TOKEN_REFUSED = "token-refused"  # its request for a token is refused, so it went on with IMDSv1
    V1_BESIDE_V2 = "v1-beside-v2"  # it has a token and also asks without
    TOKEN_LOST = "token-lost"  # its tokens did not arrive, and it did not go on


@dataclass(frozen=True, slots=True)
class Reason:
    """Why, of which caller, in how many calls."""

    why: Why
    caller: Caller = UNKNOWN_CALLER
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`hop_limit` is the smallest with which all tokens arrive; None: nobody asked for one, or it cannot be told."""

    readiness: Readiness
    hop_limit: int | None = None
    reasons: tuple[Reason, ...] = ()


def judge(usages: Sequence[Usage]) -> Verdict:
    """The verdict on everything that ran."""
    lost = any(usage.uses[Use.TOKEN_LOST] for usage in usages)
    reasons = [reason for usage in usages for reason in _reasons(usage, lost)]
    askers = [usage for usage in usages if usage.count((*TOKENS, *V2))]
    hop_limit = None
    if askers and all(usage.routers is not None for usage in askers):
        hop_limit = 1 + max(usage.routers or 0 for usage in askers)
    if reasons:
        unproven = all(reason.why is Why.TOKEN_LOST for reason in reasons)
        return Verdict(Readiness.UNPROVEN if unproven else Readiness.NOT_READY, hop_limit, tuple(reasons))
    # A token alone, or one that was refused, does not show a program at work.
    if not any(usage.uses[Use.V2] for usage in usages):
        return Verdict(Readiness.UNPROVEN, hop_limit, (Reason(Why.NO_CALLS),))
    return Verdict(Readiness.READY, hop_limit)


def _reasons(usage: Usage, lost_somewhere: bool) -> Iterable[Reason]:
    v1, lost = usage.count(V1), usage.uses[Use.TOKEN_LOST]
    if v1 and lost:
        yield Reason(Why.FELL_BACK, usage.caller, v1)
    elif v1 and (usage.uses[Use.TOKEN] or usage.uses[Use.V2]):
        yield Reason(Why.V1_BESIDE_V2, usage.caller, v1)
    elif v1 and usage.uses[Use.TOKEN_REFUSED]:
        yield Reason(Why.TOKEN_REFUSED, usage.caller, v1)
    elif v1:
        # A script's tokens are fetched by one process and used by others.
        yield Reason(Why.V1_BESIDE_LOST if lost_somewhere else Why.V1_ONLY, usage.caller, v1)
    elif lost:
        yield Reason(Why.TOKEN_LOST, usage.caller, lost)


class FailOn(StrEnum):
    """When `run` fails although the program did not, and `trace` although it has observed."""

    V1 = "v1"  # an IMDSv1 call was answered
    ANY_V1_ATTEMPT = "any-v1-attempt"  # or refused, as `required` does


def fails(usages: Sequence[Usage], on: FailOn | None) -> bool:
    """Whether the calls are such that `run` fails."""
    counted: tuple[Use, ...] = () if on is None else (Use.V1,) if on is FailOn.V1 else V1
    return any(usage.count(counted) for usage in usages)

"""Faults on purpose: rules that say which calls of the local AWS go wrong, and how. See docs/local-aws.md, "Faults".

A rule is a condition and a fault. Nothing is left to chance that cannot be repeated: how often a rule matched is
counted, and a probability is drawn from the seed, the rule and the call, not from a generator that calls share. The
same calls meet the same faults, in whatever order they arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import partial
from hashlib import blake2b
from typing import Any

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

HINT = "docs/local-aws.md, Faults, shows the whole file"


class Fault(StrEnum):
    """What goes wrong."""

    THROTTLE = "throttle"
    INTERNAL_ERROR = "500"
    UNAVAILABLE = "503"
    TIMEOUT = "timeout"
    """No answer, on a connection that stays open."""
    RESET = "reset"
    """No answer: the connection is reset."""
    TRUNCATE = "truncate"
    """Half of the answer, then the connection is closed."""
    SLOW = "slow"
    """The answer comes in ten pieces over `seconds`."""
    EXPIRED_TOKEN = "expired-token"
    ACCESS_DENIED = "access-denied"
    WRONG_CLOCK = "wrong-clock"
    """AWS's clock is `minutes` ahead of this machine's (behind it, when negative), and allows for a difference of five.
    Other rules apply as well."""
    REGION_DOWN = "region-down"
    """Every connection of a Region is reset before its request is looked at."""


class When(StrEnum):
    """Whether the call is carried out all the same."""

    BEFORE = "before"
    AFTER = "after"
    """It is, and its answer is lost or replaced."""


_BEFORE_ONLY = frozenset(
    {Fault.THROTTLE, Fault.EXPIRED_TOKEN, Fault.ACCESS_DENIED, Fault.WRONG_CLOCK, Fault.REGION_DOWN}
)
"""AWS decides these before it does anything."""
_AFTER_ONLY = frozenset({Fault.TRUNCATE, Fault.SLOW})
"""These need an answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for what, as a request says; what it does not say is empty. `service` is botocore's name."""

    service: str
    operation: str
    account: str
    region: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. The first four are patterns as a shell has them (`Describe*`).

    Of the calls that match, the first `after` are left alone, then the next `first` (None: all) may be hit: every
    `every`-th of them, each with `probability`. With `each`, every API of every account and Region counts for itself.
    """

    fault: Fault
    when: When
    service: str = "*"
    operation: str = "*"
    account: str = "*"
    region: str = "*"
    after: int = 0
    first: int | None = None
    every: int = 1
    probability: float = 1.0
    each: bool = False
    seconds: float = 5.0
    minutes: float = 10.0

    def matches(self, asked: Asked) -> bool:
        """Whether the rule is about such a call."""
        return (
            fnmatchcase(asked.service, self.service)
            and fnmatchcase(asked.operation, self.operation)
            and fnmatchcase(asked.account, self.account)
            and fnmatchcase(asked.region, self.region)
        )


@dataclass(slots=True)
class Faults:
    """Rules, and how often each has matched and hit so far."""

    rules: Sequence[Rule]
    seed: int = 0
    matched: list[int] = field(init=False)
    hit: list[int] = field(init=False)
    _counts: dict[tuple[int, Asked], int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.matched = [0] * len(self.rules)
        self.hit = [0] * len(self.rules)

    def of(self, asked: Asked) -> list[Rule]:
        """What happens to this call: clocks that are off, and at most one fault of another kind (the first that hits).

        Counts it.
        """
        found: list[Rule] = []
        for number, rule in enumerate(self.rules):
            if rule.matches(asked) and self._hits(number, rule, asked):
                found.append(rule)
                if rule.fault is not Fault.WRONG_CLOCK:
                    break
        return found

    def _hits(self, number: int, rule: Rule, asked: Asked) -> bool:
        of_its_kind = self._counts[number, asked] = self._counts.get((number, asked), 0) + 1
        self.matched[number] += 1
        place = (of_its_kind if rule.each else self.matched[number]) - rule.after
        if place < 1 or (rule.first is not None and place > rule.first) or place % rule.every:
            return False
        if rule.probability < 1.0 and self._fraction(number, asked, of_its_kind) >= rule.probability:
            return False
        self.hit[number] += 1
        return True

    def _fraction(self, number: int, asked: Asked, count: int) -> float:
        text = f"{self.seed}/{number}/{asked.service}/{asked.operation}/{asked.account}/{asked.region}/{count}"
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) / 2.0**64


def parse_faults(document: Mapping[str, Any], name: str) -> Faults:
    """The rules of a file: `{seed = 1, rule = [{fault = ..., ...}]}`; `name` is the file's, for diagnostics.

    Raises DiagnosticError `faults-invalid` (exit code 2) with every mistake.
    """
    problems: list[Diagnostic] = []

    def problem(where: str, what: str) -> None:
        problems.append(Diagnostic("faults-invalid", what, f"{name}: {where}" if where else name, HINT))

    for key in document:
        if key not in ("seed", "rule"):
            problem("", f"`{key}` is not known here: a file has `seed` and `rule`")
    seed = document.get("seed", 0)
    if not _is_number(seed, int):
        problem("seed", f"`{seed}` is not a whole number")
    given = document.get("rule", [])
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        problem("rule", "the rules are tables: `[[rule]]`, then one line for each of its settings")
        given = []
    rules = [_rule(each, partial(problem, f"rule {number}")) for number, each in enumerate(given, 1)]
    if problems:
        raise DiagnosticError(problems, exit_code=2)
    return Faults(tuple(rule for rule in rules if rule is not None), seed)


_TEXTS = ("service", "operation", "account", "region")
_COUNTS = {"after": 0, "first": 1, "every": 1}
"""Settings that are whole numbers, and the least that each may be."""
_KNOWN = ("fault", "when", *_TEXTS, *_COUNTS, "probability", "each", "seconds", "minutes")


def _rule(given: Mapping[str, Any], problem: Callable[[str], None]) -> Rule | None:
    """One rule; None when it has no fault. Tells of every mistake."""
    for key in given:
        if key not in _KNOWN:
            problem(f"`{key}` is not known; a rule has {', '.join(_KNOWN)}")
    settings: dict[str, Any] = {}
    for key in _TEXTS:
        if key in given:
            settings[key] = str(given[key])
            if not isinstance(given[key], str) or not given[key]:
                problem(f"`{key}` is a text such as `{'111122223333' if key == 'account' else '*'}`, in quotes")
    for key, least in _COUNTS.items():
        if key in given:
            settings[key] = given[key]
            if not _is_number(given[key], int) or given[key] < least:
                problem(f"`{key}` is a whole number from {least} up, not `{given[key]}`")
    for key, low, high in (("probability", 0.0, 1.0), ("seconds", 0.0, 3600.0), ("minutes", -1440.0, 1440.0)):
        if key in given:
            settings[key] = given[key]
            if not _is_number(given[key], (int, float)) or not low <= given[key] <= high:
                problem(f"`{key}` is a number from {low:g} to {high:g}, not `{given[key]}`")
    if "each" in given:
        settings["each"] = given["each"]
        if not isinstance(given["each"], bool):
            problem("`each` is true or false")
    fault = next((each for each in Fault if each == str(given.get("fault", ""))), None)
    if fault is None:
        problem(f"`fault` is one of {', '.join(Fault)}, not `{given.get('fault', '')}`")
        return None
    usual = When.AFTER if fault in _AFTER_ONLY else When.BEFORE
    when = next((each for each in When if each == given.get("when", usual)), None)
    if when is None:
        problem(f"`when` is `before` or `after`, not `{given['when']}`")
    elif (fault in _BEFORE_ONLY and when is When.AFTER) or (fault in _AFTER_ONLY and when is When.BEFORE):
        problem(f"a `{fault}` is always `{usual}` the call is carried out")
    return Rule(fault, when or usual, **settings)


def _is_number(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)

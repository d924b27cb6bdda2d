"""Metric math: expressions over time series, parsed once and evaluated on what the identifiers stand for.

Source: CloudWatch User Guide, "Using math expressions with CloudWatch metrics". Here are numbers, identifiers, the
operators + - * / ^, METRICS(), SUM, AVG, MIN, MAX, ABS, CEIL, FLOOR, FILL and SEARCH; AWS's other functions are refused
by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from imdsctl.local.cloudwatch.state import MetricKey

DEPTH_MAX = 50
FILLED_POINTS_MAX = 100_800
"""As many points as a GetMetricData call returns; FILL makes no more of one series."""


class MathError(ValueError):
    """An expression that cannot be read or evaluated; the message says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """A time series: values by second since 1970, a label, and where it came from when it is one metric's."""

    label: str
    points: Mapping[int, float] = field(default_factory=dict)
    key: MetricKey | None = None
    period: int = 60
    statistic: str = ""


Value = float | Line | list[Line]


class Names(Protocol):
    """What an expression may ask of the request around it. Each raises MathError."""

    period: int
    span: tuple[int, int]

    def value(self, identifier: str) -> Value:
        """What an identifier stands for."""

    def metrics(self, containing: str) -> list[Line]:
        """All metrics of the request (not its expressions) whose identifiers contain a text."""

    def search(self, expression: str, statistic: str, period: int) -> list[Line]:
        """The metrics that a search expression finds."""


_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"""|(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<mark>[-+*/^(),]))"""
)
Token = tuple[str, str]


def evaluate(text: str, names: Names) -> Value:
    """The value of an expression. Raises MathError."""
    tokens = list(_tokens(text))
    parser = _Parser(tokens, names)
    try:
        value = parser.sum()
    except OverflowError:
        raise MathError("a number is too large") from None
    if parser.next() is not None:
        raise MathError(f"unexpected {parser.take()[1]!r}")
    if isinstance(value, str):
        raise MathError("a text is no time series")
    return value


def identifiers(text: str) -> list[str]:
    """The identifiers that an expression refers to. Raises MathError."""
    return [value for kind, value in _tokens(text) if kind == "name" and value[0].islower()]


def _tokens(text: str) -> Iterator[Token]:
    position, text = 0, text.rstrip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise MathError(f"unexpected text at position {position}")
        kind = str(found.lastgroup)
        # What is escaped inside a text is left to who reads it: a search expression has escapes of its own.
        yield kind, found[kind][1:-1] if kind == "text" else found[kind]
        position = found.end()


class _Parser:
    """Reads and computes in one pass; every level of the grammar returns its value."""

    def __init__(self, tokens: list[Token], names: Names) -> None:
        self._tokens, self._names = tokens, names
        self._at = self._depth = 0

    def next(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self) -> Token:
        found = self.next()
        if found is None:
            raise MathError("the expression ends too early")
        self._at += 1
        return found

    def sum(self) -> Value | str:
        value = self._product()
        while (mark := self.next()) in (("mark", "+"), ("mark", "-")):
            self.take()
            assert mark is not None
            value = _combine(mark[1], value, self._product())
        return value

    def _product(self) -> Value | str:
        value = self._power()
        while (mark := self.next()) in (("mark", "*"), ("mark", "/")):
            self.take()
            assert mark is not None
            value = _combine(mark[1], value, self._power())
        return value

    def _power(self) -> Value | str:
        value = self._single()
        while self.next() == ("mark", "^"):
            self.take()
            value = _combine("^", value, self._single())
        return value

    def _single(self) -> Value | str:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise MathError("the expression is nested too deeply")
        try:
            kind, text = self.take()
            if kind == "number":
                if not math.isfinite(number := float(text)):
                    raise MathError("a number is too large")
                return number
            if kind == "text":
                return text
            if (kind, text) == ("mark", "-"):
                return _combine("*", -1.0, self._single())
            if (kind, text) == ("mark", "("):
                value = self.sum()
                self._close()
                return value
            if kind == "name":
                if self.next() == ("mark", "("):
                    self.take()
                    return self._call(text, self._arguments())
                return text if text in ("REPEAT", "LINEAR") else self._names.value(text)
            raise MathError(f"unexpected {text!r}")
        finally:
            self._depth -= 1

    def _arguments(self) -> list[Value | str]:
        if self.next() == ("mark", ")"):
            self.take()
            return []
        found = [self.sum()]
        while self.next() == ("mark", ","):
            self.take()
            found.append(self.sum())
        self._close()
        return found

    def _close(self) -> None:
        if self.next() != ("mark", ")"):
            raise MathError("a parenthesis is not closed")
        self.take()

    def _call(self, name: str, arguments: Sequence[Value | str]) -> Value:
        names = self._names
        match name, arguments:
            case "METRICS", []:
                return names.metrics("")
            case "METRICS", [str(containing)]:
                return names.metrics(containing)
            case "SEARCH", [str(expression), str(statistic)]:
                return names.search(expression, statistic, names.period)
            case "SEARCH", [str(expression), str(statistic), float(period)]:
                return names.search(expression, statistic, int(period))
            case (("SUM" | "AVG" | "MIN" | "MAX"), [float() | Line() | list() as value]):
                return _aggregate(name, value)
            case (("ABS" | "CEIL" | "FLOOR"), [float() | Line() | list() as value]):
                return _each(value, _ROUNDING[name])
            case "FILL", [(Line() | list()) as value, (float() | "REPEAT" | "LINEAR") as filler]:
                lines = [value] if isinstance(value, Line) else value
                filled = [_filled(line, filler, names.span) for line in lines]
                return filled[0] if isinstance(value, Line) else filled
        if name in _KNOWN:
            raise MathError(f"the arguments of {name} are not right")
        raise MathError(f"the local AWS of imdsctl does not implement the function {name}")


_KNOWN = ("METRICS", "SEARCH", "SUM", "AVG", "MIN", "MAX", "ABS", "CEIL", "FLOOR", "FILL")
_ROUNDING: Mapping[str, Callable[[float], float]] = {
    "ABS": abs,
    "CEIL": lambda value: float(math.ceil(value)),
    "FLOOR": lambda value: float(math.floor(value)),
}
_AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "SUM": math.fsum,
    "AVG": lambda values: math.fsum(values) / len(values),
    "MIN": min,
    "MAX": max,
}


def _aggregate(name: str, value: Value) -> Value:
    """Over an array: point by point, into one series. Over one series: over its points, into a number."""
    combine = _AGGREGATES[name]
    if isinstance(value, float):
        return value
    if isinstance(value, Line):
        return combine(list(value.points.values())) if value.points else 0.0
    gathered: dict[int, list[float]] = {}
    for line in value:
        for at, number in line.points.items():
            gathered.setdefault(at, []).append(number)
    return Line(name, {at: combine(numbers) for at, numbers in sorted(gathered.items())}, period=_period(value))


def _each(value: Value, change: Callable[[float], float]) -> Value:
    if isinstance(value, float):
        return change(value)
    if isinstance(value, Line):
        return replace(value, points={at: change(number) for at, number in value.points.items()})
    return [replace(line, points={at: change(number) for at, number in line.points.items()}) for line in value]


def _combine(mark: str, left: Value | str, right: Value | str) -> Value:
    if isinstance(left, str) or isinstance(right, str):
        raise MathError(f"a text cannot be an operand of {mark}")
    if isinstance(left, list) and isinstance(right, list):
        raise MathError(f"two arrays cannot be the operands of {mark}")
    if isinstance(left, list):
        return [line for each in left if isinstance(line := _combine(mark, each, right), Line)]
    if isinstance(right, list):
        return [line for each in right if isinstance(line := _combine(mark, left, each), Line)]
    if isinstance(left, Line) and isinstance(right, Line):
        pairs = {at: (number, right.points[at]) for at, number in left.points.items() if at in right.points}
        return replace(left, points=_computed(mark, pairs), key=None)
    if isinstance(left, Line):
        assert isinstance(right, float)
        return replace(left, points=_computed(mark, {at: (number, right) for at, number in left.points.items()}))
    if isinstance(right, Line):
        return replace(right, points=_computed(mark, {at: (left, number) for at, number in right.points.items()}))
    found = _compute(mark, left, right)
    if found is None:
        raise MathError("a number is divided by zero, or too large")
    return found


def _computed(mark: str, pairs: Mapping[int, tuple[float, float]]) -> dict[int, float]:
    """Where a result is not a number there is no point."""
    found = ((at, _compute(mark, *pair)) for at, pair in pairs.items())
    return {at: value for at, value in found if value is not None}


def _compute(mark: str, left: float, right: float) -> float | None:
    try:
        if mark == "+":
            value = left + right
        elif mark == "-":
            value = left - right
        elif mark == "*":
            value = left * right
        elif mark == "/":
            value = left / right
        else:
            value = math.pow(left, right)
    except (ZeroDivisionError, OverflowError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _filled(line: Line, filler: float | str, span: tuple[int, int]) -> Line:
    """The series with a point for every period; REPEAT takes the point before, LINEAR goes straight to the next."""
    points = line.points
    if isinstance(filler, str) and not points:
        return line
    first, end = span
    if (end - first) // line.period > FILLED_POINTS_MAX:
        raise MathError(f"FILL would make more than {FILLED_POINTS_MAX} points")
    out: dict[int, float] = {}
    known = sorted(points)
    before: int | None = None
    ahead = iter([*known, None])
    following = next(ahead)
    for at in range(first, end, line.period):
        while following is not None and following <= at:
            before, following = following, next(ahead)
        if at in points:
            out[at] = points[at]
        elif isinstance(filler, float):
            out[at] = filler
        elif before is not None and (filler == "REPEAT" or following is None):
            out[at] = points[before] if filler == "REPEAT" else out[at - line.period]
        elif before is not None and following is not None:
            share = (at - before) / (following - before)
            out[at] = points[before] + (points[following] - points[before]) * share
    return replace(line, points=out)


def _period(lines: Sequence[Line]) -> int:
    return min((line.period for line in lines), default=60)

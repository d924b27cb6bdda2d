"""Search expressions: which metrics `{AWS/EC2,InstanceId} MetricName="MetadataNoToken"` finds.

Source: CloudWatch User Guide, "CloudWatch search expression syntax". A schema in braces restricts to a namespace with
exactly these dimensions. A quoted term must match a whole name or value; an unquoted one matches tokens of it,
whatever their case. Terms next to each other must all hold; AND, OR, NOT and parentheses combine them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from imdsctl.local.cloudwatch.state import MetricKey

EXPRESSION_LENGTH_MAX = 1024
DEPTH_MAX = 50
Test = Callable[[MetricKey], bool]
Texts = Callable[[MetricKey], Iterable[str]]

_TOKEN = re.compile(r'\s*(?:(?P<mark>[()={},])|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[^\s()={},"]+))')
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


class SearchError(ValueError):
    """A search expression that is none; the message says where it went wrong."""


def compile_search(text: str, account_id: str) -> Test:
    """A test for the metrics that a search finds; `account_id` is whose metrics they are. Raises SearchError."""
    if len(text) > EXPRESSION_LENGTH_MAX:
        raise SearchError(f"a search expression has at most {EXPRESSION_LENGTH_MAX} characters")
    return _Parser(text, account_id).everything()


def tokens(text: str) -> frozenset[str]:
    """The words of a name: split at what is no letter or digit, and where camel case begins a new one."""
    whole = (part.lower() for part in re.split(r"[^A-Za-z0-9]+", text) if part)
    return frozenset([*whole, *(part.lower() for part in _PART.findall(text))])


class _Parser:
    def __init__(self, text: str, account_id: str) -> None:
        self._account_id = account_id
        self._tokens: list[tuple[str, str]] = []
        self._at = 0
        self._depth = 0
        position = 0
        text = text.rstrip()
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None:
                raise SearchError(f"unexpected text at position {position}")
            kind = str(found.lastgroup)
            value = found[kind]
            self._tokens.append((kind, re.sub(r"\\(.)", r"\1", value) if kind == "quoted" else value))
            position = found.end()

    def everything(self) -> Test:
        schema = self._schema() if self._next() == ("mark", "{") else None
        terms = self._any(_all_texts) if self._next() is not None else None
        if (more := self._next()) is not None:
            raise SearchError(f"unexpected {more[1]!r}")
        if schema is None and terms is None:
            raise SearchError("the search is empty")
        tests = [test for test in (schema, terms) if test is not None]
        return lambda key: all(test(key) for test in tests)

    # -- the grammar ---------------------------------------------------------------------------------------------------

    def _schema(self) -> Test:
        self._take()
        names: list[str] = []
        while True:
            kind, value = self._take()
            words = [value] if kind != "mark" else []
            while (following := self._next()) is not None and following[0] != "mark":
                words.append(self._take()[1])
            if not words:
                raise SearchError("a name is missing in the braces")
            names.append(" ".join(words))
            mark = self._take()
            if mark == ("mark", "}"):
                break
            if mark != ("mark", ","):
                raise SearchError("the braces are not closed")
        namespace, dimensions = names[0], frozenset(names[1:])
        return lambda key: key.namespace == namespace and frozenset(name for name, _ in key.dimensions) == dimensions

    def _any(self, texts: Texts) -> Test:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise SearchError("the search is nested too deeply")
        tests = [self._all(texts)]
        while self._next() == ("word", "OR"):
            self._take()
            tests.append(self._all(texts))
        self._depth -= 1
        return tests[0] if len(tests) == 1 else lambda key: any(test(key) for test in tests)

    def _all(self, texts: Texts) -> Test:
        tests = [self._one(texts)]
        while (following := self._next()) is not None and following not in (("mark", ")"), ("word", "OR")):
            if following == ("word", "AND"):
                self._take()
            tests.append(self._one(texts))
        return tests[0] if len(tests) == 1 else lambda key: all(test(key) for test in tests)

    def _one(self, texts: Texts) -> Test:
        kind, value = self._take()
        if (kind, value) == ("word", "NOT"):
            self._depth += 1
            if self._depth > DEPTH_MAX:
                raise SearchError("the search is nested too deeply")
            inner = self._one(texts)
            self._depth -= 1
            return lambda key: not inner(key)
        if (kind, value) == ("mark", "("):
            grouped = self._any(texts)
            if self._next() != ("mark", ")"):
                raise SearchError("a parenthesis is not closed")
            self._take()
            return grouped
        if kind == "mark" or (kind == "word" and value in ("AND", "OR")):
            raise SearchError(f"unexpected {value!r}")
        if texts is _all_texts and self._next() == ("mark", "="):
            self._take()
            return self._one(self._texts_of(value))
        return _term(value, texts, exact=kind == "quoted")

    def _texts_of(self, name: str) -> Texts:
        if name == ":aws.AccountId":
            return lambda key: (self._account_id,)
        if name == "MetricName":
            return lambda key: (key.name,)
        if name == "Namespace":
            return lambda key: (key.namespace,)
        return lambda key: (value for dimension, value in key.dimensions if dimension == name)

    def _next(self) -> tuple[str, str] | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self) -> tuple[str, str]:
        found = self._next()
        if found is None:
            raise SearchError("the search ends too early")
        self._at += 1
        return found


def _all_texts(key: MetricKey) -> Iterable[str]:
    yield key.namespace
    yield key.name
    for name, value in key.dimensions:
        yield name
        yield value


def _term(value: str, texts: Texts, *, exact: bool) -> Test:
    if exact:
        return lambda key: value in texts(key)
    wanted = tokens(value)
    if not wanted:
        raise SearchError(f"{value!r} holds no letter and no digit")
    whole = value.lower()
    return lambda key: any(whole == text.lower() or wanted <= tokens(text) for text in texts(key))

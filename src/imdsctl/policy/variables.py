"""Policy variables: `${aws:username}`, `${aws:PrincipalTag/team, 'nobody'}`, `${*}`.

Source: IAM User Guide, "IAM policy elements: Variables and tags". Key names are case-insensitive; only a single-valued
key can be a variable; a key that is absent or empty gives no value, and what has no value is like nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from imdsctl.policy.patterns import Matcher, Pieces
from imdsctl.policy.request import Keys

_VARIABLE = re.compile(r"\$\{(?:(?P<special>[*?$])|(?P<key>[^{}',]*[^{}', ])(?:, ?'(?P<default>[^']*)')?)\}")


class InvalidVariable(ValueError):
    """A `${` that does not begin a policy variable."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A context key (lower case) to be filled in, and what stands there when it has no value."""

    key: str
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """A string of a policy, taken apart once."""

    parts: tuple[tuple[str, bool] | Variable, ...]

    @property
    def fixed(self) -> Pieces | None:
        """The pieces, when nothing has to be filled in."""
        pieces = tuple(part for part in self.parts if isinstance(part, tuple))
        return pieces if len(pieces) == len(self.parts) else None

    def resolve(self, keys: Keys) -> Pieces | None:
        """The pieces for one request; None when a variable has no value."""
        resolved = []
        for part in self.parts:
            if isinstance(part, Variable):
                value = keys.get(part.key) or part.default
                if not isinstance(value, str):
                    return None
                resolved.append((value, False))
            else:
                resolved.append(part)
        return tuple(resolved)

    def matcher(self, compile_: Callable[[Pieces], Matcher]) -> Callable[[str, Keys], bool]:
        """A test of (text, request keys); `compile_` makes a matcher of pieces, and is expected to remember."""
        fixed = self.fixed
        if fixed is not None:
            match = compile_(fixed)
            return lambda text, keys: match(text)

        def test(text: str, keys: Keys) -> bool:
            pieces = self.resolve(keys)
            return pieces is not None and compile_(pieces)(text)

        return test


def literal(text: str) -> Template:
    """A string without variables, as policies of version 2008-10-17 have them; wildcards are wildcards."""
    return Template(((text, True),))


def template(text: str) -> Template:
    """Take a string of a 2012-10-17 policy apart. Raises InvalidVariable."""
    parts: list[tuple[str, bool] | Variable] = []
    position = 0
    while (start := text.find("${", position)) >= 0:
        found = _VARIABLE.match(text, start)
        if found is None:
            raise InvalidVariable(f"`{text[start:]}` does not begin with a policy variable")
        if start > position:
            parts.append((text[position:start], True))
        special = found["special"]
        parts.append((special, False) if special else Variable(found["key"].strip().lower(), found["default"]))
        position = found.end()
    if position < len(text) or not parts:
        parts.append((text[position:], True))
    return Template(tuple(parts))

"""A policy document, checked and compiled: parse once, decide many times.

Source: IAM User Guide, "IAM JSON policy elements reference" and "Grammar of the IAM JSON policy language"; for SCPs the
Organizations User Guide, "SCP syntax" (its table of elements: conditions, NotAction and NotResource also with Allow).
Where IAM's own wording of a refusal is known from its answers, `Problem.message` uses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from imdsctl.policy.conditions import NULL, Condition, compile_condition, known, takes_variables
from imdsctl.policy.json_text import read_document
from imdsctl.policy.operators import InvalidValue
from imdsctl.policy.patterns import like, pieces_of, resource_like
from imdsctl.policy.principals import Named, Principals, account_of
from imdsctl.policy.problems import MalformedPolicy, Problem
from imdsctl.policy.request import Keys, Principal
from imdsctl.policy.variables import InvalidVariable, Template, literal, template


class PolicyKind(StrEnum):
    """What a policy is attached to, in the words of AWS's refusals."""

    IDENTITY = "identity-based policy"
    BOUNDARY = "permissions boundary"
    SESSION = "session policy"
    RESOURCE = "resource-based policy"
    TRUST = "role trust policy"
    SCP = "service control policy"


VERSION = "2012-10-17"
VERSION_WITHOUT_VARIABLES = "2008-10-17"
"""What a document without a Version is read as: `${...}` is plain text."""

_ACTIONS_REMEMBERED_MAX = 4096

Applies = Callable[[str, Keys], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """One compiled statement. `index` counts from 0, `actions` takes a lower-case `service:action`.

    `everything`: it covers every action on every resource, whoever asks and under any condition.
    """

    index: int
    sid: str | None
    allows: bool
    actions: Callable[[str], bool]
    resources: Applies | None
    principals: Callable[[Principal], Named] | None
    conditions: tuple[Condition, ...]
    everything: bool = False

    def named(self, resource: str, principal: Principal, keys: Keys) -> Named:
        """How closely the statement, whose action matches, names the caller; Named.NOT when it does not apply.

        A policy without Principal speaks of whom it is attached to, so it names every caller directly.
        """
        if self.resources is not None and not self.resources(resource, keys):
            return Named.NOT
        named = Named.DIRECTLY if self.principals is None else self.principals(principal)
        if named:
            for condition in self.conditions:
                if not condition(keys):
                    return Named.NOT
        return named


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A compiled policy. `name` is how a decision refers to it: a name or an ARN."""

    name: str
    kind: PolicyKind
    version: str
    statements: tuple[Statement, ...]
    _by_action: dict[str, tuple[Statement, ...]] = field(default_factory=dict, repr=False)

    @property
    def allows_everything(self) -> bool:
        """It has no Deny, and an Allow of everything: whatever is asked, it answers yes."""
        return all(each.allows for each in self.statements) and any(each.everything for each in self.statements)

    def about(self, action: str) -> tuple[Statement, ...]:
        """The statements whose Action or NotAction covers `action`, in any case of letters."""
        found = self._by_action.get(action)
        if found is None:
            lower = action.lower()
            found = tuple(statement for statement in self.statements if statement.actions(lower))
            if len(self._by_action) < _ACTIONS_REMEMBERED_MAX:
                self._by_action[action] = found
        return found


def parse_policy(document: str | Mapping[str, Any], *, name: str, kind: PolicyKind = PolicyKind.IDENTITY) -> Policy:
    """Check and compile a document. Raises MalformedPolicy with every problem that was found.

    `kind` decides which elements there may be; an identity-based policy also serves as boundary or session policy.
    Sizes are limits.py's business.
    """
    return _Parser(name, kind).policy(read_document(document))


# -- the parser ------------------------------------------------------------------------------------------------------

_DOCUMENT_ELEMENTS = frozenset({"Version", "Id", "Statement"})
_STATEMENT_ELEMENTS = frozenset(
    {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "NotPrincipal", "Condition"}
)
_WITH_PRINCIPAL = frozenset({PolicyKind.RESOURCE, PolicyKind.TRUST})
_ACTION = re.compile(r"\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+", re.ASCII)
_SID = re.compile(r"[A-Za-z0-9]*", re.ASCII)
_PRINCIPAL_TYPES = ("AWS", "Service", "Federated", "CanonicalUser")


class _Parser:
    def __init__(self, name: str, kind: PolicyKind) -> None:
        self._name = name
        self._kind = kind
        self._problems: list[Problem] = []
        self._template: Callable[[str], Template] = literal

    def policy(self, document: Mapping[str, Any]) -> Policy:
        for element in document:
            if element not in _DOCUMENT_ELEMENTS:
                self._problem("unknown-element", f"`{element}` is not an element of a policy", str(element))
        version = document.get("Version", VERSION_WITHOUT_VARIABLES)
        if version not in (VERSION, VERSION_WITHOUT_VARIABLES):
            self._problem("invalid-version", f"`{version}` is not a version: use `{VERSION}`", "Version")
        elif version == VERSION:
            self._template = template
        if not isinstance(document.get("Id", ""), str):
            self._problem("wrong-type", "an Id is a string", "Id")
        statements = tuple(self._statements(document.get("Statement")))
        if self._problems:
            raise MalformedPolicy(self._problems)
        return Policy(self._name, self._kind, version, statements)

    def _statements(self, value: Any) -> Iterator[Statement]:
        single = isinstance(value, Mapping)
        listed: Sequence[Any] = [value] if single else value if isinstance(value, list | tuple) else ()
        if not listed:
            missing = value is None or value in ([], ())
            code, message = ("missing-element", "a policy has statements") if missing else _WRONG_STATEMENT
            self._problem(code, message, "Statement")
        sids: set[str] = set()
        for index, each in enumerate(listed):
            path = "Statement" if single else f"Statement[{index}]"
            if not isinstance(each, Mapping):
                self._problem(*_WRONG_STATEMENT, path)
                continue
            sid = each.get("Sid")
            if isinstance(sid, str) and sid and sid in sids:
                message = "Statement IDs (SID) in a single policy must be unique."
                self._problem("duplicate-sid", message, f"{path}.Sid")
            if isinstance(sid, str):
                sids.add(sid)
            yield self._statement(index, each, path)

    def _statement(self, index: int, value: Mapping[str, Any], path: str) -> Statement:
        for element in value:
            if element not in _STATEMENT_ELEMENTS:
                self._problem("unknown-element", f"`{element}` is not an element of a statement", f"{path}.{element}")
        sid = value.get("Sid")
        if sid is not None and not isinstance(sid, str):
            self._problem("wrong-type", "a Sid is a string", f"{path}.Sid")
        elif sid and self._kind is not PolicyKind.RESOURCE and _SID.fullmatch(sid) is None:
            message = "Statement IDs (SID) must be alpha-numeric."
            self._problem("invalid-sid", message, f"{path}.Sid")
        effect = value.get("Effect")
        if effect is None:
            self._problem("missing-element", "Missing required field Effect", path)
        elif effect not in ("Allow", "Deny"):
            self._problem("invalid-effect", f"Invalid effect: {effect}", f"{path}.Effect")
        principals = self._principals(value, path, effect == "Allow")
        actions = self._actions(value, path)
        resources = self._resources(value, path)
        conditions = tuple(self._conditions(value.get("Condition", {}), f"{path}.Condition"))
        return Statement(
            index,
            sid if isinstance(sid, str) else None,
            effect == "Allow",
            actions,
            resources,
            principals,
            conditions,
            value.get("Action") in ("*", ["*"]) and resources is None and principals is None and not conditions,
        )

    # -- the elements ------------------------------------------------------------------------------------------------

    def _actions(self, value: Mapping[str, Any], path: str) -> Callable[[str], bool]:
        element, names = self._one_of(value, "Action", path, required="Policy statement must contain actions.")
        for index, name in names:
            if _ACTION.fullmatch(name) is None:
                message = "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
                self._problem("invalid-action", message, f"{path}.{element}{index}")
        lower = [name.lower() for _, name in names]
        exact = frozenset(name for name in lower if "*" not in name and "?" not in name)
        wild = [like(pieces_of(name)) for name in lower if name not in exact]
        inverted = element.startswith("Not")

        def covers(action: str) -> bool:
            return (action in exact or any(match(action) for match in wild)) is not inverted

        return covers

    def _resources(self, value: Mapping[str, Any], path: str) -> Applies | None:
        if self._kind is PolicyKind.TRUST:
            self._prohibit(value, path, "Resource", "NotResource")
            return None
        element, names = self._one_of(value, "Resource", path, required="Policy statement must contain resources.")
        tests = []
        for index, name in names:
            place = f"{path}.{element}{index}"
            if name != "*" and not name.startswith("arn:"):
                message = f'Resource {name} must be in ARN format or "*".'
                self._problem("invalid-resource", message, place)
                continue
            taken_apart = self._take_apart(name, place, variables=True)
            if taken_apart is None:
                continue
            if "${" in name and taken_apart.fixed is None and name[: name.index("${")].count(":") < 5:
                message = "a policy variable stands only after the fifth colon of an ARN"
                self._problem("invalid-variable", message, place)
            tests.append(taken_apart.matcher(resource_like))
        inverted = element.startswith("Not")
        if not inverted and any(name == "*" for _, name in names):
            return None
        if len(tests) == 1 and not inverted:
            return tests[0]
        return lambda resource, keys: any(test(resource, keys) for test in tests) is not inverted

    def _principals(self, value: Mapping[str, Any], path: str, allows: bool) -> Callable[[Principal], Named] | None:
        if self._kind not in _WITH_PRINCIPAL:
            self._prohibit(value, path, "Principal", "NotPrincipal")
            return None
        present = [name for name in ("Principal", "NotPrincipal") if name in value]
        if len(present) != 1:
            message = "Missing required field Principal" if not present else "has both Principal and NotPrincipal"
            self._problem("missing-element" if not present else "conflicting-elements", message, path)
            return None
        element = present[0]
        principals = self._named(value[element], f"{path}.{element}")
        if element == "Principal":
            return principals.names
        if allows:
            return lambda caller: Named.NOT if principals.names(caller) else Named.DIRECTLY
        return lambda caller: Named.NOT if principals.names_whole(caller) else Named.DIRECTLY

    def _named(self, value: Any, path: str) -> Principals:
        if value == "*":
            return Principals(everybody=True)
        if not isinstance(value, Mapping) or not value:
            self._problem("wrong-type", 'a principal is "*" or an object such as {"AWS": "..."}', path)
            return Principals()
        found: dict[str, list[str]] = {name: [] for name in _PRINCIPAL_TYPES}
        for kind, names in value.items():
            if kind not in found:
                self._problem("invalid-principal", f'Invalid principal in policy: "{kind}"', f"{path}.{kind}")
                continue
            for index, name in self._strings(names, f"{path}.{kind}"):
                if kind == "AWS" and name != "*":
                    if account_of(name) is None and _is_arn_of_one(name) is False:
                        message = f'Invalid principal in policy: "AWS":"{name}"'
                        self._problem("invalid-principal", message, f"{path}.{kind}{index}")
                    name = account_of(name) or name
                found[kind].append(name)
        return Principals(
            "*" in found["AWS"], frozenset(found["AWS"]), frozenset(found["Service"]), frozenset(found["Federated"])
        )

    def _conditions(self, value: Any, path: str) -> Iterator[Condition]:
        if not isinstance(value, Mapping):
            self._problem("wrong-type", "a Condition is an object of operators", path)
            return
        for operator, keys in value.items():
            place = f"{path}.{operator}"
            if not known(operator):
                self._problem("unknown-operator", f"Invalid Condition type : {operator}.", place)
            elif not isinstance(keys, Mapping) or not keys:
                self._problem("wrong-type", "an operator holds an object of condition keys", place)
            else:
                for key, values in keys.items():
                    yield from self._condition(operator, key, values, f"{place}.{key}")

    def _condition(self, operator: str, key: str, value: Any, path: str) -> Iterator[Condition]:
        if ":" not in key:
            message = "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
            self._problem("invalid-key", message, path)
        taken_apart = [
            self._take_apart(text, f"{path}{index}", variables=takes_variables(operator))
            for index, text in self._scalars(value, path)
        ]
        values = [each for each in taken_apart if each is not None]
        if len(values) == len(taken_apart):
            try:
                yield compile_condition(operator, key, values)
            except InvalidValue as error:
                hint = "" if operator != NULL else ": Null asks whether the key is absent"
                self._problem("invalid-value", f"{error}{hint}", path)

    # -- small things ------------------------------------------------------------------------------------------------

    def _problem(self, code: str, message: str, path: str) -> None:
        self._problems.append(Problem(code, message, path))

    def _prohibit(self, value: Mapping[str, Any], path: str, *elements: str) -> None:
        for element in elements:
            if element in value:
                self._problem("prohibited-element", f"Has prohibited field {element}", f"{path}.{element}")

    def _one_of(
        self, value: Mapping[str, Any], element: str, path: str, *, required: str
    ) -> tuple[str, list[tuple[str, str]]]:
        """Which of `X` and `NotX` there is, and its strings."""
        negative = f"Not{element}"
        if element in value and negative in value:
            self._problem("conflicting-elements", f"has both {element} and {negative}", path)
        chosen = negative if negative in value and element not in value else element
        if chosen not in value or value[chosen] == []:
            self._problem("missing-element", required, path)
            return chosen, []
        return chosen, list(self._strings(value[chosen], f"{path}.{chosen}"))

    def _strings(self, value: Any, path: str) -> Iterator[tuple[str, str]]:
        """A string, or the strings of a list, each with its place in the list."""
        for index, each in _listed(value):
            if isinstance(each, str):
                yield index, each
            else:
                self._problem("wrong-type", "must be a string or a list of strings", f"{path}{index}")

    def _scalars(self, value: Any, path: str) -> Iterator[tuple[str, str]]:
        """Like `_strings`; numbers and booleans become their text."""
        listed = _listed(value)
        if not listed:
            self._problem("wrong-type", "a condition key needs at least one value", path)
        for index, each in listed:
            if isinstance(each, bool):
                yield index, "true" if each else "false"
            elif isinstance(each, str | int | float):
                yield index, str(each)
            else:
                self._problem("wrong-type", "must be a string or a list of strings", f"{path}{index}")

    def _take_apart(self, text: str, path: str, *, variables: bool) -> Template | None:
        if not variables:
            return literal(text)
        try:
            return self._template(text)
        except InvalidVariable as error:
            self._problem("invalid-variable", str(error), path)
            return None


_WRONG_STATEMENT = ("wrong-type", "a statement is an object")
_ONE = re.compile(r"arn:[a-z-]+:(?:iam|sts)::[0-9]{12}:(?:user|role|assumed-role|federated-user)/[^*?]+", re.ASCII)


def _is_arn_of_one(name: str) -> bool:
    """Does it name one user, role or session? A wildcard in the middle of a principal is not allowed."""
    return _ONE.fullmatch(name) is not None


def _listed(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        return [(f"[{index}]", each) for index, each in enumerate(value)]
    return [("", value)]

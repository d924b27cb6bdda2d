"""Statements into as few policy documents as AWS's size limits allow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from imdsctl.codify.guardrails import Guardrail
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.policy.limits import MANAGED_POLICY_CHARACTERS_MAX, SCP_CHARACTERS_MAX, SCPS_PER_TARGET_MAX

VERSION = "2012-10-17"


class Form(StrEnum):
    """What the statements are written as."""

    SCP = "scp"
    IAM = "iam"
    BOUNDARY = "boundary"


@dataclass(frozen=True, slots=True)
class Document:
    """One policy document, and the guardrails in it."""

    name: str
    form: Form
    body: Mapping[str, Any]
    guardrails: tuple[Guardrail, ...]

    @property
    def text(self) -> str:
        """For a reader, indented. Organizations counts white space: when this is too long, attach `minified`."""
        return json.dumps(self.body, indent=2) + "\n"

    @property
    def minified(self) -> str:
        """The shortest text of the same document."""
        return json.dumps(self.body, separators=(",", ":"))


_LIMITS = {
    Form.SCP: SCP_CHARACTERS_MAX,
    Form.IAM: MANAGED_POLICY_CHARACTERS_MAX,
    Form.BOUNDARY: MANAGED_POLICY_CHARACTERS_MAX,
}
_ALLOW_ALL: Mapping[str, Any] = {"Sid": "AllowWhatPoliciesAllow", "Effect": "Allow", "Action": "*", "Resource": "*"}
"""A permissions boundary is the most that a principal can do: it has to allow before it can deny."""


def packed(form: Form, guardrails: Sequence[Guardrail], name: str) -> tuple[Document, ...]:
    """Documents that hold all guardrails, the first that has room first.

    Raises DiagnosticError (exit code 2): `policy-too-long` when a statement alone is over the limit (its list of exempt
    roles cannot be split: two statements, each with half of them, would deny all of them), or when a boundary, of
    which there can be only one, or an SCP's place, which takes five, has no room.
    """
    most = _LIMITS[form]
    bins: list[list[Guardrail]] = []
    for each in guardrails:
        if _length(form, [each]) > most:
            raise _too_long(
                f"the statement {each.sid} alone has {_length(form, [each]):,} characters; {most:,} are allowed",
                "name exempt roles with `*`, or give them one path and name that: `arn:aws:iam::*:role/platform/*`",
            )
        room = next((members for members in bins if _length(form, [*members, each]) <= most), None)
        if room is None:
            bins.append([each])
        else:
            room.append(each)
    if form is Form.BOUNDARY and len(bins) > 1:
        raise _too_long("it does not fit into one document, and a principal has one boundary", "choose fewer rules")
    if form is Form.SCP and len(bins) >= SCPS_PER_TARGET_MAX:
        raise _too_long(
            f"it takes {len(bins)} SCPs; a place has {SCPS_PER_TARGET_MAX}, and FullAWSAccess is one of them",
            "choose fewer rules, or attach them at different levels",
        )
    return tuple(
        Document(name if len(bins) == 1 else f"{name}-{number}", form, _body(form, members), tuple(members))
        for number, members in enumerate(bins, 1)
    )


def _body(form: Form, members: Sequence[Guardrail]) -> dict[str, Any]:
    allow = [dict(_ALLOW_ALL)] if form is Form.BOUNDARY else []
    return {"Version": VERSION, "Statement": [*allow, *(dict(each.statement) for each in members)]}


def _length(form: Form, members: Sequence[Guardrail]) -> int:
    return len(json.dumps(_body(form, members), separators=(",", ":")))


def _too_long(why: str, hint: str) -> DiagnosticError:
    return DiagnosticError(Diagnostic("policy-too-long", why, hint=hint), exit_code=2)

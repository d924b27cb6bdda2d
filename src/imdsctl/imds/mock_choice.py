"""From a config file and a command line to what is served alone, by `imds serve` and by `run`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.options import MetadataOptions
from imdsctl.imds.facts import Facts
from imdsctl.imds.fixed import DEFAULT_OPTIONS, example_facts
from imdsctl.imds.mock import Mock, Notice
from imdsctl.imds.mock_file import ROLE, MockFile

REGION = "us-east-1"
"""Where the instance is when nobody says."""


def make_mock(
    file: MockFile, asked: MetadataOptions, role: str | None, notices: Sequence[Notice], *, now: datetime
) -> Mock:
    """What a config file and the command line come to; the command line wins.

    Raises DiagnosticError `role-unknown` (usage) for a role that the file's `[roles]` do not have.
    """
    role = file.role if role is None else role
    if role is not None and (not ROLE.fullmatch(role) or (file.credentials and role not in file.credentials)):
        known = ", ".join(sorted(file.credentials))
        raise DiagnosticError(
            Diagnostic(
                "role-unknown",
                f"there is no role `{role}`" if file.credentials else f"`{role}` is not the name of a role",
                hint=f"the config file's `[roles]` has: {known}" if known else "letters, digits and +=,.@_-, up to 64",
            ),
            exit_code=2,
        )
    return Mock(
        instance=_instance(file, role, now),
        options=asked.over(file.options).over(DEFAULT_OPTIONS),
        notices=(*file.notices, *notices),
        credentials=file.credentials,
    )


def _instance(file: MockFile, role: str | None, now: datetime) -> Facts:
    facts = example_facts(region=file.region or REGION, role=role, launched=now.replace(microsecond=0))
    interface = facts.interfaces[0]
    if "private-ipv4" in file.network:
        address = file.network["private-ipv4"]
        name = interface.local_hostname.replace("10-0-31-7", address.replace(".", "-"))
        interface = replace(interface, private_ipv4s=(address,), local_hostname=name)
    if "public-ipv4" in file.network:
        address = file.network["public-ipv4"]
        name = f"ec2-{address.replace('.', '-')}.{_compute(facts.region)}.amazonaws.com"
        interface = replace(interface, public_ipv4s=(address,), public_hostname=name)
    if "ipv6" in file.network:
        interface = replace(interface, ipv6s=(file.network["ipv6"],))
    values = {**file.instance, "overrides": dict(file.overrides)}
    account = values.get("account_id")
    if account is not None:
        interface = replace(interface, owner_id=account)
        if facts.profile_arn is not None:
            values["profile_arn"] = facts.profile_arn.replace(facts.account_id, account)
    return replace(facts, **{"tags": {"Name": "example"}, **values}, interfaces=(interface,))


def _compute(region: str) -> str:
    return "compute-1" if region == REGION else f"{region}.compute"

"""EC2's refusals, each with AWS's code and sentence.

Source: EC2 API Reference, "Error codes for the Amazon EC2 API"; every one of these answers HTTP 400. Sentences that
AWS does not publish are marked in docs/fidelity.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from imdsctl.domain.options import InvalidOption
from imdsctl.local.call import AwsError

HTTP_TOKENS_ENFORCED_LAUNCH = (
    "You can't launch instances with IMDSv1 because httpTokensEnforced is enabled for this account. Either launch the "
    "instance with httpTokens=required or contact your account owner to disable httpTokensEnforced using the "
    "ModifyInstanceMetadataDefaults API or the account settings in the EC2 console."
)
"""EC2 User Guide, "Troubleshoot Amazon EC2 instance launch issues"."""

HTTP_TOKENS_ENFORCED_MODIFY = (
    "You can't set httpTokens to 'optional' because httpTokensEnforced is enabled for this account."
)
"""As a real account answered ModifyInstanceMetadataOptions."""


def refuse(code: str, message: str, status: int = 400) -> AwsError:
    """An AWS error; EC2's client errors answer 400."""
    return AwsError(code, message, status)


def invalid_value(message: str) -> AwsError:
    """`InvalidParameterValue`."""
    return refuse("InvalidParameterValue", message)


def invalid_combination(message: str) -> AwsError:
    """`InvalidParameterCombination`."""
    return refuse("InvalidParameterCombination", message)


def missing(parameter: str) -> AwsError:
    """`MissingParameter`."""
    return refuse("MissingParameter", f"The request must contain the parameter {parameter}")


def unsupported(message: str) -> AwsError:
    """`UnsupportedOperation`."""
    return refuse("UnsupportedOperation", message)


def invalid_option(error: InvalidOption) -> AwsError:
    """AWS's sentence for a metadata option outside its values: "A value of 'x' is not valid for HttpTokens. ..."."""
    choices = re.findall(r"'([^']*)'", error.allowed)
    choices.sort(key=lambda choice: choice != "enabled")  # as AWS's sentence puts it: 'enabled' or 'disabled'
    if not choices:
        return invalid_value(
            f"A value of '{error.value}' is not valid for {error.option}. "
            f"Specify a value between 1 and 64 and try again."
        )
    return invalid_value(
        f"A value of '{error.value}' is not valid for {error.option}. Specify {one_of(choices)} and try again."
    )


def one_of(choices: Iterable[str]) -> str:
    """ "either 'a' or 'b'", "'a', 'b', or 'c'"."""
    quoted = [f"'{choice}'" for choice in choices]
    if len(quoted) == 2:
        return f"either {quoted[0]} or {quoted[1]}"
    return f"{', '.join(quoted[:-1])}, or {quoted[-1]}"


def check_choice(value: str | None, name: str, choices: Iterable[str]) -> None:
    """Refuse a value outside an enumeration; None (not given) passes."""
    choices = tuple(choices)
    if value is not None and value not in choices:
        raise invalid_value(f"A value of '{value}' is not valid for {name}. Specify {one_of(choices)} and try again.")


IDENTIFIER_KINDS = {
    "i": ("InvalidInstanceID", 'Invalid id: "{}"', "The instance ID '{}' does not exist"),
    "ami": ("InvalidAMIID", 'Invalid id: "{}" (expecting "ami-...")', "The image id '[{}]' does not exist"),
    "snap": (
        "InvalidSnapshotID",
        'Invalid id: "{}" (expecting "snap-...")',
        "The snapshot '{}' does not exist.",
    ),
    "vol": ("InvalidVolumeID", 'Invalid id: "{}" (expecting "vol-...")', "The volume '{}' does not exist."),
    "lt": (
        "InvalidLaunchTemplateId",
        "The launch template ID, {}, is malformed.",
        "The specified launch template, with template ID {}, does not exist.",
    ),
    "subnet": ("InvalidSubnetID", 'Invalid id: "{}" (expecting "subnet-...")', "The subnet ID '{}' does not exist"),
    "sg": ("InvalidGroupId", 'Invalid id: "{}" (expecting "sg-...")', "The security group '{}' does not exist"),
    "sir": (
        "InvalidSpotInstanceRequestID",
        'Invalid id: "{}" (expecting "sir-...")',
        "The spot instance request ID '{}' does not exist",
    ),
    "sfr": (
        "InvalidSpotFleetRequestId",
        "The Spot Fleet request ID '{}' is malformed.",
        "The Spot Fleet request ID '{}' does not exist",
    ),
    "fleet": ("InvalidFleetId", "The fleet ID '{}' is malformed.", "The fleet ID '{}' does not exist"),
    "r": ("InvalidReservationID", 'Invalid id: "{}" (expecting "r-...")', "The reservation '{}' does not exist"),
}
"""Prefix to (code stem, sentence when malformed, sentence when not found)."""

NOT_FOUND_CODES = {
    "snap": "InvalidSnapshot.NotFound",
    "vol": "InvalidVolume.NotFound",
    "sg": "InvalidGroup.NotFound",
}
"""Where the code for "not found" has another stem than the one for "malformed"."""

MALFORMED_CODES = {"lt": "InvalidLaunchTemplateId.Malformed", "sg": "InvalidGroupId.Malformed"}

IDENTIFIER = re.compile(r"(?:[0-9a-f]{8}|[0-9a-f]{17})\Z")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
IDENTIFIERS = {"sir": re.compile(r"[0-9a-z]{8}\Z"), "fleet": UUID, "sfr": UUID}
"""Where the part after the prefix has another form."""


def well_formed(kind: str, identifier: str) -> bool:
    """Whether this looks like an identifier of the kind: its prefix, then (mostly) 8 or 17 hexadecimal digits."""
    prefix, _, digits = identifier.partition("-")
    return prefix == kind and IDENTIFIERS.get(kind, IDENTIFIER).match(digits) is not None


def malformed(kind: str, identifier: str) -> AwsError:
    """`Invalid...ID.Malformed`."""
    stem, sentence, _ = IDENTIFIER_KINDS[kind]
    return refuse(MALFORMED_CODES.get(kind, f"{stem}.Malformed"), sentence.format(identifier))


def not_found(kind: str, *identifiers: str) -> AwsError:
    """`Invalid...NotFound` for one or more identifiers."""
    stem, _, sentence = IDENTIFIER_KINDS[kind]
    code = NOT_FOUND_CODES.get(kind, f"{stem}.NotFound")
    if kind == "i" and len(identifiers) > 1:
        return refuse(code, f"The instance IDs '{', '.join(identifiers)}' do not exist")
    return refuse(code, sentence.format(", ".join(identifiers)))


def check_identifiers(kind: str, identifiers: Iterable[str]) -> None:
    """Refuse the first malformed one."""
    for identifier in identifiers:
        if not well_formed(kind, identifier):
            raise malformed(kind, identifier)

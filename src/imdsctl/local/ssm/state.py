"""What one account keeps in Parameter Store in one Region."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

STRING = "String"
STRING_LIST = "StringList"
SECURE_STRING = "SecureString"
STANDARD = "Standard"
ADVANCED = "Advanced"
TEXT = "text"
IMAGE = "aws:ec2:image"
DEFAULT_KEY = "alias/aws/ssm"

VERSIONS_MAX = 100
"""Systems Manager User Guide, "Working with parameter versions": the oldest goes when there would be more."""


@dataclass(frozen=True, slots=True)
class Version:
    """One value of a parameter, and everything that was said with it."""

    number: int
    value: str
    type: str
    modified: datetime
    modified_by: str
    tier: str = STANDARD
    data_type: str = TEXT
    description: str | None = None
    allowed_pattern: str | None = None
    key_id: str | None = None


@dataclass(slots=True)
class Parameter:
    """A parameter with its versions, oldest first."""

    name: str
    arn: str
    versions: list[Version]
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def latest(self) -> Version:
        """The version that a name without a selector means."""
        return self.versions[-1]

    def version(self, selector: str) -> Version | None:
        """The version that `:N` names; labels are not kept, so that any other selector names none."""
        return next((each for each in self.versions if str(each.number) == selector), None)


@dataclass(slots=True)
class ParameterStore:
    """The account's own parameters by name, in the order of creation."""

    parameters: dict[str, Parameter] = field(default_factory=dict)


def parameter_arn(region: str, account_id: str, name: str) -> str:
    """The ARN; a name that is a path brings its own slash."""
    return f"arn:aws:ssm:{region}:{account_id}:parameter{name if name.startswith('/') else '/' + name}"


def encrypted(parameter: Parameter, version: Version) -> str:
    """What stands in place of a SecureString's value when nobody asked for decryption: text that tells nothing."""
    body = blake2b(f"{parameter.arn}/{version.number}".encode(), digest_size=64).digest()
    return base64.b64encode(b"\x01\x02\x02\x00x" + body * 2).decode()


def parameter_structure(parameter: Parameter, version: Version, *, decrypt: bool, selector: str = "") -> dict[str, Any]:
    """AWS's `Parameter`."""
    hidden = version.type == SECURE_STRING and not decrypt
    out: dict[str, Any] = {
        "Name": parameter.name,
        "Type": version.type,
        "Value": encrypted(parameter, version) if hidden else version.value,
        "Version": version.number,
        "LastModifiedDate": version.modified,
        "ARN": parameter.arn,
        "DataType": version.data_type,
    }
    if selector:
        out["Selector"] = selector
    return out


def metadata_structure(parameter: Parameter, version: Version) -> dict[str, Any]:
    """AWS's `ParameterMetadata`: everything but the value."""
    out: dict[str, Any] = {
        "Name": parameter.name,
        "ARN": parameter.arn,
        "Type": version.type,
        "LastModifiedDate": version.modified,
        "LastModifiedUser": version.modified_by,
        "Version": version.number,
        "Tier": version.tier,
        "DataType": version.data_type,
        "Policies": [],
    }
    if version.key_id is not None:
        out["KeyId"] = version.key_id
    if version.description is not None:
        out["Description"] = version.description
    if version.allowed_pattern is not None:
        out["AllowedPattern"] = version.allowed_pattern
    return out

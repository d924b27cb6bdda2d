"""The limits of IAM's parameters, as rules that an operation lists and that are checked before its handler.

Source: IAM API Reference, "Length Constraints", "Pattern" and "Valid Values" of each parameter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, TypeVar

from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.constraints import check_members, check_range, check_required, check_text
from imdsctl.local.iam.errors import invalid
from imdsctl.local.pages import InvalidToken, page

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1000
TAGS_MAX = 50
DOCUMENT_LENGTH_MAX = 131_072

_NAME = re.compile(r"[\w+=,.@-]+", re.ASCII)
_TAG_TEXT = re.compile(r"[\w\s.:/=+\-@]*")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rule:
    """One parameter's limits; `name` marks names, for which IAM has a sentence of its own, `structure` what is
    not text or a number, and is checked where it is used.
    """

    member: str
    required: bool = False
    name: bool = False
    length_min: int = 0
    length_max: int | None = None
    pattern: str | None = None
    least: int | None = None
    most: int = 0
    values: Sequence[str] = ()
    structure: bool = False

    def check(self, params: Mapping[str, Any]) -> None:
        """Raises ValidationError when the parameter is outside its limits."""
        value, member = params.get(self.member), self.member[:1].lower() + self.member[1:]
        if self.required:
            check_required(value, member, invalid)
        if value is None or self.structure:
            return
        if self.least is not None:
            check_range(value, member, invalid, self.least, self.most)
        elif self.values:
            check_members([value], member, invalid, self.values)
        else:
            check_text(
                value, member, invalid, length_min=self.length_min, length_max=self.length_max, pattern=self.pattern
            )
            if self.name and not _NAME.fullmatch(value):
                raise invalid(
                    f"The specified value for {member} is invalid. It must contain only alphanumeric characters "
                    "and/or the following: +=,.@_-"
                )


def optional(rule: Rule) -> Rule:
    """The same limits for a parameter that may be left out."""
    return replace(rule, required=False)


def required(rule: Rule) -> Rule:
    """The same limits for a parameter that must be there."""
    return replace(rule, required=True)


USER_NAME = Rule("UserName", required=True, name=True, length_min=1, length_max=64)
EXISTING_USER_NAME = replace(USER_NAME, length_max=128)
NEW_USER_NAME = Rule("NewUserName", name=True, length_min=1, length_max=64)
ROLE_NAME = Rule("RoleName", required=True, name=True, length_min=1, length_max=64)
POLICY_NAME = Rule("PolicyName", required=True, name=True, length_min=1, length_max=128)
PROFILE_NAME = Rule("InstanceProfileName", required=True, name=True, length_min=1, length_max=128)
PATH = Rule("Path", length_min=1, length_max=512, pattern=r"(/)|(/[!-~]+/)")
NEW_PATH = replace(PATH, member="NewPath")
PATH_PREFIX = Rule("PathPrefix", length_min=1, length_max=512, pattern=r"/[!-\x7F]*")
POLICY_PATH = Rule("Path", length_min=1, length_max=512, pattern=r"((/[A-Za-z0-9.,+@=_-]+)*)/")
_DOCUMENT = Rule("", required=True, length_min=1, length_max=DOCUMENT_LENGTH_MAX, pattern=r"[\t\n\r\x20-\xFF]+")
POLICY_DOCUMENT = replace(_DOCUMENT, member="PolicyDocument")
TRUST_DOCUMENT = replace(_DOCUMENT, member="AssumeRolePolicyDocument")
ROLE_DESCRIPTION = Rule("Description", length_max=1000, pattern=r"[\t\n\r\x20-\x7E\xA1-\xFF]*")
POLICY_DESCRIPTION = Rule("Description", length_max=1000)
DURATION = Rule("MaxSessionDuration", least=3600, most=43200)
POLICY_ARN = Rule("PolicyArn", required=True, length_min=20, length_max=2048)
BOUNDARY = Rule("PermissionsBoundary", length_min=20, length_max=2048)
REQUIRED_BOUNDARY = required(BOUNDARY)
REQUIRED_TAGS = Rule("Tags", required=True, structure=True)
VERSION_ID = Rule("VersionId", required=True, pattern=r"v[1-9][0-9]*(\.[A-Za-z0-9-]*)?")
ACCESS_KEY_ID = Rule("AccessKeyId", required=True, length_min=16, length_max=128, pattern=r"[\w]+")
STATUS = Rule("Status", required=True, values=("Active", "Inactive"))
SCOPE = Rule("Scope", values=("All", "AWS", "Local"))
USAGE = Rule("PolicyUsageFilter", values=("PermissionsPolicy", "PermissionsBoundary"))
ENTITY_FILTER = Rule("EntityFilter", values=("User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy"))
PAGE = (
    Rule("Marker", length_min=1, length_max=320, pattern=r"[\x20-\xFF]+"),
    Rule("MaxItems", least=1, most=PAGE_SIZE_MAX),
)


def operation(handler: Callable[[Call], Mapping[str, Any]], *rules: Rule, writes: bool = False) -> Operation:
    """An operation of IAM: its parameters are checked by the rules before the handler sees them."""

    @wraps(handler)  # its name and its docstring are the operation's
    def checked(call: Call) -> Mapping[str, Any]:
        if call.caller.access_key_id.startswith("ASIA") and ":user/" in call.caller.arn:
            # STS API Reference, GetSessionToken: its credentials "cannot call any IAM API operations unless MFA
            # authentication information is included"; there is no MFA here.
            raise AwsError("InvalidClientTokenId", "The security token included in the request is invalid", 403)
        for rule in rules:
            rule.check(call.params)
        return handler(call)

    return Operation(checked, writes)


def listed(call: Call, member: str, items: Sequence[T], render: Callable[[T], Any], of: str = "") -> dict[str, Any]:
    """One page of a list, with `IsTruncated` and, when there is more, `Marker`; `of` names the list's owner."""
    part, marker = page_of(call, items, of)
    result: dict[str, Any] = {member: [render(each) for each in part], "IsTruncated": marker is not None}
    if marker is not None:
        result["Marker"] = marker
    return result


def page_of(call: Call, items: Sequence[T], of: str = "") -> tuple[Sequence[T], str | None]:
    """The page a call asks for and the marker of the next. Raises ValidationError for a marker that is none."""
    try:
        return page(
            items,
            call.params.get("Marker"),
            call.params.get("MaxItems") or PAGE_SIZE_DEFAULT,
            of=f"{call.action}/{call.account_id}/{of}",
        )
    except InvalidToken:
        raise invalid("Invalid Marker.") from None


def tags_of(call: Call, present: Mapping[str, str] | None = None) -> dict[str, str]:
    """The `Tags` of a request, on top of those present. Raises InvalidInput, LimitExceeded or ValidationError."""
    given: dict[str, str] = {}
    for position, tag in enumerate(call.params.get("Tags") or (), 1):
        key, value = tag.get("Key"), tag.get("Value")
        for text, what, most, least in ((key, "key", 128, 1), (value, "value", 256, 0)):
            member = f"tags.{position}.member.{what}"
            check_required(text, member, invalid)
            check_text(text, member, invalid, length_min=least, length_max=most)
            if not _TAG_TEXT.fullmatch(text):
                raise invalid(
                    f"1 validation error detected: Value '{text}' at '{member}' failed to satisfy constraint: "
                    r"Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]*"
                )
        if key.lower().startswith("aws:"):
            raise AwsError("InvalidInput", "aws: prefixed tag key names are not allowed for external use.", 400)
        if key.lower() in (each.lower() for each in given):
            raise AwsError(
                "InvalidInput", "Duplicate tag keys found. Please note that Tag keys are case insensitive.", 400
            )
        given[key] = value
    # A key that differs from a present one only in case replaces its value and takes its spelling.
    lowered = {key.lower() for key in given}
    kept = {key: value for key, value in (present or {}).items() if key.lower() not in lowered}
    if len(kept) + len(given) > TAGS_MAX:
        raise AwsError("LimitExceeded", f"The number of tags has reached the maximum limit of {TAGS_MAX}.", 409)
    return kept | given


def tag_keys_of(call: Call) -> set[str]:
    """The `TagKeys` of a request, in lower case."""
    keys = call.params.get("TagKeys")
    check_required(keys, "tagKeys", invalid)
    for key in keys or ():
        check_text(key, "tagKeys", invalid, length_min=1, length_max=128)
    return {key.lower() for key in keys or ()}


def rendered_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as AWS lists them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]

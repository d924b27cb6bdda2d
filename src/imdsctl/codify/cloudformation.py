"""What of a fleet's IMDS settings CloudFormation can express: policies of AWS Organizations, and nothing else.

Source: CloudFormation Template Reference, `AWS::Organizations::Policy`; "Import existing resources". The registry has
no type for Region defaults (EC2's ModifyInstanceMetadataDefaults), and `AWS::EC2::LaunchTemplate` describes a whole
template, of which a scan sees the metadata options only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from imdsctl.domain.observations import PolicyKind, PolicySeen

KIND = "AWS::Organizations::Policy"
RESOURCES_MAX = 500
"""Resources in a template (CloudFormation User Guide, "Quotas")."""
NOTE = (
    "CloudFormation has no resource type for the Region defaults of the metadata service: an EC2 policy (declarative"
    " policy) of the organization sets them in every account and Region below it."
)
_DESCRIPTION = (
    "Policies of AWS Organizations about IMDS. A stack for the management account or a delegated administrator."
)


@dataclass(frozen=True, slots=True)
class Template:
    """A template, and what an import of the resources that are there already needs (`--resources-to-import`)."""

    text: str
    imports: str
    """Empty when nothing of it is there."""
    policies: int


def template(policies: Iterable[PolicySeen], declared: Mapping[str, Any] | None = None) -> Template:
    """A template of the policies as they are, and of an EC2 policy that is wanted and not there yet.

    Raises ValueError for more resources than a template can have.
    """
    resources: dict[str, Any] = {}
    imports = []
    for policy in sorted(policies, key=lambda each: each.policy_id):
        if policy.aws_managed:
            continue
        name = _logical_id(policy)
        resources[name] = _resource(policy.name, policy.kind, _content(policy.content), sorted(policy.targets))
        imports.append(
            {"ResourceType": KIND, "LogicalResourceId": name, "ResourceIdentifier": {"Id": policy.policy_id}}
        )
    body: dict[str, Any] = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": _DESCRIPTION,
        "Metadata": {"RegionDefaults": NOTE},
    }
    if declared is not None:
        body["Parameters"] = {
            "TargetIds": {
                "Type": "CommaDelimitedList",
                "Description": "What the wanted EC2 policy is attached to: ids of the root, of units, of accounts.",
            }
        }
        wanted = _resource("imdsv2", PolicyKind.DECLARATIVE_POLICY_EC2, dict(declared), {"Ref": "TargetIds"})
        resources["WantedRegionDefaults"] = wanted
    if len(resources) > RESOURCES_MAX:
        raise ValueError(f"{len(resources)} policies, and a template can have {RESOURCES_MAX}")
    body["Resources"] = resources
    return Template(_json(body), _json(imports) if imports else "", len(resources))


def _resource(name: str, kind: PolicyKind, content: Any, targets: Any) -> dict[str, Any]:
    properties = {"Name": name, "Type": str(kind), "Content": content, "TargetIds": targets}
    # IAM's variables are meant as they stand; without Fn::Sub CloudFormation leaves them alone, but cfn-lint doubts it.
    lint = (
        {"Metadata": {"cfn-lint": {"config": {"ignore_checks": ["E1029"]}}}} if "${" in json.dumps(properties) else {}
    )
    return {
        "Type": KIND,
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        **lint,
        "Properties": {key: value for key, value in properties.items() if value != []},
    }


def _content(text: str) -> Any:
    """A document as an object, unless a stack would read something else out of it (`Ref`, `Fn::...`)."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) and not _has_function(value) else text


def _has_function(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(
            (key in ("Ref", "Condition") and isinstance(each, str)) or key.startswith("Fn::") or _has_function(each)
            for key, each in value.items()
        )
    return isinstance(value, list) and any(map(_has_function, value))


def _logical_id(policy: PolicySeen) -> str:
    words = re.findall(r"[A-Za-z0-9]+", policy.name)[:6]
    digest = hashlib.sha256(policy.policy_id.encode()).hexdigest()[:8]
    return f"Policy{''.join(word[:1].upper() + word[1:] for word in words)[:100]}{digest}"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"

"""A plan as a script of AWS CLI calls for somebody to read, and the script that takes it back.

Source: AWS CLI Command Reference, `ec2 modify-instance-metadata-defaults` (`no-preference` and -1 unset a value),
`ec2 modify-instance-metadata-options`, `ec2 create-launch-template-version`; AWS CLI User Guide, "Loading parameters
from a file" (a value that begins with `file://` is read from that file).
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from textwrap import indent
from typing import Any

from imdsctl.domain.options import AWS_NAMES, HOP_LIMIT_NO_PREFERENCE, NO_PREFERENCE
from imdsctl.domain.plan import Change, Plan, Stage, Surface
from imdsctl.domain.shown import shown

REFRESH_PREFERENCES: Mapping[str, Any] = {"MinHealthyPercentage": 90, "SkipMatching": False}
_HEAD = """\
#!/usr/bin/env bash
# {title}
# {what}
# Read it before you run it. It stops at the first call that AWS refuses. Unlike `imdsctl apply` it does not look
# whether a resource still says what it said, obeys no gate and keeps no journal.
set -euo pipefail
export AWS_PAGER=""
ROLE="${{ROLE:-{role}}}" # which is assumed in every account but that of these credentials

use_account() {{
  local caller credentials
  caller="$(aws sts get-caller-identity --query Account --output text)"
  if [[ "$caller" == "$1" ]]; then return; fi
  credentials="$(aws sts assume-role --role-arn "arn:$2:iam::$1:role/$ROLE" --role-session-name imdsctl-export \\
    --query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]' --output text)"
  read -r AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN <<<"$credentials"
  export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
  unset AWS_PROFILE
}}
"""


class Unwritable(ValueError):
    """A value that the AWS CLI would not take as it is."""


def script(plan: Plan, changes: Iterable[Change], role: str) -> Iterator[str]:
    """The calls that make these changes of a plan, in their order; those that are deferred as comments."""
    yield _head("Changes", plan, role)
    yield from _sections(changes, lambda change: _forward(change, plan))


def undo_script(plan: Plan, changes: Iterable[Change], role: str) -> Iterator[str]:
    """The calls that write the values back which the plan recorded: enforcement first, then the last change first.

    What had no value becomes "no preference" again, never a default of ours.
    """
    made = [change for change in changes if not change.held][::-1]
    backwards = [each for each in made if each.stage is Stage.ENFORCEMENT]
    backwards += [each for each in made if each.stage is not Stage.ENFORCEMENT]
    yield _head("Takes the changes back", plan, role)
    yield from _sections(backwards, lambda change: _backward(change, plan))


def _head(title: str, plan: Plan, role: str) -> str:
    what = f"Made by `imdsctl export cli` of the plan for scan {shown(plan.scan_id)}, {plan.made_at.isoformat()}"
    return _HEAD.format(title=title, what=what, role=role)


def _sections(changes: Iterable[Change], lines: Callable[[Change], Iterator[str]]) -> Iterator[str]:
    """The changes of one target after another are made in a shell of their own, with that account's credentials."""
    for target, group in groupby(changes, key=lambda each: each.target):
        members = list(group)
        yield f"\n# {target}\n"
        texts = [f"use_account {shlex.quote(target.account_id)} {_partition(target.region)}"]
        for (wave, stage), step in groupby(members, key=lambda each: (each.wave, each.stage)):
            texts.append(f"# Wave {shown(wave)}, {stage.title}")
            texts += [_text(change, lines) for change in step]
        if all(change.held for change in members):
            yield "".join(f"{line}\n" for text in texts[1:] for line in text.split("\n"))
        else:
            yield "(\n" + "\n".join(indent(f"{text}\n", "  ") for text in texts) + ")\n"


def _text(change: Change, lines: Callable[[Change], Iterator[str]]) -> str:
    try:
        return "\n".join(lines(change))
    except Unwritable as error:
        return f"# {shown(change.id)}: left out: {shown(str(error))}"


def _partition(region: str) -> str:
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


# One change


def _forward(change: Change, plan: Plan) -> Iterator[str]:
    name = f" ({change.name})" if change.name else ""
    yield f"# {shown(change.resource + name)}: {shown(change.reason)}"
    if change.risk:
        yield f"# Risk: {shown(change.risk)}"
    if change.gate:
        yield f"# Gate: {shown(change.gate)}"
    if change.held:
        yield f"# Deferred, so that nothing is called: {shown(change.held)}"
        return
    yield from _differences(change.before, change.after)
    match change.surface:
        case Surface.REGION_DEFAULT:
            yield _ec2(change, "modify-instance-metadata-defaults", _ordered(change.after))
        case Surface.INSTANCE:
            said = {"InstanceId": change.resource, **_ordered(change.after)}
            yield _ec2(change, "modify-instance-metadata-options", said)
        case Surface.LAUNCH_TEMPLATE:
            yield from _new_versions(change, plan)
        case Surface.IMAGE:
            support = f"Value={change.after['ImdsSupport']}"
            yield _ec2(change, "modify-image-attribute", {"ImageId": change.resource, "ImdsSupport": support})
        case Surface.AUTO_SCALING_GROUP:
            preferences = json.dumps(change.after.get("Preferences") or REFRESH_PREFERENCES)
            said = {"AutoScalingGroupName": change.resource, "Strategy": "Rolling", "Preferences": preferences}
            yield call(change, "autoscaling", "start-instance-refresh", said)
        case _:
            yield "# Nothing that the AWS CLI can change here."


def _backward(change: Change, plan: Plan) -> Iterator[str]:
    yield f"# {shown(change.resource)}: as it was"
    match change.surface:
        case Surface.REGION_DEFAULT:
            old = {name: change.before.get(name, _unset(name)) for name in _ordered(change.after)}
            yield from _differences(change.after, old)
            yield _ec2(change, "modify-instance-metadata-defaults", old)
        case Surface.INSTANCE:
            old = {name: change.before[name] for name in _ordered(change.after) if name in change.before}
            for name in sorted(change.after.keys() - old.keys()):
                yield f"# {name} had no value, and an instance cannot be without one: it stays"
            yield from _differences(change.after, old)
            if old:
                yield _ec2(change, "modify-instance-metadata-options", {"InstanceId": change.resource, **old})
        case Surface.LAUNCH_TEMPLATE:
            yield from _old_version(change, plan)
        case Surface.IMAGE:
            yield "# AWS knows no way back from ImdsSupport=v2.0"
        case Surface.AUTO_SCALING_GROUP:
            yield "# The old instances are gone; what launches next is as the calls of this script leave it"
        case _:
            yield "# Nothing was changed."


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name, value in _ordered(after).items():
        if not isinstance(value, Mapping | list | tuple):
            old = before.get(name)
            yield f"# {name}: {'no value' if old is None else shown(str(old))} -> {shown(str(value))}"


def _ordered(values: Mapping[str, Any]) -> dict[str, Any]:
    """In AWS's order: a plan that was read from a file has its members in another one."""
    return {name: values[name] for name in sorted(values, key=lambda each: (_ORDER.get(each, len(_ORDER)), each))}


_ORDER = {name: position for position, name in enumerate((*AWS_NAMES.values(), "HttpTokensEnforced"))}


def _unset(name: str) -> Any:
    return HOP_LIMIT_NO_PREFERENCE if name == "HttpPutResponseHopLimit" else NO_PREFERENCE


# Launch templates: a version cannot be changed, it gets a successor


def _new_versions(change: Change, plan: Plan) -> Iterator[str]:
    template = {"LaunchTemplateId": change.resource}
    for part in ("Default", "Latest"):  # the version that is made last is $Latest
        if part not in change.after:
            continue
        source = change.before[f"{part}Version"]
        yield from (f"# ${part} (version {source})" + line[1:] for line in _of_part(change, part))
        data = json.dumps({"MetadataOptions": _ordered({**change.before[part], **change.after[part]})})
        said = {
            **template,
            "SourceVersion": source,
            "VersionDescription": mark(change, plan),
            "LaunchTemplateData": data,
        }
        made = _ec2(change, "create-launch-template-version", said)
        query = "--query LaunchTemplateVersion.VersionNumber --output text"
        yield f'version="$({made} {query})"' if part == "Default" else made
    if "Default" in change.after:
        yield _ec2(change, "modify-launch-template", template) + ' --default-version "$version"'


def _of_part(change: Change, part: str) -> Iterator[str]:
    return _differences(change.before[part], change.after[part])


def _old_version(change: Change, plan: Plan) -> Iterator[str]:
    template = {"LaunchTemplateId": change.resource}
    if "Default" in change.after:
        yield _ec2(change, "modify-launch-template", {**template, "DefaultVersion": change.before["DefaultVersion"]})
    yield "# The versions that were made are deleted, so that $Latest is again what it was"
    asked = {
        **template,
        "MinVersion": change.before["LatestVersion"] + 1,
        "Query": f"LaunchTemplateVersions[?VersionDescription=='{mark(change, plan)}'].VersionNumber",
        "Output": "text",
    }
    yield f'made="$({_ec2(change, "describe-launch-template-versions", asked)})"'
    yield 'if [[ -n "$made" ]]; then'
    yield f"  {_ec2(change, 'delete-launch-template-versions', template)} --versions $made # numbers, a word each"
    yield "fi"


def mark(change: Change, plan: Plan) -> str:
    """The description of the versions that the script makes, by which its inverse finds them."""
    digest = hashlib.sha256(f"{plan.scan_digest} {plan.made_at.isoformat()} {change.id}".encode()).hexdigest()
    return f"imdsctl export cli {digest[:16]}"


# Words of the shell


def _ec2(change: Change, command: str, values: Mapping[str, Any]) -> str:
    return call(change, "ec2", command, values)


def call(change: Change, service: str, command: str, values: Mapping[str, Any]) -> str:
    """One call of the AWS CLI, quoted for a shell. Raises Unwritable for a value that it would not take as it is."""
    words = ["aws", service, command, "--region", change.target.region]
    for name, value in values.items():
        text = str(value)
        if text.startswith(("file://", "fileb://")) or not text.isprintable():
            raise Unwritable(f"the AWS CLI would not take `{text}` as it is")
        option = f"--{option_name(name)}"
        # What begins with a dash and is no number would be taken for an option.
        words += [f"{option}={text}"] if re.match(r"-(?!\d+$)", text) else [option, text]
    return shlex.join(words)


def option_name(name: str) -> str:
    """AWS's name of a parameter as the AWS CLI spells it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()

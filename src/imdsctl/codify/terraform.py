"""What a scan saw, or what an intent wants of it, as Terraform configuration.

Sources: Terraform's AWS provider, `aws_ec2_instance_metadata_defaults` ("You cannot import this resource"; an argument
that is left out is written as no preference), `aws_organizations_policy`, `aws_organizations_policy_attachment`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from imdsctl.codify.export_gaps import LeftOut, unread_places, unread_policies
from imdsctl.codify.hcl import Block, Call, Expression, Item, block_text, commented, identifier
from imdsctl.domain.observations import AccountUnseen, PolicySeen, RegionSeen, Scan, Target
from imdsctl.domain.options import AWS_NAMES, HOP_LIMIT_NO_PREFERENCE, NO_PREFERENCE, AccountDefaults, MetadataOptions
from imdsctl.domain.plan import Change, Plan, Stage, Surface
from imdsctl.domain.shown import shown

Chosen = Callable[[Target], bool]
ARGUMENTS = tuple(sorted(AWS_NAMES))
"""The arguments of `metadata_options`; our fields have the provider's names."""
_DEFAULTS_HEAD = """\
Region defaults. The provider cannot import them, so the first plan creates each of them. Every argument is written,
because the provider sends "no preference" for one that is left out. {what}
Destroying one writes "no preference" over everything: prevent_destroy stands in the way.
"""
_AS_SEEN = "Applied, it writes the values that AWS had when it was scanned, and changes nothing."
_AS_WANTED = "Applied, it writes what the intent wants and leaves the other values as they were scanned."
_PATCHES_HEAD = """\
Launch templates and instances. Nothing in this file is in force: it says what metadata_options has to be in the code
that they have already. Take over the block, and not the whole resource: a scan does not see its other arguments, and
Terraform would take them away. The import block is for a resource that is in no state yet. A change makes a new
version of a template; it becomes the default only where the resource says update_default_version or default_version.
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to write it."""

    role: str
    """The role that Terraform assumes in each account."""
    provider: int = 5
    """The provider's major version: 5 needs a provider per account and Region, 6 one per account."""
    own_account: str | None = None
    """The account of Terraform's own credentials, where no role is assumed."""
    policies: bool = True


@dataclass(frozen=True, slots=True)
class Configuration:
    """File names to what stands in them, piece by piece (each a whole comment or block)."""

    files: Mapping[str, Iterable[str]]
    left_out: tuple[LeftOut, ...]
    defaults: int
    """How many Region defaults it has."""


@dataclass(frozen=True, slots=True)
class _Default:
    target: Target
    values: AccountDefaults
    note: str = ""


def configuration(scan: Scan, settings: Settings, *, plan: Plan | None = None, chosen: Chosen) -> Configuration:
    """The configuration of the targets that `chosen` says yes to: as a scan saw them, or as its `plan` makes them.

    Region defaults are kept in memory, launch templates and instances are gone through as their file is written.
    """
    after = {change.target: change for change in plan.changes if _sets_defaults(change)} if plan else {}
    defaults: list[_Default] = []
    left_out = list(unread_places(scan, chosen))
    for region in scan.regions:
        if chosen(region.target):
            found = _default(region, after.get(region.target))
            defaults.append(found) if isinstance(found, _Default) else left_out.append(found)
    defaults.sort(key=lambda each: each.target)
    files: dict[str, Iterable[str]] = {
        "versions.tf": _versions(settings),
        "providers.tf": _providers([each.target for each in defaults], settings),
        "region_defaults.tf": _region_defaults(defaults, tuple(left_out), settings, wanted=plan is not None),
        "metadata_options.tf": _patches(scan, plan, chosen),
    }
    if settings.policies:
        policies = sorted((each for each in scan.policies if not each.aws_managed), key=lambda each: each.policy_id)
        gaps = tuple(unread_policies(scan))
        left_out += gaps
        files["organization.tf"] = _organization(policies, gaps)
    return Configuration(files, tuple(left_out), len(defaults))


ORGANIZATION = "organization"
"""The folder of what belongs to no account, beside those of the accounts."""


def by_account(
    scan: Scan, settings: Settings, *, plan: Plan | None = None, chosen: Chosen
) -> Iterator[tuple[str, Configuration]]:
    """The same as a root module for each account and one for the organization's policies, each with its folder's name.

    Terraform runs a process of the provider for each alias in use: with provider 5 that is one a Region, so that a
    root module of one account runs anywhere, and one of a whole organization nowhere. The scan is gone through once:
    it has an account's Regions side by side.
    """
    changes: dict[str, list[Change]] = {}
    for change in plan.changes if plan else ():
        changes.setdefault(change.target.account_id, []).append(change)
    unseen: dict[str, list[AccountUnseen]] = {}
    for each in scan.unseen:
        unseen.setdefault(each.account_id, []).append(each)
    of_accounts = replace(settings, policies=False)

    def of_account(account_id: str, regions: Iterable[RegionSeen]) -> Configuration:
        alone = replace(scan, regions=tuple(regions), unseen=tuple(unseen.pop(account_id, ())))
        mine = plan and replace(plan, changes=tuple(changes.get(account_id, ())))
        return configuration(alone, of_accounts, plan=mine, chosen=chosen)

    for account_id, regions in groupby(scan.regions, key=lambda each: each.target.account_id):
        if here := [each for each in regions if chosen(each.target)]:
            yield account_id, of_account(account_id, here)
    for account_id in sorted(unseen):  # nothing of it was read
        made = of_account(account_id, ())
        if made.left_out:
            yield account_id, made
    if settings.policies:
        yield ORGANIZATION, configuration(replace(scan, regions=()), settings, chosen=lambda target: False)


def _sets_defaults(change: Change) -> bool:
    return change.surface is Surface.REGION_DEFAULT and change.stage is Stage.REGION_DEFAULTS and not change.held


def _default(region: RegionSeen, change: Change | None) -> _Default | LeftOut:
    subject = str(region.target)
    if region.defaults is None:
        why = next((each.reason for each in region.unseen if "default" in each.what), "the scan holds no answer")
        return LeftOut(subject, f"the Region default could not be read: {why}", unread=True)
    if region.defaults.managed_by != "account":
        return LeftOut(subject, f"a {region.defaults.managed_by} decides the Region default: AWS refuses to change it")
    values = region.defaults.updated(change.after) if change else region.defaults
    note = (
        "HttpTokensEnforced is enabled; the provider has no argument for it and leaves it so" if values.enforced else ""
    )
    return _Default(region.target, values, note)


# versions.tf, providers.tf


def _versions(settings: Settings) -> Iterator[str]:
    version = "~> 5.100" if settings.provider == 5 else f"~> {settings.provider}.0"
    aws = {"source": "hashicorp/aws", "version": version}
    yield block_text(
        Block("terraform", (), (("required_version", ">= 1.5"), Block("required_providers", (), (("aws", aws),))))
    )


def _providers(targets: Iterable[Target], settings: Settings) -> Iterator[str]:
    yield commented("The provider without an alias is for AWS Organizations: credentials of the management account.")
    yield block_text(Block("provider", ("aws",), (("region", "us-east-1"),)))
    done: set[str] = set()
    for target in targets:
        alias = _alias(target, settings)
        if alias in done:
            continue
        done.add(alias)
        body: tuple[Item, ...] = (("alias", alias), ("region", target.region))
        if target.account_id != settings.own_account:
            arn = f"arn:{_partition(target.region)}:iam::{target.account_id}:role/{settings.role}"
            body = (*body, Block("assume_role", (), (("role_arn", arn),)))
        yield "\n" + block_text(Block("provider", ("aws",), body))


def _partition(region: str) -> str:
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


def _alias(target: Target, settings: Settings) -> str:
    account = f"a{target.account_id}"
    return account if settings.provider >= 6 else identifier(account, target.region)


# region_defaults.tf


def _region_defaults(
    defaults: Iterable[_Default], left_out: Iterable[LeftOut], settings: Settings, *, wanted: bool
) -> Iterator[str]:
    yield commented(_DEFAULTS_HEAD.format(what=_AS_WANTED if wanted else _AS_SEEN))
    yield from _gaps(left_out)
    for default in defaults:
        yield "\n" + (commented(default.note) if default.note else "") + block_text(_default_block(default, settings))


def _gaps(left_out: Iterable[LeftOut]) -> Iterator[str]:
    for each in left_out:
        yield commented(f"Left out: {shown(each.subject)}: {shown(each.reason)}")


def _default_block(default: _Default, settings: Settings) -> Block:
    target, values = default.target, default.values
    where: tuple[Item, ...] = (("provider", Expression(f"aws.{_alias(target, settings)}")),)
    if settings.provider >= 6:
        where = (*where, ("region", target.region))
    return Block(
        "resource",
        ("aws_ec2_instance_metadata_defaults", identifier(f"a{target.account_id}", target.region)),
        (
            *where,
            ("http_endpoint", str(values.http_endpoint or NO_PREFERENCE)),
            ("http_put_response_hop_limit", values.http_put_response_hop_limit or HOP_LIMIT_NO_PREFERENCE),
            ("http_tokens", str(values.http_tokens or NO_PREFERENCE)),
            ("instance_metadata_tags", str(values.instance_metadata_tags or NO_PREFERENCE)),
            Block("lifecycle", (), (("prevent_destroy", True),)),
        ),
    )


# organization.tf


def _organization(policies: Iterable[PolicySeen], gaps: Iterable[LeftOut]) -> Iterator[str]:
    yield commented(
        "Policies of the organization, and what they are attached to. Each is imported, so that the first plan is\n"
        "empty; a scan does not read descriptions and tags, so that Terraform leaves these alone."
    )
    yield from _gaps(gaps)
    for policy in policies:
        name = identifier(policy.name, policy.policy_id)
        address = f"aws_organizations_policy.{name}"
        yield "\n" + _import(address, policy.policy_id)
        body: tuple[Item, ...] = (
            ("name", policy.name),
            ("type", str(policy.kind)),
            ("content", _content(policy.content)),
            Block("lifecycle", (), (("ignore_changes", Expression("[description, tags, tags_all]")),)),
        )
        yield "\n" + block_text(Block("resource", ("aws_organizations_policy", name), body))
        for target in sorted(policy.targets):
            attached = identifier(name, target)
            yield "\n" + _import(f"aws_organizations_policy_attachment.{attached}", f"{target}:{policy.policy_id}")
            body = (("policy_id", Expression(f"{address}.id")), ("target_id", target))
            yield "\n" + block_text(Block("resource", ("aws_organizations_policy_attachment", attached), body))


def _import(address: str, identity: str) -> str:
    return block_text(Block("import", (), (("to", Expression(address)), ("id", identity))))


def _content(text: str) -> Any:
    """A policy's document: as an object, to be reviewed line by line; as it is, when it is none."""
    try:
        value = json.loads(text)
        block_text(Block("x", (), (("x", value),)))
    except (ValueError, TypeError, RecursionError):
        return text
    return Call("jsonencode", value) if isinstance(value, dict) else text


# metadata_options.tf


def _patches(scan: Scan, plan: Plan | None, chosen: Chosen) -> Iterator[str]:
    yield commented(_PATCHES_HEAD)
    if plan is not None:
        for change in plan.changes:
            if chosen(change.target):
                yield from _planned(change)
        return
    for region in scan.regions:
        if not chosen(region.target):
            continue
        for template in sorted(region.templates, key=lambda each: (each.template_id, each.version)):
            if template.is_latest:
                what = f"{template.template_name} ({template.template_id}) version {template.version}, {region.target}"
                yield _patch("aws_launch_template", template.template_id, what, template.options)
        for instance in sorted(region.instances, key=lambda each: each.instance_id):
            what = f"{instance.instance_id}, {region.target}"
            yield _patch("aws_instance", instance.instance_id, what, instance.options)


def _planned(change: Change) -> Iterator[str]:
    what = f"{change.name or change.resource}, {change.target}: {change.reason}"
    if change.held:
        what += f" (deferred: {change.held})"
    if change.surface is Surface.INSTANCE:
        options = MetadataOptions.from_aws({**change.before, **change.after})
        yield _patch("aws_instance", change.resource, what, options)
    elif change.surface is Surface.LAUNCH_TEMPLATE and "DefaultVersion" in change.before:
        # A resource of Terraform is the latest version.
        part = "Latest" if "Latest" in change.after else "Default"
        options = MetadataOptions.from_aws({**change.before.get(part, {}), **change.after[part]})
        yield _patch("aws_launch_template", change.resource, what, options)


def _patch(kind: str, resource: str, what: str, options: MetadataOptions) -> str:
    said = tuple(
        (name, value if isinstance(value, int) else str(value))
        for name in ARGUMENTS
        if (value := getattr(options, name)) is not None
    )
    name = identifier(resource)
    block = Block("resource", (kind, name), (Block("metadata_options", (), said),) if said else ())
    text = f"{shown(what)}\n{_import(f'{kind}.{name}', resource)}{block_text(block)}"
    return "\n" + commented(text)

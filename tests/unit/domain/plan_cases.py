"""A fragment of a scan, written as data, to observations. What it leaves out is as quiet as can be."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from imdsctl.domain.evidence import Evidence, InstanceEvidence
from imdsctl.domain.observations import (
    Account,
    ConfigurationSeen,
    FleetKind,
    FleetSeen,
    GroupSeen,
    ImageSeen,
    InstanceSeen,
    LaunchSource,
    RegionSeen,
    Scan,
    ServiceKind,
    ServiceSeen,
    Target,
    TemplateVersionSeen,
    Unseen,
)
from imdsctl.domain.options import AccountDefaults, MetadataOptions

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
ACCOUNT, REGION = "111122223333", "eu-west-1"
V1 = {"HttpTokens": "optional", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"}


def scan_of(*regions: Mapping[str, Any]) -> Scan:
    accounts = {
        each.get("account", ACCOUNT): Account(
            each.get("account", ACCOUNT), each.get("name", ""), ou_path=each.get("ou", "")
        )
        for each in regions
    }
    return Scan("s1", NOON, NOON, tuple(accounts.values()), tuple(region_of(each) for each in regions))


def region_of(said: Mapping[str, Any]) -> RegionSeen:
    defaults = said.get("defaults", {})
    return RegionSeen(
        Target(said.get("account", ACCOUNT), said.get("region", REGION)),
        None if defaults is None else AccountDefaults.from_aws(defaults),
        tuple(_instance(each) for each in said.get("instances", ())),
        tuple(_template(each) for each in said.get("templates", ())),
        tuple(
            ImageSeen(each["id"], each.get("name", ""), each.get("owned", True), each.get("imds-support"))
            for each in said.get("images", ())
        ),
        tuple(Unseen(each["what"], each["reason"]) for each in said.get("unseen", ())),
        tuple(
            ConfigurationSeen(
                each["name"],
                MetadataOptions.from_aws(each.get("options")),
                each.get("image"),
                each.get("in-use", False),
            )
            for each in said.get("configurations", ())
        ),
        tuple(
            GroupSeen(
                each["name"],
                _sources(each),
                tuple(each.get("instances", ())),
                each.get("desired", len(each.get("instances", ()))),
                _tags(each),
            )
            for each in said.get("groups", ())
        ),
        tuple(
            FleetSeen(each["id"], FleetKind(each["kind"]), "active", _sources(each), _tags(each))
            for each in said.get("fleets", ())
        ),
        tuple(
            ServiceSeen(
                ServiceKind(each["kind"]),
                each["id"],
                each.get("name", ""),
                MetadataOptions.from_aws(each.get("options")),
                each.get("reason", ""),
                _sources(each),
                tuple(each.get("groups", ())),
                tuple(each.get("instances", ())),
                each.get("parent", ""),
            )
            for each in said.get("services", ())
        ),
    )


def evidence_of(said: Mapping[str, Mapping[str, Any]]) -> Evidence:
    """`{"i-1": {"no-token": 3}}` to evidence."""
    target = Target(ACCOUNT, REGION)
    found = {
        (target, each): InstanceEvidence(target, each, no_token=values.get("no-token"), reason=values.get("reason", ""))
        for each, values in said.items()
    }
    return Evidence("s1", NOON, timedelta(days=14), found)


def _instance(said: Mapping[str, Any]) -> InstanceSeen:
    return InstanceSeen(
        said["id"],
        said.get("state", "running"),
        MetadataOptions.from_aws(said.get("options", V1)),
        said.get("image"),
        launch_template_id=said.get("template"),
        managed_by=said.get("managed-by"),
        tags=_tags(said),
    )


def _template(said: Mapping[str, Any]) -> TemplateVersionSeen:
    roles = said.get("is", "$Default $Latest")
    return TemplateVersionSeen(
        said["id"],
        said.get("name", said["id"]),
        said.get("version", 1),
        "$Default" in roles,
        "$Latest" in roles,
        MetadataOptions.from_aws(said.get("options")),
        said.get("image"),
        "in use" in roles,
        _tags(said),
    )


def _sources(said: Mapping[str, Any]) -> tuple[LaunchSource, ...]:
    return tuple(
        LaunchSource(each.get("template"), None, each.get("version"), each.get("configuration"), each.get("image"))
        for each in said.get("launches", ())
    )


def _tags(said: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(said.get("tags", {}).items())

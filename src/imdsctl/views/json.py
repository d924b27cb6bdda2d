"""Results as JSON for programs. `format_version` grows when a member changes its meaning or goes away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from imdsctl import __version__
from imdsctl.domain.exposure import Exposure, instance_exposure
from imdsctl.domain.launches import (
    configuration_exposure,
    fleet_exposure,
    group_exposure,
    image_exposure,
    service_exposure,
    source_exposure,
    template_exposure,
)
from imdsctl.domain.options import AWS_NAMES
from imdsctl.domain.verdicts import region_default_exposure

if TYPE_CHECKING:
    from imdsctl.domain.observations import AccountUnseen, LaunchSource, PolicySeen, RegionSeen, Scan, Unseen
    from imdsctl.domain.verdicts import Count, ScanSummary
    from imdsctl.fleet.explain import Explanation

FORMAT_VERSION = 1


def document(kind: str, **members: Any) -> str:
    """One JSON object with its kind and versions first, indented, ending in a line feed."""
    import orjson

    from imdsctl.domain.json_text import json_bytes

    head = {"imdsctl_version": __version__, "format_version": FORMAT_VERSION, "kind": kind}
    return json_bytes({**head, **members}, orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def scan_json(scan: Scan, summary: ScanSummary, *, complete: bool = True) -> Iterator[str]:
    """A scan with every verdict and its reason, in pieces: the targets are read one by one from where they are kept.

    A scan that was stopped is not `complete`: its targets stay in the database until it is resumed.
    """
    head = document(
        "scan",
        scan_id=scan.scan_id,
        complete=complete,
        started=scan.started,
        finished=scan.finished,
        scope=dict(scan.scope),
        calls=scan.calls,
        totals={
            "targets": len(summary.targets),
            "region_defaults": count_json(summary.defaults),
            "instances": count_json(summary.counts.instances),
            "launch_templates": count_json(summary.counts.templates),
            "launch_configurations": count_json(summary.counts.configurations),
            "auto_scaling_groups": count_json(summary.counts.groups),
            "fleets": count_json(summary.counts.fleets),
            "services": count_json(summary.counts.services),
            "images": count_json(summary.counts.images),
            "verdicts": count_json(summary.verdicts),
            "unknown": len(summary.unknowns),
            "not_inspectable": len(summary.not_inspectable),
        },
        accounts=[
            {"account_id": each.account_id, "name": each.name, "state": each.state, "ou_path": each.ou_path}
            for each in scan.accounts
        ],
        policies=[_policy(each) for each in scan.policies],
        effective_policies=dict(scan.effective_policies),
        unknown=[{"subject": each.subject, **unseen_json(each.unseen)} for each in summary.unknowns],
        not_inspectable=not_inspectable_json(summary.not_inspectable),
    )
    yield head.removesuffix("\n}\n")
    separator = ',\n  "targets": ['
    for region in scan.regions:
        yield separator + _indented(_target(region))
        separator = ","
    yield "\n  ]\n}\n" if separator == "," else f"{separator}]\n}}\n"


def _indented(value: Any) -> str:
    import orjson

    from imdsctl.domain.json_text import json_bytes

    text = json_bytes(value, orjson.OPT_INDENT_2).decode()
    return "\n    " + text.replace("\n", "\n    ")


def count_json(count: Count) -> dict[str, int]:
    """Numbers by verdict."""
    return {"exposed": count.exposed, "enforced": count.enforced, "unknown": count.unknown}


def unseen_json(unseen: Unseen) -> dict[str, str]:
    """What was not seen, and why."""
    return {"what": unseen.what, "code": unseen.code, "reason": unseen.reason}


def not_inspectable_json(places: Iterable[AccountUnseen]) -> list[dict[str, Any]]:
    """Accounts and Regions that nobody can look into."""
    return [{"account_id": each.account_id, "region": each.region, **unseen_json(each.unseen)} for each in places]


def _exposure(exposure: Exposure) -> dict[str, str]:
    return {"verdict": str(exposure.verdict), "reason": exposure.reason}


def _target(region: RegionSeen) -> dict[str, Any]:
    return {
        "account_id": region.target.account_id,
        "region": region.target.region,
        "default": {
            **_exposure(region_default_exposure(region)),
            "options": None if region.defaults is None else region.defaults.to_aws(),
        },
        "instances": [
            {
                "instance_id": each.instance_id,
                "state": each.state,
                **_exposure(instance_exposure(each.options)),
                "options": each.options.to_aws(),
                "image_id": each.image_id,
                "launch_time": each.launch_time,
                "launch_template_id": each.launch_template_id,
                "launch_template_version": each.launch_template_version,
                "managed_by": each.managed_by,
            }
            for each in region.instances
        ],
        "launch_templates": [
            {
                "template_id": each.template_id,
                "template_name": each.template_name,
                "version": each.version,
                "default": each.is_default,
                "latest": each.is_latest,
                "in_use": each.in_use,
                **_exposure(template_exposure(region, each)),
                "options": each.options.to_aws(),
                "image_id": each.image_id,
            }
            for each in region.templates
        ],
        "launch_configurations": [
            {
                "name": each.name,
                "in_use": each.in_use,
                **_exposure(configuration_exposure(region, each)),
                "options": each.options.to_aws(),
                "image_id": each.image_id,
            }
            for each in region.configurations
        ],
        "auto_scaling_groups": [
            {
                "name": each.name,
                **_exposure(group_exposure(region, each)),
                "sources": [_source(region, source) for source in each.sources],
                "desired": each.desired,
                "instance_ids": each.instance_ids,
            }
            for each in region.groups
        ],
        "fleets": [
            {
                "fleet_id": each.fleet_id,
                "kind": str(each.kind),
                "state": each.state,
                **_exposure(fleet_exposure(region, each)),
                "sources": [_source(region, source) for source in each.sources],
            }
            for each in region.fleets
        ],
        "services": [
            {
                "kind": str(each.kind),
                "resource": each.resource,
                "name": each.name,
                **_exposure(service_exposure(region, each)),
                "options": each.options.to_aws(),
                "parent": each.parent,
                "in_use": each.in_use,
                "sources": [_source(region, source) for source in each.sources],
                "group_names": each.group_names,
                "instance_ids": each.instance_ids,
            }
            for each in region.services
        ],
        "images": [
            {
                "image_id": each.image_id,
                "name": each.name,
                **_exposure(image_exposure(region, each)),
                "imds_support": each.imds_support,
            }
            for each in region.images
            if each.owned
        ],
        "unseen": [unseen_json(each) for each in region.unseen],
    }


def _source(region: RegionSeen, source: LaunchSource) -> dict[str, Any]:
    named = {
        "template_id": source.template_id,
        "template_name": source.template_name,
        "version": source.version,
        "configuration": source.configuration,
        "image_id": source.image_id,
    }
    return {
        **{name: value for name, value in named.items() if value is not None},
        **_exposure(source_exposure(region, source)),
    }


def _policy(policy: PolicySeen) -> dict[str, Any]:
    return {
        "policy_id": policy.policy_id,
        "name": policy.name,
        "kind": str(policy.kind),
        "aws_managed": policy.aws_managed,
        "targets": policy.targets,
        "content": policy.content,
    }


def explanation_json(explanation: Explanation) -> str:
    """An explanation: for each option its value, who decided it, and what every layer says."""
    resolution = explanation.resolution
    held = None if explanation.held is None else explanation.held.to_aws()
    options: dict[str, Any] = {}
    for name, aws in AWS_NAMES.items():
        decided = getattr(resolution, name)
        options[aws] = {
            **({} if held is None else {"now": held.get(aws)}),
            "value": decided.value,
            "decided_by": str(decided.layer),
            "layers": [{"layer": str(layer), "says": getattr(says, name)} for layer, says in resolution.layers],
        }
    return document(
        "explanation",
        subject=explanation.subject,
        subject_kind=str(explanation.kind),
        account_id=explanation.target.account_id,
        region=explanation.target.region,
        source=explanation.source,
        **_exposure(explanation.exposure),
        options=options,
        enforced=resolution.enforced,
        refused=resolution.refused,
        image_unknown=explanation.image_unknown,
        sources={str(layer): text for layer, text in explanation.sources.items()},
        notes=list(explanation.notes),
    )

"""Results as JSON for programs. `format_version` grows when a member changes its meaning or goes away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imdsctl import __version__
from imdsctl.domain.exposure import Exposure, instance_exposure
from imdsctl.domain.options import AWS_NAMES
from imdsctl.domain.verdicts import image_exposure, template_exposure

if TYPE_CHECKING:
    from imdsctl.domain.observations import RegionSeen, Scan, Unseen
    from imdsctl.domain.verdicts import Count, ScanSummary, TargetSummary
    from imdsctl.fleet.explain import Explanation

FORMAT_VERSION = 1


def document(kind: str, **members: Any) -> str:
    """One JSON object with its kind and versions first, indented, ending in a line feed."""
    import orjson

    head = {"imdsctl_version": __version__, "format_version": FORMAT_VERSION, "kind": kind}
    return orjson.dumps({**head, **members}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def scan_json(scan: Scan, summary: ScanSummary) -> str:
    """A scan with every verdict and its reason."""
    return document(
        "scan",
        scan_id=scan.scan_id,
        started=scan.started,
        finished=scan.finished,
        scope=dict(scan.scope),
        calls=scan.calls,
        totals={
            "targets": len(summary.targets),
            "region_defaults": count_json(summary.defaults),
            "instances": count_json(summary.instances),
            "launch_templates": count_json(summary.templates),
            "images": count_json(summary.images),
            "unknown": len(summary.unknowns),
            "not_inspectable": len(summary.not_inspectable),
        },
        accounts=[
            {"account_id": each.account_id, "name": each.name, "state": each.state, "ou_path": each.ou_path}
            for each in scan.accounts
        ],
        targets=[_target(each) for each in summary.targets],
        unknown=[{"subject": each.subject, **unseen_json(each.unseen)} for each in summary.unknowns],
        not_inspectable=[
            {"account_id": each.account_id, "region": each.region, **unseen_json(each.unseen)}
            for each in summary.not_inspectable
        ],
    )


def count_json(count: Count) -> dict[str, int]:
    """Numbers by verdict."""
    return {"exposed": count.exposed, "enforced": count.enforced, "unknown": count.unknown}


def unseen_json(unseen: Unseen) -> dict[str, str]:
    """What was not seen, and why."""
    return {"what": unseen.what, "code": unseen.code, "reason": unseen.reason}


def _exposure(exposure: Exposure) -> dict[str, str]:
    return {"verdict": str(exposure.verdict), "reason": exposure.reason}


def _target(target: TargetSummary) -> dict[str, Any]:
    region: RegionSeen = target.region
    return {
        "account_id": region.target.account_id,
        "region": region.target.region,
        "default": {
            **_exposure(target.default),
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

"""The JSON documents of the metadata, in the form that instances get them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from imdsctl.imds.facts import Facts, MaintenanceEvent, RoleCredentials


def timestamp(when: datetime) -> str:
    """`2017-09-18T08:22:00Z`."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def json_text(value: Any) -> str:
    """JSON as the metadata service spells it: indented, a space on both sides of the colon."""
    return json.dumps(value, indent=2, separators=(",", " : "), ensure_ascii=False)


def credentials_document(credentials: RoleCredentials) -> str:
    """`iam/security-credentials/ROLE`. Source: EC2 User Guide, "Retrieve security credentials"."""
    head = {"Code": credentials.problem or "Success"}
    if credentials.message is not None:
        head["Message"] = credentials.message
    head["LastUpdated"] = timestamp(credentials.updated)
    if credentials.problem is not None:
        return json_text(head)
    assert credentials.expires is not None
    return json_text(
        {
            **head,
            "Type": "AWS-HMAC",
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "Token": credentials.session_token,
            "Expiration": timestamp(credentials.expires),
        }
    )


def profile_document(facts: Facts) -> str | None:
    """`iam/info`. Source: IAM User Guide, "Troubleshoot IAM and Amazon EC2"."""
    if facts.profile_problem is not None:
        return json_text({"Code": facts.profile_problem, "LastUpdated": timestamp(facts.pending_time)})
    if facts.profile_arn is None:
        return None
    document = {"Code": "Success", "LastUpdated": timestamp(facts.pending_time)}
    if facts.role is None:
        document["Message"] = (
            f"Instance Profile does not contain a role. Please see documentation at {TROUBLESHOOTING_PAGE}."
        )
    document["InstanceProfileArn"] = facts.profile_arn
    document["InstanceProfileId"] = facts.profile_id or ""
    return json_text(document)


TROUBLESHOOTING_PAGE = "https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_iam-ec2.html"


def identity_info_document(facts: Facts) -> str:
    """`identity-credentials/ec2/info`."""
    return json_text(
        {"Code": "Success", "LastUpdated": timestamp(facts.pending_time), "AccountId": facts.account_id},
    )


def identity_document(facts: Facts) -> str:
    """`instance-identity/document`. Source: EC2 User Guide, "Instance identity documents"."""
    return json_text(
        {
            "accountId": facts.account_id,
            "architecture": facts.architecture,
            "availabilityZone": facts.availability_zone,
            "billingProducts": list(facts.billing_products) or None,
            "devpayProductCodes": None,
            "marketplaceProductCodes": list(facts.product_codes) or None,
            "imageId": facts.image_id,
            "instanceId": facts.instance_id,
            "instanceType": facts.instance_type,
            "kernelId": facts.kernel_id,
            "pendingTime": timestamp(facts.pending_time),
            "privateIp": _private_ip(facts),
            "ramdiskId": facts.ramdisk_id,
            "region": facts.region,
            "version": "2017-09-30",
        }
    )


def _private_ip(facts: Facts) -> str | None:
    addresses = facts.interfaces[0].private_ipv4s if facts.interfaces else ()
    return addresses[0] if addresses else None


def spot_action_document(facts: Facts) -> str | None:
    """`spot/instance-action`. Source: EC2 User Guide, "Spot Instance interruption notices"."""
    notice = facts.spot_action
    return None if notice is None else json.dumps({"action": notice.action, "time": timestamp(notice.time)})


def rebalance_document(facts: Facts) -> str | None:
    """`events/recommendations/rebalance`. Source: EC2 User Guide, "EC2 instance rebalance recommendations"."""
    return None if facts.rebalance is None else json.dumps({"noticeTime": timestamp(facts.rebalance)})


def events_document(events: Sequence[MaintenanceEvent]) -> str:
    """`events/maintenance/scheduled` and `history`. Source: EC2 User Guide, "View scheduled events"."""
    return json_text([_event(event) for event in events]) if events else "[]"


def _event(event: MaintenanceEvent) -> dict[str, str]:
    shown = {
        "NotBefore": _event_time(event.not_before),
        "Code": event.code,
        "Description": event.description,
        "EventId": event.event_id,
    }
    if event.not_after is not None:
        shown["NotAfter"] = _event_time(event.not_after)
    if event.not_before_deadline is not None:
        shown["NotBeforeDeadline"] = _event_time(event.not_before_deadline)
    return {**shown, "State": event.state}


def _event_time(when: datetime) -> str:
    when = when.astimezone(UTC)
    return f"{when.day:02d} {_MONTHS[when.month - 1]} {when:%Y %H:%M:%S} GMT"  # strftime's %b follows the locale


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

"""The whole tree: what an instance shows at which path, from which version on, and what it lists."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from imdsctl.imds.facts import Facts, MaintenanceEvent, NetworkInterface, SpotAction
from imdsctl.imds.fixed import example_facts
from imdsctl.imds.tree import Asked, View, find
from imdsctl.imds.versions import LATEST, VERSIONS

AT = datetime(2026, 3, 3, 10, 0, 5, tzinfo=UTC)

EVENT = MaintenanceEvent(
    "instance-reboot",
    "scheduled reboot",
    "instance-event-0d59937288b749b32",
    "active",
    not_before=AT,
    not_after=datetime(2026, 3, 3, 12, 0, tzinfo=UTC),
    not_before_deadline=datetime(2026, 3, 10, 10, 0, 5, tzinfo=UTC),
)


def full() -> Facts:
    """An instance that has everything an instance can have."""
    plain = example_facts(role="web")
    return replace(
        plain,
        interfaces=(
            replace(
                plain.interfaces[0],
                private_ipv4s=("10.0.31.7", "10.0.31.8"),
                public_ipv4s=("203.0.113.7", "203.0.113.8"),
                public_hostname="ec2-203-0-113-7.compute-1.amazonaws.com",
                ipv6s=("2001:db8::7",),
                subnet_ipv6_cidrs=("2001:db8::/64",),
                vpc_ipv6_cidrs=("2001:db8::/56",),
                vpc_ipv4_cidrs=("10.0.0.0/16", "10.1.0.0/16"),
                security_groups=(("sg-1", "default"), ("sg-2", "web")),
            ),
            NetworkInterface(
                mac="06:00:00:00:00:02",
                interface_id="eni-2",
                device_number=1,
                owner_id=plain.account_id,
                private_ipv4s=("10.0.31.9",),
                subnet_id="subnet-2",
                subnet_ipv4_cidr="10.0.16.0/20",
                vpc_id="vpc-1",
                vpc_ipv4_cidrs=("10.0.0.0/16",),
                security_groups=(("sg-1", "default"),),
                local_hostname="ip-10-0-31-9.ec2.internal",
            ),
        ),
        block_devices=(("ami", "/dev/xvda"), ("ebs1", "sdb"), ("root", "/dev/xvda")),
        security_groups=("default", "web"),
        kernel_id="aki-1",
        ramdisk_id="ari-1",
        product_codes=("code1", "code2"),
        ancestor_ami_ids=("ami-1", "ami-2"),
        public_key=("my-key", "ssh-ed25519 AAAA my-key"),
        user_data=b"#!/bin/sh\n",
        tags={"Name": "web-1", "aws:autoscaling:groupName": "web"},
        placement_group="group",
        partition_number=2,
        host_id="h-1",
        spot_action=SpotAction("terminate", AT),
        rebalance=AT,
        scheduled_events=(EVENT,),
        past_events=(replace(EVENT, description="[Completed] scheduled reboot", state="completed"),),
        target_lifecycle_state="InService",
    )


def at(path: str, facts: Facts | None = None, *, tags: bool = True) -> Any:
    segments = tuple(segment for segment in path.split("/") if segment)
    return find(View(facts or full(), tags), segments)


def walk(facts: Facts, path: str = "/latest", *, tags: bool = True) -> Iterator[str]:
    """As a client that follows listings does: every path that is listed, directories with their slash."""
    listing = at(path, facts, tags=tags)
    assert isinstance(listing, str), path
    for line in listing.split("\n"):
        name = line.partition("=")[0] + "/" if path.endswith("/public-keys/") else line
        yield f"{path.rstrip('/')}/{name}"
        if name.endswith("/") or (path == "/latest" and name != "user-data"):
            yield from walk(facts, f"{path.rstrip('/')}/{name}", tags=tags)


LEAVES: Mapping[str, str] = {
    "ami-launch-index": "0",
    "ami-manifest-path": "(unknown)",
    "ancestor-ami-ids": "ami-1\nami-2",
    "autoscaling/target-lifecycle-state": "InService",
    "block-device-mapping/ami": "/dev/xvda",
    "block-device-mapping/ebs1": "sdb",
    "events/recommendations/rebalance": '{"noticeTime": "2026-03-03T10:00:05Z"}',
    "hostname": "ip-10-0-31-7.ec2.internal",
    "instance-action": "none",
    "instance-life-cycle": "on-demand",
    "instance-type": "m5.large",
    "ipv6": "2001:db8::7",
    "kernel-id": "aki-1",
    "local-hostname": "ip-10-0-31-7.ec2.internal",
    "local-ipv4": "10.0.31.7",
    "network/interfaces/macs/06:00:00:00:00:02/device-number": "1",
    "placement/availability-zone": "us-east-1a",
    "placement/availability-zone-id": "use1-az1",
    "placement/group-name": "group",
    "placement/host-id": "h-1",
    "placement/partition-number": "2",
    "placement/region": "us-east-1",
    "product-codes": "code1\ncode2",
    "profile": "default-hvm",
    "public-hostname": "ec2-203-0-113-7.compute-1.amazonaws.com",
    "public-ipv4": "203.0.113.7",
    "public-keys/0/openssh-key": "ssh-ed25519 AAAA my-key",
    "ramdisk-id": "ari-1",
    "security-groups": "default\nweb",
    "services/domain": "amazonaws.com",
    "services/partition": "aws",
    "spot/instance-action": '{"action": "terminate", "time": "2026-03-03T10:00:05Z"}',
    "spot/termination-time": "2026-03-03T10:00:05Z",
    "system": "nitro",
    "tags/instance/Name": "web-1",
    "tags/instance/aws:autoscaling:groupName": "web",
}

PRIMARY: Mapping[str, str | None] = {
    "device-number": "0",
    "ipv4-associations/203.0.113.8": "10.0.31.8",
    "ipv6s": "2001:db8::7",
    "local-ipv4s": "10.0.31.7\n10.0.31.8",
    "network-card": "0",
    "owner-id": "111122223333",
    "public-ipv4s": "203.0.113.7\n203.0.113.8",
    "security-group-ids": "sg-1\nsg-2",
    "security-groups": "default\nweb",
    "subnet-ipv4-cidr-block": "10.0.16.0/20",
    "subnet-ipv6-cidr-blocks": "2001:db8::/64",
    "vpc-ipv4-cidr-block": "10.0.0.0/16",
    "vpc-ipv4-cidr-blocks": "10.0.0.0/16\n10.1.0.0/16",
    "vpc-ipv6-cidr-blocks": "2001:db8::/56",
}


@pytest.mark.parametrize(("path", "value"), LEAVES.items())
def test_a_leaf_with_and_without_a_slash_behind_it(path: str, value: str) -> None:
    assert at(f"/latest/meta-data/{path}") == value
    assert at(f"/latest/meta-data/{path}/") == value


@pytest.mark.parametrize(("path", "value"), PRIMARY.items())
def test_what_the_primary_interface_shows(path: str, value: str) -> None:
    facts = full()
    assert at(f"/latest/meta-data/network/interfaces/macs/{facts.interfaces[0].mac}/{path}", facts) == value


def test_everything_of_the_categories_page_is_there() -> None:
    """The top level as the page and real instances have it (an instance that has everything)."""
    listed = at("/latest/meta-data/").split("\n")
    assert listed == sorted(listed)
    assert set(listed) == {
        *("ami-id", "ami-launch-index", "ami-manifest-path", "ancestor-ami-ids", "autoscaling/"),
        *("block-device-mapping/", "events/", "hostname", "iam/", "identity-credentials/", "instance-action"),
        *("instance-id", "instance-life-cycle", "instance-type", "ipv6", "kernel-id", "local-hostname", "local-ipv4"),
        *("mac", "metrics/", "network/", "placement/", "product-codes", "profile", "public-hostname", "public-ipv4"),
        *("public-keys/", "ramdisk-id", "reservation-id", "security-groups", "services/", "spot/", "system", "tags/"),
    }


def test_a_plain_instance_lists_only_what_it_has() -> None:
    absent = {"autoscaling/", "iam/", "ipv6", "kernel-id", "product-codes", "public-hostname", "public-ipv4", "spot/"}
    absent |= {"public-keys/", "ramdisk-id", "tags/", "ancestor-ami-ids"}
    listed = set(at("/latest/meta-data/", example_facts()).split("\n"))
    assert listed == set(at("/latest/meta-data/").split("\n")) - absent
    assert at("/latest/", example_facts()) == "dynamic\nmeta-data"  # no user data
    assert all(at(f"/latest/meta-data/{name}", example_facts()) is None for name in absent)


@pytest.mark.parametrize("facts", [example_facts(), example_facts(role="web"), full()], ids=["plain", "role", "full"])
@pytest.mark.parametrize("tags", [True, False])
def test_everything_that_is_listed_is_there_and_no_directory_is_empty(facts: Facts, tags: bool) -> None:
    """Walkers break on empty directories and on names that are listed and then missing."""
    paths = list(walk(facts, tags=tags))
    assert len(paths) == len(set(paths))
    for path in paths:
        found = at(path, facts, tags=tags)
        assert found is not None, path
        assert found != "" or "/tags/" in path, path
        assert at(path.rstrip("/"), facts, tags=tags) == found  # a directory without its slash


def test_the_versions() -> None:
    lines = at("/").split("\n")
    assert lines[0] == "1.0"
    assert lines[-1] == LATEST
    assert tuple(lines) == VERSIONS
    assert {"2009-04-04", "2016-09-02", "2018-09-24", "2019-10-01", "2021-03-23"} <= set(lines)


@pytest.mark.parametrize(
    ("path", "since"),
    [
        ("meta-data/ami-id", "1.0"),
        ("meta-data/public-keys/0/openssh-key", "1.0"),
        ("meta-data/public-hostname", "2007-01-19"),
        ("meta-data/instance-type", "2007-08-29"),
        ("meta-data/block-device-mapping/ami", "2007-12-15"),
        ("meta-data/placement/availability-zone", "2008-02-01"),
        ("meta-data/instance-action", "2008-09-01"),
        ("dynamic/instance-identity/document", "2009-04-04"),
        ("dynamic/fws/instance-monitoring", "2009-04-04"),
        ("meta-data/mac", "2011-01-01"),
        ("meta-data/iam/info", "2012-01-12"),
        ("meta-data/services/domain", "2014-02-25"),
        ("meta-data/spot/termination-time", "2014-11-05"),
        ("meta-data/services/partition", "2015-10-20"),
        ("meta-data/spot/instance-action", "2016-11-15"),
        ("meta-data/identity-credentials/ec2/info", "2018-05-23"),
        ("meta-data/events/maintenance/scheduled", "2018-08-17"),
        ("meta-data/instance-life-cycle", "2019-10-01"),
        ("meta-data/placement/region", "2020-08-24"),
        ("meta-data/events/recommendations/rebalance", "2020-10-27"),
        ("meta-data/ipv6", "2021-01-03"),
        ("meta-data/tags/instance/Name", "2021-03-23"),
        ("meta-data/autoscaling/target-lifecycle-state", "2021-07-15"),
        ("meta-data/system", "2022-09-24"),
    ],
)
def test_a_category_is_there_from_the_version_that_introduced_it(path: str, since: str) -> None:
    assert [version for version in VERSIONS if at(f"/{version}/{path}") is not None] == [
        version for version in VERSIONS if version >= since
    ]


def test_a_version_that_is_none() -> None:
    assert at("/2999-01-01/meta-data/ami-id") is None
    assert at("/LATEST/meta-data/ami-id") is None


def test_the_role_and_its_credentials() -> None:
    assert at("/latest/meta-data/iam") == "info\nsecurity-credentials/"
    assert at("/latest/meta-data/iam/security-credentials/") == "web"
    assert at("/latest/meta-data/iam/security-credentials/web") is Asked.ROLE_CREDENTIALS
    assert at("/latest/meta-data/iam/security-credentials/other") is None
    info = json.loads(at("/latest/meta-data/iam/info"))
    assert list(info) == ["Code", "LastUpdated", "InstanceProfileArn", "InstanceProfileId"]
    assert info["Code"] == "Success"


def test_a_profile_without_a_role_and_one_that_was_deleted() -> None:
    without_role = replace(full(), role=None)
    assert at("/latest/meta-data/iam/", without_role) == "info"
    assert at("/latest/meta-data/iam/security-credentials/", without_role) is None
    info = json.loads(at("/latest/meta-data/iam/info", without_role))
    assert info["Code"] == "Success"
    assert "does not contain a role" in info["Message"]
    deleted = replace(without_role, profile_problem="InstanceProfileNotFound")
    assert json.loads(at("/latest/meta-data/iam/info", deleted))["Code"] == "InstanceProfileNotFound"


def test_the_identity_role_is_there_without_a_profile() -> None:
    path = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance"
    assert at(path, example_facts()) is Asked.IDENTITY_CREDENTIALS


def test_tags_are_shown_only_when_enabled_and_only_where_their_key_can_be_a_path() -> None:
    keys = {
        "Name": "a",
        "a b": "b",
        "a/b": "c",
        ".": "d",
        "..": "e",
        "_index": "f",
        "ünï": "g",
        "": "h",
        "+-=.,_:@": "",
    }
    facts = replace(example_facts(), tags=keys)
    assert at("/latest/meta-data/tags/instance", facts) == "Name\n+-=.,_:@"
    assert at("/latest/meta-data/tags/instance/+-=.,_:@", facts) == ""
    assert at("/latest/meta-data/tags/instance/_index", facts) is None
    assert at("/latest/meta-data/tags/instance", facts, tags=False) is None
    assert at("/latest/meta-data/tags", replace(facts, tags={"a b": "c"})) is None


def test_public_keys_are_listed_with_their_names() -> None:
    assert at("/latest/meta-data/public-keys/") == "0=my-key"
    assert at("/latest/meta-data/public-keys/0/") == "openssh-key"


def test_maintenance_events() -> None:
    assert json.loads(at("/latest/meta-data/events/maintenance/scheduled")) == [
        {
            "NotBefore": "03 Mar 2026 10:00:05 GMT",
            "Code": "instance-reboot",
            "Description": "scheduled reboot",
            "EventId": "instance-event-0d59937288b749b32",
            "NotAfter": "03 Mar 2026 12:00:00 GMT",
            "NotBeforeDeadline": "10 Mar 2026 10:00:05 GMT",
            "State": "active",
        }
    ]
    assert json.loads(at("/latest/meta-data/events/maintenance/history"))[0]["State"] == "completed"
    assert at("/latest/meta-data/events/maintenance/scheduled", example_facts()) == "[]"


def test_a_spot_instance_that_is_to_stop_has_no_termination_time() -> None:
    facts = replace(full(), spot_action=SpotAction("stop", AT))
    assert at("/latest/meta-data/spot/", facts) == "instance-action"


def test_the_identity_document() -> None:
    document = json.loads(at("/latest/dynamic/instance-identity/document"))
    assert sorted(document) == [
        *("accountId", "architecture", "availabilityZone", "billingProducts", "devpayProductCodes", "imageId"),
        *("instanceId", "instanceType", "kernelId", "marketplaceProductCodes", "pendingTime", "privateIp"),
        *("ramdiskId", "region", "version"),
    ]
    assert document["privateIp"] == "10.0.31.7"
    assert document["devpayProductCodes"] is None
    assert document["pendingTime"] == "2026-03-01T08:00:00Z"
    assert at("/latest/dynamic/instance-identity/").split("\n") == ["document", "pkcs7", "rsa2048", "signature"]


# -- overrides ---------------------------------------------------------------------------------------------------------


def overridden(**paths: str) -> Facts:
    given = {path.replace("__", "/").replace("_", "-"): value.encode() for path, value in paths.items()}
    return replace(example_facts(role="web"), overrides=given)


def test_an_override_goes_before_what_the_instance_has() -> None:
    facts = overridden(meta_data__ami_id="ami-given", dynamic__instance_identity__document="{}")
    assert at("/latest/meta-data/ami-id", facts) == b"ami-given"
    assert at("/1.0/meta-data/ami-id/", facts) == b"ami-given"
    assert at("/latest/dynamic/instance-identity/document", facts) == b"{}"
    assert at("/latest/meta-data/", facts) == at("/latest/meta-data/", example_facts(role="web"))
    assert at("/latest/meta-data/instance-type", facts) == "m5.large"


def test_an_override_of_a_path_that_is_not_there_is_listed_on_the_way_to_it() -> None:
    facts = overridden(
        meta_data__elastic_inference__associations__eia_1="{}", meta_data__placement__zone_color="red", other="x"
    )
    assert "elastic-inference/" in at("/latest/meta-data/", facts).split("\n")
    assert at("/latest/meta-data/elastic-inference", facts) == "associations/"
    assert at("/latest/meta-data/elastic-inference/associations/", facts) == "eia-1"
    assert "zone-color" in at("/latest/meta-data/placement", facts).split("\n")
    assert at("/latest", facts) == "dynamic\nmeta-data\nother"
    listed = list(walk_with_overrides(facts))
    assert "/latest/meta-data/elastic-inference/associations/eia-1" in listed


def walk_with_overrides(facts: Facts) -> list[str]:
    return [path for path in walk(facts, "/latest/meta-data/") if at(path, facts) is not None]


def test_an_override_below_a_public_key_lists_it_once() -> None:
    facts = replace(full(), overrides={"meta-data/public-keys/0/openssh-key": b"ssh-rsa given"})
    assert at("/latest/meta-data/public-keys/", facts) == "0=my-key"
    assert at("/latest/meta-data/public-keys/0/openssh-key", facts) == b"ssh-rsa given"


def test_an_override_of_credentials_is_what_is_served() -> None:
    facts = overridden(meta_data__iam__security_credentials__web="{}")
    assert at("/latest/meta-data/iam/security-credentials/web", facts) == b"{}"
    assert at("/latest/meta-data/iam/security-credentials/", facts) == "web"

"""A scan in which every text that somebody else may choose has been chosen by them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from imdsctl.domain.evidence import Evidence, InstanceEvidence
from imdsctl.domain.observations import (
    Account,
    AccountUnseen,
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
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
ACCOUNT, REFUSING, CLOSED = "987654321098", "876543210987", "765432109876"
PREFIXES = ("i-0abc", "lt-0bcd", "ami-0cde", "fleet-0def", "sfr-0def", "sir-0def", "p-0def")
V1 = MetadataOptions(HttpTokens.OPTIONAL, 1, Switch.ENABLED)
SILENT = MetadataOptions()


def named_scan(name: Callable[[str], str]) -> Scan:
    """`name` makes the name of each kind of thing."""
    said = f"User: arn:aws:sts::{ACCOUNT}:assumed-role/{name('role')}/x is not authorized for {name('resource')}"

    def template(kind: str) -> LaunchSource:
        return LaunchSource(template_name=name(kind), version="7")

    groups = (
        GroupSeen(name("group"), (LaunchSource(template_id="lt-0bcd1111", version="3"),), ("i-0abc1111",)),
        GroupSeen(name("group two"), (template("lost template"),)),
        GroupSeen(name("group three"), (LaunchSource(configuration=name("lost configuration")),)),
        GroupSeen(name("group four"), (LaunchSource(image_id=f"resolve:ssm:{name('parameter')}"),)),
    )
    fleets = (
        FleetSeen("fleet-0def1111", FleetKind.EC2_FLEET, "active", (template("lost"),), (("Name", name("fleet")),)),
        FleetSeen("sfr-0def1111", FleetKind.SPOT_FLEET, "active", (LaunchSource(image_id="ami-0cde9999"),)),
        FleetSeen("sir-0def1111", FleetKind.SPOT_REQUEST, "active", (LaunchSource(image_id="ami-0cde9999"),)),
    )
    services = tuple(
        ServiceSeen(
            kind,
            f"arn:aws:some:eu-west-1:{ACCOUNT}:thing/{name(f'{kind} {way}')}",
            name(f"{kind} {way}"),
            parent=name("parent"),
            options=V1 if way == "says" else SILENT,
            group_names=(name("lost group"),) if way == "groups" else (),
            sources=(template("lost"),) if way == "sources" else (),
            instance_ids=("i-0abc9999",) if way == "instances" else (),
            tags=(("Name", name("service tag")),),
        )
        for kind in ServiceKind
        for way in ("says", "groups", "sources", "instances", "nothing")
    )
    instances = (
        InstanceSeen("i-0abc1111", "running", V1, tags=(("Name", name("tag")), ("team", name("other tag")))),
        InstanceSeen("i-0abc2222", "running", V1, tags=(("aws:autoscaling:groupName", name("group")),)),
        InstanceSeen("i-0abc3333", "running", V1, tags=(("aws:cloudformation:stack-name", name("stack")),)),
        InstanceSeen("i-0abc4444", "running", V1, tags=(("eks:cluster-name", name("cluster")),)),
        InstanceSeen("i-0abc5555", "running", V1, launch_template_id="lt-0bcd1111", launch_template_version="3"),
        InstanceSeen("i-0abc6666", "running", SILENT, managed_by=name("operator")),
    )
    unseen = tuple(
        Unseen(what, said, "AccessDenied")
        for what in (
            "images",
            "template tags",
            "template versions in use",
            "instance i-0abc7777",
            "template lt-0bcd7777:3",
            f"launch configuration {name('broken configuration')}",
        )
    )
    return Scan(
        "s1",
        NOON,
        NOON,
        (
            Account(ACCOUNT, name("account"), ou_path=f"Root/{name('unit')}"),
            Account(REFUSING, name("account two"), ou_path=f"Root/{name('unit')}/{name('unit two')}"),
            Account(CLOSED, name("account three"), "SUSPENDED"),
        ),
        (
            RegionSeen(
                Target(ACCOUNT, "eu-west-1"),
                AccountDefaults(),
                instances=instances,
                templates=(
                    TemplateVersionSeen("lt-0bcd1111", name("template"), 3, True, True, SILENT, "ami-0cde9999"),
                    TemplateVersionSeen("lt-0bcd2222", name("template two"), 1, True, True, V1),
                ),
                images=(ImageSeen("ami-0cde1111", name("image"), owned=True),),
                configurations=(
                    ConfigurationSeen(name("configuration"), SILENT, "ami-0cde9999", in_use=True),
                    ConfigurationSeen(name("configuration two"), V1),
                ),
                groups=groups,
                fleets=fleets,
                services=services,
                unseen=unseen,
            ),
            RegionSeen(
                Target(ACCOUNT, "us-east-1"),
                groups=(GroupSeen(name("group five"), (LaunchSource(image_id="ami-0cde9999"),)),),
                unseen=(Unseen("defaults", said, "AccessDenied"),),
            ),
        ),
        (
            AccountUnseen(REFUSING, None, Unseen("account", f"the role {name('role')}: {said}", "AccessDenied")),
            AccountUnseen(REFUSING, None, Unseen("policy p-0def1111", said, "AccessDenied")),
            AccountUnseen(CLOSED, None, Unseen("account", "it is SUSPENDED", "AccountNotActive")),
        ),
        (("ou", name("unit")), ("accounts", name("account"))),
    )


def named_evidence(name: Callable[[str], str]) -> Evidence:
    """Evidence for some of its instances: used, unused, and refused in AWS's words."""
    home = Target(ACCOUNT, "eu-west-1")
    refused = f"denied to arn:aws:iam::{ACCOUNT}:role/{name('role')} at {name('host')}"
    found = (
        InstanceEvidence(home, "i-0abc1111", no_token=5.0, last_used=NOON),
        InstanceEvidence(home, "i-0abc2222", no_token=0.0),
        InstanceEvidence(home, "i-0abc3333", reason=refused),
    )
    return Evidence("s1", NOON, timedelta(days=14), {(home, each.instance_id): each for each in found})


def ids_in(text: str) -> list[str]:
    """The ids of the scan in a text, each a prefix and a digit four times: a pseudonym may begin like one."""
    known = rf"{ACCOUNT}|{REFUSING}|{CLOSED}|(?:{'|'.join(PREFIXES)})(\d)\1\1\1"
    return [found[0] for found in re.finditer(known, text)]

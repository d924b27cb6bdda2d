"""A source that holds what it is given, and a plausible instance: for a metadata service without a local AWS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b

from imdsctl.domain.options import HttpTokens, MetadataOptions, Switch
from imdsctl.imds.facts import Facts, NetworkInterface, RoleCredentials

LIVES = timedelta(hours=6)
RENEWED = timedelta(hours=1)

DEFAULT_OPTIONS = MetadataOptions(HttpTokens.OPTIONAL, 1, Switch.ENABLED, Switch.ENABLED, Switch.DISABLED)
"""AWS's own defaults, but with the IPv6 endpoint: whoever serves alone says at which addresses."""

Issue = Callable[[str, str, float], RoleCredentials]
"""(role, delivery, now) to credentials."""


@dataclass(slots=True)
class FixedSource:
    """What one service serves. Its fields may be set anew at any time; the next request sees it."""

    options: MetadataOptions
    instance: Facts
    issue: Issue

    def facts(self, now: float) -> Facts:
        """The instance."""
        return self.instance

    def role_credentials(self, delivery: str, now: float) -> RoleCredentials:
        """Credentials of the facts' role."""
        assert self.instance.role is not None
        return self.issue(self.instance.role, delivery, now)

    def identity_credentials(self, delivery: str, now: float) -> RoleCredentials:
        """Credentials of the instance identity role."""
        return self.issue("ec2-instance", delivery, now)


def example_credentials(role: str, delivery: str, now: float) -> RoleCredentials:
    """Credentials that no AWS takes, and that say so: well-formed, made from role, delivery and the hour."""
    renewed = int(RENEWED.total_seconds())
    return _example_credentials(role, delivery, int(now) // renewed * renewed)


@lru_cache(maxsize=16)
def _example_credentials(role: str, delivery: str, at: int) -> RoleCredentials:
    updated = datetime.fromtimestamp(at, UTC)
    drawn = blake2b(f"{role}/{delivery}/{updated:%Y%m%d%H}".encode(), digest_size=32).hexdigest()
    version = delivery.partition(".")[0]
    return RoleCredentials(
        updated=updated,
        access_key_id=f"ASIAEXAMPLEV{version}{_base32(drawn, 7)}",
        secret_access_key=f"EXAMPLE/{drawn[:32]}",
        session_token=f"EXAMPLE//imdsctl//{role}//v{version}//{drawn}",
        expires=updated + LIVES,
    )


def example_facts(
    *,
    region: str = "us-east-1",
    role: str | None = None,
    launched: datetime = datetime(2026, 3, 1, 8, 0, tzinfo=UTC),
    name: str = "example",
    instance_id: str | None = None,
) -> Facts:
    """An instance such as EC2 has many, with a role's instance profile if a `role` is named; `name` picks another."""
    drawn = blake2b(f"instance/{name}".encode(), digest_size=32).hexdigest()
    account_id = "111122223333"
    partition, domain = _partition(region)
    address = "10.0.31.7"
    hostname = "ip-10-0-31-7.ec2.internal" if region == "us-east-1" else f"ip-10-0-31-7.{region}.compute.internal"
    return Facts(
        account_id=account_id,
        region=region,
        availability_zone=f"{region}a",
        availability_zone_id=f"{_zone_prefix(region)}-az1",
        instance_id=instance_id or f"i-{drawn[:17]}",
        instance_type="m5.large",
        image_id=f"ami-{drawn[17:34]}",
        architecture="x86_64",
        reservation_id=f"r-{drawn[34:51]}",
        launch_index=0,
        pending_time=launched,
        interfaces=(
            NetworkInterface(
                mac=f"06:{drawn[0:2]}:{drawn[2:4]}:{drawn[4:6]}:{drawn[6:8]}:{drawn[8:10]}",
                interface_id=f"eni-{drawn[20:37]}",
                device_number=0,
                owner_id=account_id,
                private_ipv4s=(address,),
                subnet_id=f"subnet-{drawn[30:47]}",
                subnet_ipv4_cidr="10.0.16.0/20",
                vpc_id=f"vpc-{drawn[40:57]}",
                vpc_ipv4_cidrs=("10.0.0.0/16",),
                security_groups=((f"sg-{drawn[45:62]}", "default"),),
                local_hostname=hostname,
            ),
        ),
        block_devices=(("ami", "/dev/xvda"), ("root", "/dev/xvda")),
        security_groups=("default",),
        profile_arn=None if role is None else f"arn:{partition}:iam::{account_id}:instance-profile/{role}",
        profile_id=None if role is None else f"AIPAEXAMPLE{_base32(drawn, 10)}",
        role=role,
        partition=partition,
        domain=domain,
    )


def _partition(region: str) -> tuple[str, str]:
    """The partition of a Region and its domain, as `services/` shows them."""
    if region.startswith("cn-"):
        return "aws-cn", "amazonaws.com.cn"
    return ("aws-us-gov" if region.startswith("us-gov-") else "aws"), "amazonaws.com"


def _zone_prefix(region: str) -> str:
    """`use1` of `us-east-1`, as Availability Zone ids begin."""
    area, direction, number = region.replace("us-gov", "usg").rsplit("-", 2)
    short = {"southeast": "se", "northeast": "ne", "southwest": "sw", "northwest": "nw", "central": "c"}
    return area + short.get(direction, direction[:1]) + number


def _base32(hexadecimal: str, count: int) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    return "".join(letters[int(hexadecimal[index : index + 2], 16) % 32] for index in range(0, 2 * count, 2))

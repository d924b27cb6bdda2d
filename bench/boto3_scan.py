"""The peer of `imdsctl scan`: what a careful practitioner writes with boto3, reading the same things.

One thread per account, 20 at a time; per account one role session, per Region one client; paginators everywhere. An
account's session is dropped as soon as the account is done, which is kinder to memory than the usual dictionary of
sessions. Prints one line of JSON: what it counted, and how many calls that took.

    AWS_ENDPOINT_URL=... AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... python bench/boto3_scan.py
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

THREADS = 20
ROLE = "OrganizationAccountAccessRole"
HOME_REGION = os.environ.get("AWS_REGION", "us-east-1")
CONFIG = Config(retries={"mode": "standard", "max_attempts": 5})


class Tally(Counter[str]):
    """Counts from many threads."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def add(self, **amounts: int) -> None:
        with self._lock:
            self.update(amounts)


def counting(tally: Tally, client: Any) -> Any:
    """The same client; every HTTP request it sends is counted, retries too."""
    client.meta.events.register("before-send.*", lambda **_: tally.add(calls=1))
    return client


def scan_region(tally: Tally, session: boto3.Session, region: str) -> None:
    ec2 = counting(tally, session.client("ec2", region_name=region, config=CONFIG))
    defaults = ec2.get_instance_metadata_defaults().get("AccountLevel", {})
    tally.add(regions=1, regions_requiring_v2=int(defaults.get("HttpTokens") == "required"))
    for page in ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 1000}):
        for reservation in page["Reservations"]:
            for instance in reservation["Instances"]:
                if instance["State"]["Name"] in ("shutting-down", "terminated"):
                    continue
                optional = instance.get("MetadataOptions", {}).get("HttpTokens") == "optional"
                tally.add(instances=1, instances_optional=int(optional))
    pages = ec2.get_paginator("describe_launch_template_versions")
    versions = set()  # $Default and $Latest may be one
    for page in pages.paginate(Versions=["$Default", "$Latest"], PaginationConfig={"PageSize": 200}):
        for version in page["LaunchTemplateVersions"]:
            versions.add((version["LaunchTemplateId"], version["VersionNumber"]))
    tally.add(template_versions=len(versions))
    for page in ec2.get_paginator("describe_images").paginate(Owners=["self"]):
        v2 = sum(image.get("ImdsSupport") == "v2.0" for image in page["Images"])
        tally.add(images=len(page["Images"]), images_v2=v2)


def scan_account(tally: Tally, own: dict[str, str], account_id: str) -> None:
    if account_id == own["account_id"]:
        session = boto3.Session(region_name=HOME_REGION)
    else:
        # A boto3 session is not thread-safe, so each thread makes its own.
        sts = counting(tally, boto3.Session().client("sts", region_name=HOME_REGION, config=CONFIG))
        role = f"arn:aws:iam::{account_id}:role/{ROLE}"
        try:
            given = sts.assume_role(RoleArn=role, RoleSessionName="boto3-scan")["Credentials"]
        except ClientError:
            tally.add(accounts_unreachable=1)
            return
        session = boto3.Session(
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
            region_name=HOME_REGION,
        )
    ec2 = counting(tally, session.client("ec2", region_name=HOME_REGION, config=CONFIG))
    for region in ec2.describe_regions()["Regions"]:
        try:
            scan_region(tally, session, region["RegionName"])
        except ClientError:
            tally.add(regions_unreadable=1)


def main() -> None:
    tally = Tally()
    session = boto3.Session(region_name=HOME_REGION)
    identity = counting(tally, session.client("sts", config=CONFIG)).get_caller_identity()
    own = {"account_id": identity["Account"]}
    organizations = counting(tally, session.client("organizations", config=CONFIG))
    accounts = [
        account["Id"]
        for page in organizations.get_paginator("list_accounts").paginate()
        for account in page["Accounts"]
        if account["State"] == "ACTIVE"
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(scan_account, tally, own, account_id) for account_id in accounts]:
            done.result()
    print(json.dumps(tally, sort_keys=True))


if __name__ == "__main__":
    main()

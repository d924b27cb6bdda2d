"""The peers of `imdsctl scan`: what practitioners write with boto3 and botocore, reading the same things.

`naive`: one thread per account, 20 at a time; per account one role session, per Region its clients; paginators
everywhere. An account's session is dropped as soon as the account is done, which is kinder to memory than the usual
dictionary of sessions.

`shared`: one botocore client per service and Region for all accounts, whose credentials are exchanged before each
account; one thread per Region.

Prints one line of JSON: what it counted, and how many calls that took.

    AWS_ENDPOINT_URL=... AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... python bench/boto3_scan.py [naive|shared]
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

THREADS = 20
ROLE = "OrganizationAccountAccessRole"
HOME_REGION = os.environ.get("AWS_REGION", "us-east-1")
CONFIG = Config(retries={"mode": "standard", "max_attempts": 5})
ALIVE = ["pending", "running", "stopping", "stopped"]


class Tally(Counter[str]):
    """Counts from many threads."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def add(self, **amounts: int) -> None:
        with self._lock:
            self.update(amounts)


class PublicImages:
    """Images that are known to be public, and so need not be asked for again in another account."""

    def __init__(self) -> None:
        self.known: defaultdict[str, set[str]] = defaultdict(set)


def counting(tally: Tally, client: Any) -> Any:
    """The same client; every HTTP request it sends is counted, retries too."""
    client.meta.events.register("before-send.*", lambda **_: tally.add(calls=1))
    return client


def pages(client: Any, operation: str, size: int, **params: Any) -> Any:
    return client.get_paginator(operation).paginate(**params, PaginationConfig={"PageSize": size})


def named_templates(groups: list[dict[str, Any]], fleets: list[dict[str, Any]]) -> Any:
    """The template specifications that groups and fleets launch from, and the images that they name themselves."""
    for group in groups:
        yield group.get("LaunchTemplate"), None
        policy = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
        yield policy.get("LaunchTemplateSpecification"), None
        for override in policy.get("Overrides", ()):
            yield override.get("LaunchTemplateSpecification"), override.get("ImageId")
    for fleet in fleets:
        for config in fleet.get("LaunchTemplateConfigs", ()):
            yield config.get("LaunchTemplateSpecification"), None
            for override in config.get("Overrides", ()):
                yield None, override.get("ImageId")


def scan_region(tally: Tally, ec2: Any, autoscaling: Any, public: PublicImages) -> None:
    region = ec2.meta.region_name
    images: set[str] = set()
    used: defaultdict[str, set[str]] = defaultdict(set)
    defaults = ec2.get_instance_metadata_defaults().get("AccountLevel", {})
    tally.add(regions=1, regions_requiring_v2=int(defaults.get("HttpTokens") == "required"))
    alive = [{"Name": "instance-state-name", "Values": ALIVE}]
    for page in pages(ec2, "describe_instances", 1000, Filters=alive, IncludeManagedResources=True):
        for reservation in page["Reservations"]:
            for instance in reservation["Instances"]:
                optional = instance.get("MetadataOptions", {}).get("HttpTokens") == "optional"
                tally.add(instances=1, instances_optional=int(optional))
                images.add(instance["ImageId"])
                tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())}
                if "aws:ec2launchtemplate:id" in tags:
                    used[tags["aws:ec2launchtemplate:id"]].add(tags["aws:ec2launchtemplate:version"])
    for page in pages(autoscaling, "describe_launch_configurations", 100):
        for configuration in page["LaunchConfigurations"]:
            tally.add(configurations=1)
            images.add(configuration["ImageId"])
    groups = [
        each for page in pages(autoscaling, "describe_auto_scaling_groups", 100) for each in page["AutoScalingGroups"]
    ]
    running = [{"Name": "fleet-state", "Values": ["submitted", "active", "modifying"]}]
    fleets = [each for page in pages(ec2, "describe_fleets", 1000, Filters=running) for each in page["Fleets"]]
    for page in pages(ec2, "describe_spot_fleet_requests", 1000):
        for request in page["SpotFleetRequestConfigs"]:
            tally.add(fleets=1)
            config = request["SpotFleetRequestConfig"]
            images.update(each["ImageId"] for each in config.get("LaunchSpecifications", ()) if "ImageId" in each)
    states = [{"Name": "state", "Values": ["open", "active", "disabled"]}]
    for page in pages(ec2, "describe_spot_instance_requests", 1000, Filters=states):
        for request in page["SpotInstanceRequests"]:
            tally.add(fleets=1)
            images.add(request["LaunchSpecification"]["ImageId"])
    tally.add(groups=len(groups), fleets=len(fleets))
    for specification, image in named_templates(groups, fleets):
        if specification and specification.get("Version", "$Default").isdecimal():
            used[specification["LaunchTemplateId"]].add(specification["Version"])
        if image:
            images.add(image)
    versions = set()  # $Default and $Latest may be one
    for page in pages(ec2, "describe_launch_template_versions", 200, Versions=["$Default", "$Latest"]):
        for version in page["LaunchTemplateVersions"]:
            versions.add((version["LaunchTemplateId"], version["VersionNumber"]))
            images.add(version["LaunchTemplateData"].get("ImageId", ""))
    tally.add(template_versions=len(versions))
    for template_id in {each for each, _ in versions}:
        missing = [each for each in used[template_id] if (template_id, int(each)) not in versions]
        if missing:
            asked = {"LaunchTemplateId": template_id, "Versions": missing}
            for page in pages(ec2, "describe_launch_template_versions", 200, **asked):
                images.update(each["LaunchTemplateData"].get("ImageId", "") for each in page["LaunchTemplateVersions"])
    if versions:
        for page in pages(ec2, "describe_launch_templates", 200):
            page["LaunchTemplates"]  # their tags
    own = set()
    for page in pages(ec2, "describe_images", 1000, Owners=["self"], IncludeDisabled=True, IncludeDeprecated=True):
        v2 = sum(image.get("ImdsSupport") == "v2.0" for image in page["Images"])
        own |= {image["ImageId"] for image in page["Images"]}
        tally.add(images=len(page["Images"]), images_v2=v2)
    wanted = sorted({each for each in images if each.startswith("ami-")} - own - public.known[region])
    if wanted:
        named = [{"Name": "image-id", "Values": wanted}]
        for page in pages(ec2, "describe_images", 1000, Filters=named, IncludeDisabled=True, IncludeDeprecated=True):
            public.known[region] |= {image["ImageId"] for image in page["Images"] if image["Public"]}


def given_by_role(tally: Tally, sts: Any, account_id: str) -> dict[str, Any] | None:
    try:
        role = f"arn:aws:iam::{account_id}:role/{ROLE}"
        credentials: dict[str, Any] = sts.assume_role(RoleArn=role, RoleSessionName="boto3-scan")["Credentials"]
        return credentials
    except ClientError:
        tally.add(accounts_unreachable=1)
        return None


def scan_account(tally: Tally, own: str, account_id: str, public: PublicImages) -> None:
    if account_id == own:
        session = boto3.Session(region_name=HOME_REGION)
    else:
        # A boto3 session is not thread-safe, so each thread makes its own.
        sts = counting(tally, boto3.Session().client("sts", region_name=HOME_REGION, config=CONFIG))
        given = given_by_role(tally, sts, account_id)
        if given is None:
            return
        session = boto3.Session(
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
            region_name=HOME_REGION,
        )
    for region in counting(tally, session.client("ec2", config=CONFIG)).describe_regions()["Regions"]:
        ec2, autoscaling = (
            counting(tally, session.client(name, region_name=region["RegionName"], config=CONFIG))
            for name in ("ec2", "autoscaling")
        )
        try:
            scan_region(tally, ec2, autoscaling, public)
        except ClientError:
            tally.add(regions_unreadable=1)


def scan_naively(tally: Tally, accounts: list[str], own: str) -> None:
    public = PublicImages()
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(scan_account, tally, own, account_id, public) for account_id in accounts]:
            done.result()


def scan_with_shared_clients(tally: Tally, accounts: list[str], own: str) -> None:
    session = botocore.session.get_session()
    public = PublicImages()

    def client(name: str, region: str) -> Any:
        return counting(tally, session.create_client(name, region_name=region, config=CONFIG))

    sts, home = client("sts", HOME_REGION), client("ec2", HOME_REGION)
    mine = session.get_credentials()
    keys: dict[str, Any] = {}
    regions: dict[str, list[str]] = {}
    for account_id in accounts:
        given = None if account_id == own else given_by_role(tally, sts, account_id)
        if given is None and account_id != own:
            continue
        keys[account_id] = (
            mine
            if given is None
            else Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
        )
        home._request_signer._credentials = keys[account_id]
        regions[account_id] = [each["RegionName"] for each in home.describe_regions()["Regions"]]
    names = sorted({name for each in regions.values() for name in each})
    clients = {name: (client("ec2", name), client("autoscaling", name)) for name in names}

    def scan_everywhere(region: str) -> None:
        for account_id in keys:
            if region not in regions[account_id]:
                continue
            for each in clients[region]:
                each._request_signer._credentials = keys[account_id]
            try:
                ec2, autoscaling = clients[region]
                scan_region(tally, ec2, autoscaling, public)
            except ClientError:
                tally.add(regions_unreadable=1)

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(scan_everywhere, region) for region in names]:
            done.result()


def main() -> None:
    tally = Tally()
    session = boto3.Session(region_name=HOME_REGION)
    own = counting(tally, session.client("sts", config=CONFIG)).get_caller_identity()["Account"]
    organizations = counting(tally, session.client("organizations", config=CONFIG))
    accounts = [
        account["Id"]
        for page in organizations.get_paginator("list_accounts").paginate()
        for account in page["Accounts"]
        if account["State"] == "ACTIVE"
    ]
    ways = {"naive": scan_naively, "shared": scan_with_shared_clients}
    ways[sys.argv[1] if len(sys.argv) > 1 else "naive"](tally, accounts, own)
    print(json.dumps(tally, sort_keys=True))


if __name__ == "__main__":
    main()

"""The peer of `imdsctl scan; imdsctl evidence`: the same question, as a careful practitioner asks it with boto3.

Which instances allow IMDSv1, and how often was it used in 14 days? GetMetricData with 500 metrics a call, in every
Region of every account; threads, sessions and clients as in bench/boto3_scan.py. Prints one line of JSON.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.exceptions import ClientError

from boto3_scan import CONFIG, HOME_REGION, ROLE, THREADS, Tally, counting

PERIOD = 43_200
QUERIES = 500


def ask_region(tally: Tally, session: boto3.Session, region: str) -> None:
    ec2 = counting(tally, session.client("ec2", region_name=region, config=CONFIG))
    instances = [
        instance["InstanceId"]
        for page in ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 1000})
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
        if instance["State"]["Name"] not in ("shutting-down", "terminated")
        and instance["MetadataOptions"]["HttpTokens"] == "optional"
        and instance["MetadataOptions"]["HttpEndpoint"] == "enabled"
    ]
    tally.add(regions=1, instances=len(instances))
    if not instances:
        return
    cloudwatch = counting(tally, session.client("cloudwatch", region_name=region, config=CONFIG))
    pages = cloudwatch.get_paginator("get_metric_data")
    end = datetime.now(UTC)
    for at in range(0, len(instances), QUERIES):
        queries = [query(number, each) for number, each in enumerate(instances[at : at + QUERIES])]
        sums: dict[str, float] = {}
        for page in pages.paginate(MetricDataQueries=queries, StartTime=end - timedelta(days=14), EndTime=end):
            for result in page["MetricDataResults"]:
                if result["Values"]:
                    sums[result["Id"]] = sums.get(result["Id"], 0.0) + sum(result["Values"])
        tally.add(known=len(sums), used=sum(value > 0 for value in sums.values()))


def query(number: int, instance_id: str) -> dict[str, Any]:
    metric = {
        "Namespace": "AWS/EC2",
        "MetricName": "MetadataNoToken",
        "Dimensions": [{"Name": "InstanceId", "Value": instance_id}],
    }
    return {"Id": f"m{number}", "MetricStat": {"Metric": metric, "Period": PERIOD, "Stat": "Sum"}}


def ask_account(tally: Tally, own: str, account_id: str) -> None:
    session = boto3.Session(region_name=HOME_REGION)
    if account_id != own:
        sts = counting(tally, session.client("sts", region_name=HOME_REGION, config=CONFIG))
        role = f"arn:aws:iam::{account_id}:role/{ROLE}"
        try:
            given = sts.assume_role(RoleArn=role, RoleSessionName="boto3-evidence")["Credentials"]
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
        ask_region(tally, session, region["RegionName"])


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
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(ask_account, tally, own, account_id) for account_id in accounts]:
            done.result()
    print(json.dumps(tally, sort_keys=True))


if __name__ == "__main__":
    main()

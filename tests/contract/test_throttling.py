"""A client that asks for too much, with boto3 as the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

ONCE = Config(retries={"total_max_attempts": 1})


def client(shell: Any) -> Any:
    session = boto3.Session(
        aws_access_key_id=shell.env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=shell.env["AWS_SECRET_ACCESS_KEY"],
        region_name="eu-west-1",
    )
    return session.client("ec2", endpoint_url=shell.env["AWS_ENDPOINT_URL"], config=ONCE)


def launch(ec2: Any, count: int) -> int:
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    answer = ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=count, MaxCount=count)
    return len(answer["Instances"])


# A bucket of 1,000 instances fills by 2 a second: however slow the machine, it is not full again within these tests.
def test_launching_more_than_the_bucket_holds_is_refused_and_changes_nothing(start_local: Callable[..., Any]) -> None:
    ec2 = client(start_local("--throttle", "writes", "--accounts", "1", "--instances", "0"))
    assert launch(ec2, 900) == 900
    with pytest.raises(ClientError) as refused:
        launch(ec2, 900)
    assert refused.value.response["Error"] == {"Code": "RequestLimitExceeded", "Message": "Request limit exceeded."}
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    pages = ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 1000})
    assert sum(len(each["Instances"]) for page in pages for each in page["Reservations"]) == 900


def test_no_throttle_lifts_it(start_local: Callable[..., Any]) -> None:
    ec2 = client(start_local("--no-throttle", "--accounts", "1", "--instances", "0"))
    assert launch(ec2, 900) + launch(ec2, 900) == 1800

"""Visits every Region of every account of a local AWS, so that its fleet is there, or reads the whole of it.

Run as a process of its own: reads one JSON object on stdin (`read`: describe every instance, or only touch the
Regions), prints one on stdout. Credentials and endpoint are those of the environment.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from imdsctl.wire.sigv4 import sign

VERSION = "2016-11-15"
CONTENT_TYPE = "application/x-www-form-urlencoded; charset=utf-8"
PAGE = "1000"
_NEXT = re.compile(rb"<nextToken>([^<]+)</nextToken>")


@dataclass(frozen=True, slots=True)
class Account:
    """Whose Regions are visited, with credentials that may read there."""

    id: str
    access_key: str
    secret_key: str
    token: str | None


class Client:
    """EC2 over one connection, whatever the account and the Region."""

    def __init__(self, endpoint: str) -> None:
        self._host = urlsplit(endpoint).netloc
        self._connection = http.client.HTTPConnection(self._host, timeout=120)

    def ask(self, account: Account, region: str, **params: str) -> bytes:
        """The body of a call's answer. Raises RuntimeError for a refusal."""
        body = urlencode({"Version": VERSION, **params}).encode()
        headers = {"host": self._host, "content-type": CONTENT_TYPE}
        headers |= sign(
            "POST",
            "/",
            "",
            headers,
            body,
            access_key=account.access_key,
            secret_key=account.secret_key,
            token=account.token,
            region=region,
            service="ec2",
            amz_date=datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"),
        )
        self._connection.request("POST", "/", body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{params['Action']} in {region}: {answer.status} {text[:300]!r}")
        return text

    def pages(self, account: Account, region: str) -> Iterator[bytes]:
        """DescribeInstances, to the end."""
        more: dict[str, str] = {}
        while True:
            page = self.ask(account, region, Action="DescribeInstances", MaxResults=PAGE, **more)
            yield page
            token = _NEXT.search(page)
            if token is None:
                return
            more = {"NextToken": token[1].decode()}


def accounts(env: dict[str, str]) -> Iterator[Account]:
    """Every account of the organization that lets its administrator in."""
    import boto3
    from botocore.exceptions import ClientError

    session = boto3.Session(region_name=env["AWS_REGION"])
    sts = session.client("sts")
    own = sts.get_caller_identity()["Account"]
    yield Account(own, env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN"))
    for page in session.client("organizations").get_paginator("list_accounts").paginate():
        for account in page["Accounts"]:
            if account["Id"] == own:
                continue
            role = f"arn:aws:iam::{account['Id']}:role/OrganizationAccountAccessRole"
            try:
                keys = sts.assume_role(RoleArn=role, RoleSessionName="bench")["Credentials"]
            except ClientError:
                continue  # one was invited and has no such role, one is suspended
            yield Account(account["Id"], keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])


def main() -> int:
    """The process: a job on stdin, what it saw on stdout."""
    job: dict[str, Any] = json.load(sys.stdin)
    env = dict(os.environ)
    client = Client(env["AWS_ENDPOINT_URL"])
    seen = {"accounts": 0, "regions": 0, "instances": 0}
    for account in accounts(env):
        seen["accounts"] += 1
        for region in job["regions"]:
            seen["regions"] += 1
            if job["read"]:
                seen["instances"] += sum(page.count(b"<instanceId>") for page in client.pages(account, region))
            else:
                client.ask(account, region, Action="GetInstanceMetadataDefaults")
    print(json.dumps(seen))
    return 0


if __name__ == "__main__":
    sys.exit(main())

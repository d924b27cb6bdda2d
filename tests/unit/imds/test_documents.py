"""The documents' form: clients parse them, and some people read them with grep."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from imdsctl.imds.documents import credentials_document, identity_document, identity_info_document, timestamp
from imdsctl.imds.facts import RoleCredentials
from imdsctl.imds.fixed import example_facts

UPDATED = datetime(2026, 3, 3, 10, 0, tzinfo=UTC)
GIVEN = RoleCredentials(UPDATED, "ASIAEXAMPLE", "secret", "session", UPDATED + timedelta(hours=6))


def test_credentials_as_the_guide_shows_them() -> None:
    assert credentials_document(GIVEN) == (
        "{\n"
        '  "Code" : "Success",\n'
        '  "LastUpdated" : "2026-03-03T10:00:00Z",\n'
        '  "Type" : "AWS-HMAC",\n'
        '  "AccessKeyId" : "ASIAEXAMPLE",\n'
        '  "SecretAccessKey" : "secret",\n'
        '  "Token" : "session",\n'
        '  "Expiration" : "2026-03-03T16:00:00Z"\n'
        "}"
    )


def test_a_role_that_does_not_trust_ec2_has_a_code_and_no_keys() -> None:
    refused = RoleCredentials(
        UPDATED, problem="AssumeRoleUnauthorizedAccess", message="EC2 cannot assume the role web."
    )
    assert json.loads(credentials_document(refused)) == {
        "Code": "AssumeRoleUnauthorizedAccess",
        "Message": "EC2 cannot assume the role web.",
        "LastUpdated": "2026-03-03T10:00:00Z",
    }


def test_times_are_in_utc_whatever_zone_they_come_in() -> None:
    elsewhere = UPDATED.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert timestamp(elsewhere) == "2026-03-03T10:00:00Z"


def test_what_an_instance_does_not_have_is_null_in_its_identity_document() -> None:
    plain = json.loads(identity_document(replace(example_facts(), interfaces=())))
    nulls = {name for name, value in plain.items() if value is None}
    assert nulls == {
        *("billingProducts", "devpayProductCodes", "kernelId", "marketplaceProductCodes", "privateIp", "ramdiskId"),
    }
    paid = replace(example_facts(), billing_products=("bp-1",), product_codes=("code",))
    document = json.loads(identity_document(paid))
    assert (document["billingProducts"], document["marketplaceProductCodes"]) == (["bp-1"], ["code"])


def test_the_identity_role_names_the_account() -> None:
    assert json.loads(identity_info_document(example_facts()))["AccountId"] == "111122223333"

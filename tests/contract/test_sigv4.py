"""botocore signs, we must agree to the last hex digit; and the other way round."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from imdsctl.wire import sigv4
from imdsctl.wire.errors import ServiceError

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
AMZ_DATE = "20260304T050607Z"

TEXT = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=12)
HEADER_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
KEYS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/", min_size=1, max_size=40)
PATHS = st.lists(st.one_of(TEXT, st.sampled_from(["", ".", ".."])), max_size=4).map(
    lambda segments: "/" + "/".join(quote(segment, safe="~") for segment in segments)
)
QUERIES = st.dictionaries(TEXT.filter(bool), TEXT, max_size=5)
REQUESTS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST", "PUT"]),
        "path": PATHS,
        "query": QUERIES.map(
            lambda pairs: "&".join(f"{quote(n, safe='-_.~')}={quote(v, safe='-_.~')}" for n, v in pairs.items())
        ),
        "headers": st.dictionaries(
            st.sampled_from(["content-type", "x-amz-target", "x-custom", "user-agent", "expect", "content-length"]),
            HEADER_TEXT,
        ),
        "body": st.binary(max_size=50),
        "region": st.sampled_from(["eu-west-1", "us-gov-west-1", "cn-north-1"]),
        "service": st.sampled_from(["ec2", "sts", "organizations"]),
        "access_key": st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=20),
        "secret_key": KEYS,
        "token": st.one_of(st.none(), KEYS),
    }
)


@pytest.fixture(autouse=True)
def _botocore_lives_at_our_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: NOW.replace(tzinfo=None))


def signed_by_botocore(request: dict[str, Any], signer: type = botocore.auth.SigV4Auth) -> AWSRequest:
    url = f"https://ec2.example.com{request['path']}" + (f"?{request['query']}" if request["query"] else "")
    aws = AWSRequest(method=request["method"], url=url, headers=dict(request["headers"]), data=request["body"])
    credentials = Credentials(request["access_key"], request["secret_key"], request["token"])
    signer(credentials, request["service"], request["region"]).add_auth(aws)
    return aws


def arrived(headers: Any) -> dict[str, str]:
    return {"host": "ec2.example.com"} | {name.lower(): value for name, value in headers.items()}


@given(REQUESTS)
@settings(max_examples=200, deadline=None)
def test_we_sign_what_botocore_signs(request: dict[str, Any]) -> None:
    theirs = signed_by_botocore(request)
    headers = {"host": "ec2.example.com"} | request["headers"]
    ours = sigv4.sign(**(request | {"headers": headers}), amz_date=AMZ_DATE)
    assert ours["authorization"] == theirs.headers["Authorization"]
    assert ours["x-amz-date"] == theirs.headers["X-Amz-Date"]
    assert ours.get("x-amz-security-token") == theirs.headers.get("X-Amz-Security-Token")


@given(REQUESTS)
@settings(max_examples=200, deadline=None)
def test_a_request_that_botocore_signed_is_accepted(request: dict[str, Any]) -> None:
    headers = arrived(signed_by_botocore(request).headers)
    claims = sigv4.parse_authorization(headers, request["query"])
    assert (claims.access_key, claims.region, claims.service, claims.token) == (
        request["access_key"],
        request["region"],
        request["service"],
        request["token"],
    )
    sigv4.verify(
        claims, request["method"], request["path"], request["query"], headers, request["body"], request["secret_key"],
        now=NOW,
    )  # fmt: skip


@given(REQUESTS)
@settings(max_examples=200, deadline=None)
def test_a_url_that_botocore_presigned_is_accepted(request: dict[str, Any]) -> None:
    request = request | {"method": "GET", "body": b""}
    theirs = signed_by_botocore(request, botocore.auth.SigV4QueryAuth)
    url = urlsplit(theirs.url)
    headers = arrived(theirs.headers)
    claims = sigv4.parse_authorization(headers, url.query)
    assert claims.presigned
    assert claims.expires_seconds == 3600
    sigv4.verify(claims, "GET", url.path, url.query, headers, b"", request["secret_key"], now=NOW)
    with pytest.raises(ServiceError, match="SignatureDoesNotMatch"):
        sigv4.verify(claims, "GET", url.path, url.query + "&More=1", headers, b"", request["secret_key"], now=NOW)


@given(REQUESTS)
@settings(max_examples=100, deadline=None)
def test_we_presign_what_botocore_presigns(request: dict[str, Any]) -> None:
    request = request | {"method": "GET", "body": b""}
    theirs = urlsplit(signed_by_botocore(request, botocore.auth.SigV4QueryAuth).url).query
    headers = {"host": "ec2.example.com"} | request["headers"]
    ours = sigv4.presign(**(request | {"headers": headers}), amz_date=AMZ_DATE)
    assert sorted(ours.split("&")) == sorted(theirs.split("&"))

"""Signature Version 4 without a peer: the published example, what is refused and with which of AWS's words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from imdsctl.wire import sigv4
from imdsctl.wire.errors import ServiceError

NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HEADERS = {"host": "iam.amazonaws.com", "content-type": "application/x-www-form-urlencoded; charset=utf-8"}
QUERY = "Action=ListUsers&Version=2010-05-08"


def signed(**changes: object) -> dict[str, str]:
    arguments: dict[str, object] = {
        "method": "GET",
        "path": "/",
        "query": QUERY,
        "headers": HEADERS,
        "body": b"",
        "access_key": "AKIDEXAMPLE",
        "secret_key": SECRET,
        "token": None,
        "region": "us-east-1",
        "service": "iam",
        "amz_date": "20150830T123600Z",
    }
    headers: dict[str, str] = dict(HEADERS)
    return headers | sigv4.sign(**(arguments | changes))  # type: ignore[arg-type]


def check(
    headers: dict[str, str], *, body: bytes = b"", path: str = "/", query: str = QUERY, now: datetime = NOW
) -> None:
    claims = sigv4.parse_authorization(headers, query)
    sigv4.verify(claims, "GET", path, query, headers, body, SECRET, now=now)


def test_the_example_that_aws_publishes() -> None:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
    assert signed()["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )
    check(signed())


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("", "/"),
        ("/a//b/../c/", "/a/c/"),
        ("/v1/a%2Fb", "/v1/a%2Fb"),
    ],
)
def test_paths_are_compared_in_normal_form(sent: str, received: str) -> None:
    check(signed(path=sent), path=received)


def test_the_order_of_the_query_and_blanks_in_headers_do_not_matter() -> None:
    headers = signed(query="b=2&a=1&a=0&a-b=3&c")
    check(headers, query="a-b=3&a=0&c=&b=2&a=1")
    check(headers | {"content-type": f"  {HEADERS['content-type'].replace(' ', '   ')} "}, query="b=2&a=1&a=0&a-b=3&c")


@pytest.mark.parametrize(("one", "other"), [("a=x y", "a=x%20y"), ("a=x+y", "a=x%20y"), ("a=b/c", "a=b%2fc")])
def test_a_query_is_compared_as_its_meaning_not_its_spelling(one: str, other: str) -> None:
    check(signed(query=one), query=other)


@pytest.mark.parametrize(
    "change",
    [
        {"body": b"x"},
        {"path": "/other"},
        {"query": QUERY + "&Extra=1"},
    ],
)
def test_a_change_on_the_way_is_noticed(change: dict[str, object]) -> None:
    with pytest.raises(ServiceError) as refusal:
        check(signed(), **change)  # type: ignore[arg-type]
    assert (refusal.value.code, refusal.value.status) == ("SignatureDoesNotMatch", 403)


def test_a_declared_hash_does_not_cover_another_body() -> None:
    headers = signed(body=b"one", payload_hash=None)
    with pytest.raises(ServiceError, match="SignatureDoesNotMatch"):
        check(headers, body=b"two")
    declared = signed(headers=HEADERS | {"x-amz-content-sha256": "0" * 64})
    with pytest.raises(ServiceError, match="SignatureDoesNotMatch"):
        check(declared | {"x-amz-content-sha256": "0" * 64}, body=b"two")


def test_an_unsigned_payload_is_taken_as_declared() -> None:
    headers = signed(body=b"ignored", payload_hash=sigv4.UNSIGNED_PAYLOAD)
    check(headers, body=b"anything")


def test_a_session_token_is_signed_and_reported() -> None:
    headers = signed(token="the/session+token")
    assert sigv4.parse_authorization(headers, "").token == "the/session+token"
    check(headers)
    with pytest.raises(ServiceError, match="SignatureDoesNotMatch"):
        check(headers | {"x-amz-security-token": "another"})


@pytest.mark.parametrize(
    ("away", "words"),
    [(timedelta(minutes=5, seconds=1), "Signature expired"), (-timedelta(minutes=5, seconds=1), "not yet current")],
)
def test_a_signature_lives_five_minutes_each_way(away: timedelta, words: str) -> None:
    check(signed(), now=NOW + away / 2)
    with pytest.raises(ServiceError, match=words):
        check(signed(), now=NOW + away)


def test_a_presigned_url_lives_as_long_as_it_says() -> None:
    query = sigv4.presign(
        "GET", "/", QUERY, {"host": "iam.amazonaws.com"}, b"", access_key="AKIDEXAMPLE", secret_key=SECRET, token="t",
        region="us-east-1", service="iam", amz_date="20150830T123600Z", expires_seconds=60,
    )  # fmt: skip
    headers = {"host": "iam.amazonaws.com"}
    check(headers, query=query, now=NOW + timedelta(seconds=60))
    assert sigv4.parse_authorization(headers, query).token == "t"
    with pytest.raises(ServiceError, match="Signature expired"):
        check(headers, query=query, now=NOW + timedelta(seconds=61))


GOOD = signed()["authorization"]


@pytest.mark.parametrize(
    ("authorization", "code", "words"),
    [
        (None, "MissingAuthenticationToken", "missing Authentication Token"),
        ("", "IncompleteSignature", "algorithm"),
        ("Basic dXNlcjpwYXNz", "IncompleteSignature", "'Basic'"),
        ("AWS4-HMAC-SHA256", "IncompleteSignature", "missing equal-sign"),
        ("AWS4-HMAC-SHA256 Credential=a/b", "IncompleteSignature", "requires 'Signature'"),
        (GOOD.replace("/us-east-1", ""), "IncompleteSignature", "exactly 5"),
        (GOOD.replace("aws4_request", "aws5"), "SignatureDoesNotMatch", "terminator"),
        (GOOD.replace("/20150830/", "/20150829/"), "SignatureDoesNotMatch", "does not match YYYYMMDD"),
        (GOOD.replace(";host", ""), "SignatureDoesNotMatch", "SignedHeader"),
    ],
)
def test_an_authorization_that_cannot_be_right_is_refused(authorization: str | None, code: str, words: str) -> None:
    headers = signed()
    del headers["authorization"]
    if authorization is not None:
        headers["authorization"] = authorization
    with pytest.raises(ServiceError, match=words) as refusal:
        sigv4.parse_authorization(headers, QUERY)
    assert refusal.value.code == code


@pytest.mark.parametrize("date", ["", "yesterday", "2015-08-30T12:36:00Z", "20150830T123600Z\n"])
def test_a_date_must_be_readable(date: str) -> None:
    with pytest.raises(ServiceError, match="IncompleteSignature"):
        sigv4.parse_authorization(signed() | {"x-amz-date": date}, QUERY)


@pytest.mark.parametrize("expires", ["-1", "ten", "604801", "\u00b2", "9" * 5000])
def test_a_presigned_lifetime_must_be_a_number_of_seconds(expires: str) -> None:
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A/20150830/r/s/aws4_request&X-Amz-Date=20150830T123600Z"
        f"&X-Amz-SignedHeaders=host&X-Amz-Signature=00&X-Amz-Expires={expires}"
    )
    with pytest.raises(ServiceError, match="X-Amz-Expires"):
        sigv4.parse_authorization({}, query)


def test_the_date_header_may_stand_in_for_the_amz_date() -> None:
    headers = signed() | {"date": "Sun, 30 Aug 2015 12:36:00 GMT"}
    del headers["x-amz-date"]
    assert sigv4.parse_authorization(headers, QUERY).amz_date == "20150830T123600Z"


def test_signing_keys_are_bounded() -> None:
    keys = sigv4.SigningKeys(size_max=2)
    first = keys.signature(SECRET, "20150830", "us-east-1", "iam", "text")
    for region in ("a", "b", "c"):
        keys.signature(SECRET, "20150830", region, "iam", "text")
    assert len(keys) == 2
    assert keys.signature(SECRET, "20150830", "us-east-1", "iam", "text") == first

"""AWS Signature Version 4, both ends: sign a request, and check one.

The rule is https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv4-create-signed-request.html, in the form
that every service but S3 uses (the path is normalised and encoded once more). Nothing here reads a clock: the caller
gives `amz_date` (`YYYYMMDDTHHMMSSZ`, UTC).

Headers are mappings from lower-case names to values; a header that was sent several times is one value, joined with
`,` in the order of arrival.
"""

from __future__ import annotations

import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from imdsctl.wire.errors import ServiceError

ALGORITHM: Final = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
CLOCK_SKEW_MAX: Final = timedelta(minutes=5)
PRESIGNED_EXPIRES_SECONDS_MAX: Final = 604_800

# Hops on the way rewrite these, so no AWS SDK signs them.
_NEVER_SIGNED: Final = frozenset(
    {
        "authorization",
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amzn-trace-id",
    }
)
_EMPTY_SHA256: Final = sha256(b"").hexdigest()
_TERMINATOR: Final = "aws4_request"
_DATE_HEADER: Final = "x-amz-date"
_TOKEN_HEADER: Final = "x-amz-security-token"
_DATE_TIME: Final = re.compile(r"\d{8}T\d{6}Z")
# A query whose every octet is already in canonical form, so that it need not be decoded and encoded again.
_OCTETS = r"(?:[A-Za-z0-9_.~-]|%[0-9A-F]{2})*"
_CANONICAL_QUERY: Final = re.compile(f"{_OCTETS}(?:={_OCTETS})?(?:&{_OCTETS}(?:={_OCTETS})?)*")


class SigningKeys:
    """Derived signing keys (four HMACs each), kept for reuse; at most `size_max`, the oldest leaves first."""

    __slots__ = ("_keys", "_size_max")

    def __init__(self, size_max: int = 4096) -> None:
        self._keys: OrderedDict[tuple[str, str, str, str], hmac.HMAC] = OrderedDict()
        self._size_max = size_max

    def __len__(self) -> int:
        return len(self._keys)

    def signature(self, secret_key: str, date: str, region: str, service: str, text: str) -> str:
        """The signature of a text with the key for one day (`YYYYMMDD`), Region and service."""
        scope = (secret_key, date, region, service)
        keyed = self._keys.get(scope)
        if keyed is None:
            key = ("AWS4" + secret_key).encode()
            for part in (date, region, service, _TERMINATOR):
                key = hmac.digest(key, part.encode(), "sha256")
            if len(self._keys) >= self._size_max:
                self._keys.popitem(last=False)  # a plain dict would look for its first key among the deleted
            keyed = self._keys[scope] = hmac.new(key, digestmod="sha256")
        signing = keyed.copy()  # to set a key up costs more than to sign with it
        signing.update(text.encode())
        return signing.hexdigest()


_SHARED_KEYS: Final = SigningKeys()


@dataclass(frozen=True, slots=True)
class Authorization:
    """What a request claims about itself: who signed it, for which scope, over which headers. Nothing is proved yet.

    `date` is the scope's day (`YYYYMMDD`), `amz_date` the moment of signing (`YYYYMMDDTHHMMSSZ`);
    `expires_seconds` is only said by a presigned request.
    """

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    amz_date: str
    token: str | None
    presigned: bool
    expires_seconds: int | None = None


def sign(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    access_key: str,
    secret_key: str,
    token: str | None,
    region: str,
    service: str,
    amz_date: str,
    payload_hash: str | None = None,
    keys: SigningKeys = _SHARED_KEYS,
) -> dict[str, str]:
    """The headers that sign this request, to be added to `headers`, which must hold `host`.

    `path` and `query` are as they go on the wire (percent-encoded); `payload_hash` replaces the hash of `body`, as
    in `UNSIGNED-PAYLOAD`. Raises `KeyError` when there is no `host`.
    """
    added = {"x-amz-date": amz_date}
    if token:
        added["x-amz-security-token"] = token
    if payload_hash is not None:
        added["x-amz-content-sha256"] = payload_hash
    else:
        payload_hash = headers.get("x-amz-content-sha256") or _sha256(body)
    headers["host"]  # a signature without the host would fit every host
    signed = {name: value for name, value in headers.items() if name not in _NEVER_SIGNED}
    signed.update(added)
    names = sorted(signed)
    date = amz_date[:8]
    signature = _signature(
        method,
        _canonical_path(path),
        _canonical_query(query),
        "".join([f"{name}:{_trimmed(signed[name])}\n" for name in names]),
        signed_names := ";".join(names),
        payload_hash,
        scope := f"{date}/{region}/{service}/{_TERMINATOR}",
        amz_date,
        partial(keys.signature, secret_key, date, region, service),
    )
    added["authorization"] = (
        f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={signed_names}, Signature={signature}"
    )
    return added


class Prepared:
    """A request but for its time and its signer: what all its signatures have in common is written once.

    The parameters are those of `sign`; `headers` must hold `host`. Raises `KeyError` when there is none.
    """

    __slots__ = ("_after", "_before", "_end", "_middle", "_names", "_scope", "_service_of")

    def __init__(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, *, region: str, service: str
    ) -> None:
        headers["host"]
        lines = {
            name: f"{name}:{_trimmed(value)}\n"
            for name, value in sorted(headers.items())
            if name not in _NEVER_SIGNED and name not in (_DATE_HEADER, _TOKEN_HEADER)
        }
        before = [name for name in lines if name < _DATE_HEADER]
        middle = [name for name in lines if _DATE_HEADER < name < _TOKEN_HEADER]
        after = [name for name in lines if name > _TOKEN_HEADER]
        self._before = (
            f"{method}\n{_canonical_path(path)}\n{_canonical_query(query)}\n"
            + "".join(lines[name] for name in before)
            + f"{_DATE_HEADER}:"
        )
        self._middle = "\n" + "".join(lines[name] for name in middle)
        self._after = "".join(lines[name] for name in after)
        self._names = (
            ";".join([*before, _DATE_HEADER, *middle, *after]),
            ";".join([*before, _DATE_HEADER, *middle, _TOKEN_HEADER, *after]),
        )
        payload_hash = headers.get("x-amz-content-sha256") or _sha256(body)
        self._end = f"\n{payload_hash}"
        self._scope = f"/{region}/{service}/{_TERMINATOR}"
        self._service_of = (region, service)

    def sign(
        self, *, access_key: str, secret_key: str, token: str | None, amz_date: str, keys: SigningKeys = _SHARED_KEYS
    ) -> dict[str, str]:
        """The headers to be added, as `sign` gives them."""
        date = amz_date[:8]
        scope = date + self._scope
        names = self._names[token is not None and token != ""]
        said = f"{_TOKEN_HEADER}:{_trimmed(token)}\n" if token else ""
        canonical = f"{self._before}{amz_date}{self._middle}{said}{self._after}\n{names}{self._end}"
        hashed = sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
        to_sign = f"{ALGORITHM}\n{amz_date}\n{scope}\n{hashed}"
        signature = keys.signature(secret_key, date, *self._service_of, to_sign)
        added = {_DATE_HEADER: amz_date}
        if token:
            added[_TOKEN_HEADER] = token
        added["authorization"] = (
            f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return added


def presign(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    access_key: str,
    secret_key: str,
    token: str | None,
    region: str,
    service: str,
    amz_date: str,
    expires_seconds: int = 3600,
    keys: SigningKeys = _SHARED_KEYS,
) -> str:
    """The whole query string of a presigned request; every header given is signed and must be sent as it is."""
    headers["host"]
    names = sorted(name for name in headers if name not in _NEVER_SIGNED)
    signed_names = ";".join(names)
    date = amz_date[:8]
    scope = f"{date}/{region}/{service}/{_TERMINATOR}"
    claims = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{access_key}/{scope}",
        "X-Amz-Date": amz_date,
        "X-Amz-Expires": str(expires_seconds),
        "X-Amz-SignedHeaders": signed_names,
    }
    if token:
        claims["X-Amz-Security-Token"] = token
    claimed = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in claims.items())
    unsigned = f"{query}&{claimed}" if query else claimed
    signature = _signature(
        method,
        _canonical_path(path),
        _canonical_query(unsigned),
        "".join([f"{name}:{_trimmed(headers[name])}\n" for name in names]),
        signed_names,
        _sha256(body),
        scope,
        amz_date,
        partial(keys.signature, secret_key, date, region, service),
    )
    return f"{unsigned}&X-Amz-Signature={signature}"


def parse_authorization(headers: Mapping[str, str], query: str) -> Authorization:
    """Read the claims of a signed request, from its `authorization` header or from a presigned query.

    Raises `ServiceError`: `MissingAuthenticationToken` (403) when the request is not signed at all,
    `IncompleteSignature` (400) when the claims cannot be read, `SignatureDoesNotMatch` (403) when the scope
    contradicts the date.
    """
    header = headers.get("authorization")
    if header is not None:
        return _from_header(header, headers)
    if "X-Amz-Signature=" in query or "X-Amz-Algorithm=" in query:
        return _from_query(query)
    raise ServiceError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)


def expected_signature(
    authorization: Authorization,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    secret_key: str,
    *,
    keys: SigningKeys = _SHARED_KEYS,
) -> str:
    """The signature (64 hex digits) that the owner of `secret_key` would have put on this request.

    A signed header that did not arrive counts as empty, so its signature does not fit.
    """
    declared = headers.get("x-amz-content-sha256")
    if declared is not None and (declared == UNSIGNED_PAYLOAD or declared.startswith("STREAMING-")):
        payload_hash = declared
    else:  # never the declared hash of a body: it is the body that arrived which must have been signed
        payload_hash = _sha256(body)
    names = authorization.signed_headers
    return _signature(
        method,
        _canonical_path(path),
        _canonical_query(query, without="X-Amz-Signature" if authorization.presigned else None),
        "".join([f"{name}:{_trimmed(headers.get(name, ''))}\n" for name in names]),
        ";".join(names),
        payload_hash,
        f"{authorization.date}/{authorization.region}/{authorization.service}/{_TERMINATOR}",
        authorization.amz_date,
        partial(keys.signature, secret_key, authorization.date, authorization.region, authorization.service),
    )


def verify(
    authorization: Authorization,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    secret_key: str,
    *,
    now: datetime | None = None,
    keys: SigningKeys = _SHARED_KEYS,
) -> None:
    """Return when the signature is right, and current at `now` (aware; None: at any time).

    Raises `ServiceError` `SignatureDoesNotMatch` (403) otherwise. The comparison takes the same time wherever the
    signatures differ.
    """
    expected = expected_signature(authorization, method, path, query, headers, body, secret_key, keys=keys)
    if not hmac.compare_digest(expected.encode(), authorization.signature.encode("utf-8", "replace")):
        raise ServiceError(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details.",
            403,
        )
    if now is not None:
        check_time(authorization, now)


def check_time(authorization: Authorization, now: datetime) -> None:
    """Refuse a signature from more than five minutes away, or a presigned request after its own expiry.

    Raises `ServiceError` `SignatureDoesNotMatch` (403), naming both moments.
    """
    try:
        signed_at = datetime.strptime(authorization.amz_date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise _incomplete(_NOT_ISO_8601.format(authorization.amz_date)) from None
    if authorization.expires_seconds is None:
        lifetime, allowance = CLOCK_SKEW_MAX, " - 5 min."
    else:
        lifetime, allowance = timedelta(seconds=authorization.expires_seconds), f" - {authorization.expires_seconds} s"
    now_text = now.strftime("%Y%m%dT%H%M%SZ")
    if now - signed_at > lifetime:
        earliest = (now - lifetime).strftime("%Y%m%dT%H%M%SZ")
        raise ServiceError(
            "SignatureDoesNotMatch",
            f"Signature expired: {authorization.amz_date} is now earlier than {earliest} ({now_text}{allowance})",
            403,
        )
    if signed_at - now > CLOCK_SKEW_MAX:
        latest = (now + CLOCK_SKEW_MAX).strftime("%Y%m%dT%H%M%SZ")
        raise ServiceError(
            "SignatureDoesNotMatch",
            f"Signature not yet current: {authorization.amz_date} is still later than {latest} ({now_text} + 5 min.)",
            403,
        )


_NOT_ISO_8601: Final = "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601"


def _from_header(header: str, headers: Mapping[str, str]) -> Authorization:
    algorithm, _, rest = header.strip().partition(" ")
    if algorithm != ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': '{algorithm}'")
    claims: dict[str, str] = {}
    for pair in rest.split(","):
        name, equals, value = pair.strip().partition("=")
        if not equals:
            raise _incomplete(
                f"'{pair.strip()}' not a valid key=value pair (missing equal-sign) in Authorization header: '{header}'."
            )
        claims[name] = value
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not claims.get(name)]
    amz_date = headers.get("x-amz-date") or _http_date(headers.get("date"))
    problems = [f"Authorization header requires '{name}' parameter." for name in missing]
    if not amz_date:
        problems.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if problems or not amz_date:
        raise _incomplete(f"{' '.join(problems)} Authorization={header}")
    return _authorization(
        claims["Credential"],
        amz_date,
        claims["SignedHeaders"],
        claims["Signature"],
        headers.get("x-amz-security-token"),
        presigned=False,
    )


def _from_query(query: str) -> Authorization:
    claims = {}
    for pair in query.split("&"):
        if pair.startswith("X-Amz-"):
            name, _, value = pair.partition("=")
            claims[name] = _decoded(value)
    if claims.get("X-Amz-Algorithm") != ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': '{claims.get('X-Amz-Algorithm', '')}'")
    required = ("X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date")
    missing = [name for name in required if not claims.get(name)]
    if missing:
        raise _incomplete(" ".join(f"AWS query-string parameters must include '{name}'." for name in missing))
    # Services other than S3 allow five minutes when the URL does not say how long it is good for.
    expires = claims.get("X-Amz-Expires", "300")
    if not re.fullmatch("[0-9]{1,6}", expires) or int(expires) > PRESIGNED_EXPIRES_SECONDS_MAX:
        raise _incomplete(f"X-Amz-Expires must be a number of seconds up to 604800, got '{expires}'.")
    return _authorization(
        claims["X-Amz-Credential"],
        claims["X-Amz-Date"],
        claims["X-Amz-SignedHeaders"],
        claims["X-Amz-Signature"],
        claims.get("X-Amz-Security-Token"),
        presigned=True,
        expires_seconds=int(expires),
    )


def _authorization(
    credential: str,
    amz_date: str,
    signed_headers: str,
    signature: str,
    token: str | None,
    *,
    presigned: bool,
    expires_seconds: int | None = None,
) -> Authorization:
    parts = credential.split("/")
    if len(parts) != 5:
        raise _incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
            f"got '{credential}'"
        )
    access_key, date, region, service, terminator = parts
    if not _DATE_TIME.fullmatch(amz_date):
        raise _incomplete(_NOT_ISO_8601.format(amz_date))
    if terminator != _TERMINATOR:
        raise _mismatch(f"Credential should be scoped with a valid terminator: 'aws4_request', not '{terminator}'.")
    if date != amz_date[:8]:
        raise _mismatch(
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{date}' != "
            f"'{amz_date[:8]}', from '{amz_date}'."
        )
    names = tuple(signed_headers.lower().split(";"))
    if "host" not in names:
        raise _mismatch("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    return Authorization(
        access_key=access_key,
        date=date,
        region=region,
        service=service,
        signed_headers=names,
        signature=signature,
        amz_date=amz_date,
        token=token,
        presigned=presigned,
        expires_seconds=expires_seconds,
    )


def _signature(
    method: str,
    canonical_path: str,
    canonical_query: str,
    canonical_headers: str,
    signed_names: str,
    payload_hash: str,
    scope: str,
    amz_date: str,
    sign: Callable[[str], str],
) -> str:
    canonical = (
        f"{method}\n{canonical_path}\n{canonical_query}\n{canonical_headers}\n{signed_names}\n{payload_hash}"
    ).encode("utf-8", "surrogateescape")
    return sign(f"{ALGORITHM}\n{amz_date}\n{scope}\n{sha256(canonical).hexdigest()}")


def _sha256(body: bytes) -> str:
    return sha256(body).hexdigest() if body else _EMPTY_SHA256


def _trimmed(value: str) -> str:
    """No blanks at the ends, single ones inside, including around a fold."""
    return " ".join(value.split())


def _canonical_path(path: str) -> str:
    """Dot segments and empty segments go (RFC 3986, 5.2.4); what the wire already encoded is encoded once more."""
    if path in ("", "/"):
        return "/"
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if kept:
                kept.pop()
        elif segment and segment != ".":
            kept.append(segment)
    normal = "/" + "/".join(kept)
    if path.endswith("/") and kept:
        normal += "/"
    return quote(normal, safe="/~")


def _canonical_query(query: str, without: str | None = None) -> str:
    """Every name and value in RFC 3986 encoding, sorted by encoded name, then by value."""
    if not query:
        return ""
    pairs: Iterable[tuple[str, str, str]] = (pair.partition("=") for pair in query.split("&"))
    if _CANONICAL_QUERY.fullmatch(query):
        encoded = [(name, value) for name, _, value in pairs]
    else:
        encoded = [(_reencoded(name), _reencoded(value)) for name, _, value in pairs]
    return "&".join([f"{name}={value}" for name, value in sorted(encoded) if name != without])


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8", "replace")


def _reencoded(text: str) -> str:
    return quote(unquote_to_bytes(text.replace("+", " ")), safe="-_.~")


def _http_date(value: str | None) -> str | None:
    """`x-amz-date`'s form of a `Date` header, which may stand in for it; None when it cannot be read."""
    if value is None or _DATE_TIME.fullmatch(value):
        return value
    try:
        return datetime.strptime(value, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC).strftime("%Y%m%dT%H%M%SZ")
    except ValueError:
        return value


def _incomplete(message: str) -> ServiceError:
    return ServiceError("IncompleteSignature", message, 400)


def _mismatch(message: str) -> ServiceError:
    return ServiceError("SignatureDoesNotMatch", message, 403)

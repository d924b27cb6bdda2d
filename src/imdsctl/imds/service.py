"""The metadata service of one instance: a request and the time in, a reply out."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Protocol

from imdsctl.domain.options import HttpTokens, Switch
from imdsctl.imds import responses
from imdsctl.imds.documents import credentials_document
from imdsctl.imds.facts import Facts, Source
from imdsctl.imds.messages import Access, Reply, Request
from imdsctl.imds.paths import TOKEN_TARGET, is_token_path, segments_of
from imdsctl.imds.tokens import NONCE_BYTES, Tokens, ttl_of
from imdsctl.imds.tree import Asked, Leaf, View, find

TOKEN = b"x-aws-ec2-metadata-token"
TOKEN_TTL = b"x-aws-ec2-metadata-token-ttl-seconds"
FORWARDED = b"x-forwarded-for"

READ = ("GET", "HEAD")
USER_DATA = ("user-data",)
"""The one thing that is not text: whatever the user gave."""
KEPT_MAX = 16
KEPT_BYTES_MAX = 1024
"""What is kept of a service's answers: so many, up to this size each. It is dropped when the instance changes."""


class Signer(Protocol):
    """Signs identity documents: `identity.IdentitySigner`, or what makes one when it is first asked."""

    def signed(self, what: Asked, facts: Facts) -> bytes:
        """`signature`, `pkcs7` or `rsa2048` of an instance's identity document."""


class MetadataService:
    """IMDSv1 and IMDSv2 of one instance.

    `source` says what holds for the instance; `key` (up to 64 bytes, secret) is the world's, and tokens are bound to
    (`key`, instance): a service made anew with the same two takes the tokens that it gave before. Without a `signer`
    the signatures of the identity document are not there. `nonce` gives that many random bytes.
    Source of the rules: EC2 User Guide, "Use the Instance Metadata Service to access instance metadata"; what was
    observed on instances beyond that is in docs/fidelity.md.
    """

    __slots__ = ("_facts", "_kept", "_key", "_nonce", "_signer", "_source", "_tags", "_tokens", "_tokens_of")

    def __init__(
        self,
        source: Source,
        key: bytes,
        *,
        signer: Signer | None = None,
        nonce: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._source = source
        self._key = key
        self._signer = signer
        self._nonce = nonce
        self._tokens: Tokens | None = None
        self._tokens_of = ""
        self._facts: Facts | None = None  # that `_kept` is of, and `_tags` with it
        self._tags = False
        self._kept: dict[bytes, tuple[bytes, bytes]] = {}  # target -> content type and body

    def respond(self, request: Request, now: float) -> Reply:
        """The answer to a request at `now` (seconds since 1970). Never raises, whatever the request."""
        options = self._source.options
        path = request.target.decode("latin-1")
        if request.ipv6 and options.http_protocol_ipv6 is not Switch.ENABLED:
            return Reply(b"", 0, Access.REFUSED, path)
        if request.method == "PUT":
            return self._put(request, path, now)
        head = request.method == "HEAD"
        if options.http_endpoint is Switch.DISABLED:
            return Reply(responses.refusal(403, now, head=head), 403, Access.REFUSED, path)
        segments = segments_of(request.target)
        if segments is None:
            return Reply(responses.refusal(400, now, head=head), 400, Access.REFUSED, path)
        if is_token_path(segments) or request.method not in READ:
            allow = b"OPTIONS, PUT" if is_token_path(segments) else b"OPTIONS, GET, HEAD"
            return Reply(responses.refusal(405, now, allow=allow, head=head), 405, Access.REFUSED, path)
        return self._get(request, segments, path, now, head, options.http_tokens is HttpTokens.REQUIRED)

    def _put(self, request: Request, path: str, now: float) -> Reply:
        """A token, or why there is none. The hop limit holds for every answer at the path, whatever its status."""
        options = self._source.options
        segments = segments_of(request.target)
        if segments is None or not is_token_path(segments):
            if options.http_endpoint is Switch.DISABLED:
                return Reply(responses.refusal(403, now), 403, Access.REFUSED, path)
            return Reply(responses.refusal(405, now, allow=b"OPTIONS, GET, HEAD"), 405, Access.REFUSED, path)
        hop_limit = options.http_put_response_hop_limit or 1
        status = self._token_refused(request)
        if options.http_endpoint is Switch.DISABLED:
            status = 403
        if status is not None:
            return Reply(responses.refusal(status, now), status, Access.TOKEN_REFUSED, path, hop_limit)
        ttl = ttl_of(_values(request, TOKEN_TTL)[0])
        assert ttl is not None
        token = self._issuer(now).issue(ttl, now, self._nonce(NONCE_BYTES))
        return Reply(responses.ok(token, now, ttl=ttl), 200, Access.TOKEN, path, hop_limit)

    def _token_refused(self, request: Request) -> int | None:
        """The status with which a PUT on the token path is refused, or None."""
        if request.target != TOKEN_TARGET:
            return 403  # "Only /latest/api/token": any other version or spelling is refused
        if _values(request, FORWARDED):
            return 403
        if _values(request, b"expect"):
            return 417
        values = _values(request, TOKEN_TTL)
        return None if len(values) == 1 and ttl_of(values[0]) is not None else 400

    def _get(
        self, request: Request, segments: Sequence[str], path: str, now: float, head: bool, required: bool
    ) -> Reply:
        tokens = _values(request, TOKEN)
        left: int | None = None
        if tokens:
            if _values(request, FORWARDED):
                return Reply(responses.refusal(403, now, head=head), 403, Access.V2_REFUSED, path)
            # One token counts: with two of them, who knows which one a proxy has looked at.
            left = self._issuer(now).remaining(tokens[0], now) if len(tokens) == 1 else None
            if left is None:
                return Reply(responses.refusal(401, now, head=head), 401, Access.V2_REFUSED, path)
            access = Access.V2
        elif required:
            return Reply(responses.refusal(401, now, head=head), 401, Access.V1_REFUSED, path)
        else:
            access = Access.V1
        found = self._find(request.target, segments, "1.0" if left is None else "2.0", now)
        if found is None:
            return Reply(responses.refusal(404, now, head=head), 404, access, path)
        kind, body, modified = found
        content = responses.ok(body, now, kind=kind, modified=modified, ttl=left, head=head)
        return Reply(content, 200, access, path)

    def _find(
        self, target: bytes, segments: Sequence[str], delivery: str, now: float
    ) -> tuple[bytes, bytes, int] | None:
        """Content type, body and time of last change of what stands at a path."""
        facts = self._source.facts(now)
        tags = self._source.options.instance_metadata_tags is Switch.ENABLED
        if facts is not self._facts or tags is not self._tags:
            self._facts, self._tags = facts, tags
            self._kept.clear()
        modified = int(facts.pending_time.timestamp())
        kept = self._kept.get(target)
        if kept is None:
            leaf = find(View(facts, tags), segments)
            if isinstance(leaf, Asked):
                return self._asked(leaf, facts, delivery, now)
            if leaf is None:
                return None
            kept = _written(leaf, segments)
            if len(kept[1]) <= KEPT_BYTES_MAX and len(target) <= KEPT_BYTES_MAX:
                if len(self._kept) >= KEPT_MAX:
                    self._kept.clear()
                self._kept[target] = kept
        return *kept, modified

    def _asked(self, leaf: Asked, facts: Facts, delivery: str, now: float) -> tuple[bytes, bytes, int] | None:
        """What is not among the facts: credentials as they are now, and signatures."""
        if leaf is Asked.ROLE_CREDENTIALS or leaf is Asked.IDENTITY_CREDENTIALS:
            ask = self._source.role_credentials if leaf is Asked.ROLE_CREDENTIALS else self._source.identity_credentials
            credentials = ask(delivery, now)
            body = credentials_document(credentials).encode()
            return responses.TEXT, body, int(credentials.updated.timestamp())
        if self._signer is None:
            return None
        return responses.TEXT, self._signer.signed(leaf, facts), int(facts.pending_time.timestamp())

    def _issuer(self, now: float) -> Tokens:
        """The tokens of the instance that the source has now."""
        instance_id = self._source.facts(now).instance_id
        if self._tokens is None or instance_id != self._tokens_of:
            self._tokens, self._tokens_of = Tokens(self._key, instance_id), instance_id
        return self._tokens


def _written(leaf: Leaf, segments: Sequence[str]) -> tuple[bytes, bytes]:
    body = leaf if isinstance(leaf, bytes) else str(leaf).encode()
    return (responses.BYTES if segments[1:] == USER_DATA else responses.TEXT), body


def _values(request: Request, name: bytes) -> list[bytes]:
    """All values of a header, in order."""
    return [value for each, value in request.headers if each == name]

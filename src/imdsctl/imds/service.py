"""The metadata service of one instance: a request and the time in, a reply out."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

from imdsctl.domain.options import HttpTokens, Switch
from imdsctl.imds import responses
from imdsctl.imds.documents import credentials_document
from imdsctl.imds.facts import Facts, RoleCredentials, Source
from imdsctl.imds.messages import Access, Reply, Request
from imdsctl.imds.paths import TOKEN_TARGET, is_token_path, segments_of
from imdsctl.imds.responses import Content
from imdsctl.imds.tokens import NONCE_BYTES, Tokens, ttl_of
from imdsctl.imds.tree import Asked, View, find

TOKEN = b"x-aws-ec2-metadata-token"
TOKEN_TTL = b"x-aws-ec2-metadata-token-ttl-seconds"
FORWARDED = b"x-forwarded-for"

ALLOW_READ = b"OPTIONS, GET, HEAD"
ALLOW_TOKEN = b"OPTIONS, PUT"

KEPT_BYTES_MAX = 4096
KEPT_OVERHEAD_BYTES = 256
"""What is kept of a service's answers, objects and all: so that 10,000 services have room in one process."""
CREDENTIALS_KEPT_MAX = 64


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

    __slots__ = ("_facts", "_kept", "_kept_bytes", "_key", "_nonce", "_signer", "_source", "_tags", "_tokens")

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
        self._facts: Facts | None = None  # that `_kept` is of, and `_tags` with it
        self._tags = False
        self._kept: dict[bytes, Content | Asked | int] = {}  # by target; 404, where there is nothing
        self._kept_bytes = 0

    def respond(self, request: Request, now: float) -> Reply:
        """The answer to a request at `now` (seconds since 1970). Never raises, whatever the request."""
        options = self._source.options
        path = request.target.decode("latin-1")
        if request.ipv6 and options.http_protocol_ipv6 is not Switch.ENABLED:
            return Reply(b"", 0, Access.REFUSED, path)
        disabled = options.http_endpoint is Switch.DISABLED
        if request.method == "PUT":
            return self._put(request, path, now, disabled, options.http_put_response_hop_limit or 1)
        head = request.method == "HEAD"
        if disabled:
            return Reply(responses.refusal(403, now, head=head), 403, Access.REFUSED, path)
        if request.method == "GET" or head:
            return self._get(request, path, now, head, options.http_tokens is HttpTokens.REQUIRED)
        segments = segments_of(request.target)
        if segments is None:
            return Reply(responses.refusal(400, now), 400, Access.REFUSED, path)
        allow = ALLOW_TOKEN if is_token_path(segments) else ALLOW_READ
        if request.method == "OPTIONS":
            return Reply(responses.allowed(allow, now), 200, Access.REFUSED, path)
        return Reply(responses.refusal(405, now, allow=allow), 405, Access.REFUSED, path)

    def _put(self, request: Request, path: str, now: float, disabled: bool, hop_limit: int) -> Reply:
        """A token, or why there is none. The hop limit holds for every answer at the path, whatever its status."""
        if request.target != TOKEN_TARGET:
            segments = segments_of(request.target)
            if segments is not None and is_token_path(segments):
                # "Only /latest/api/token": any other version or spelling is refused.
                return Reply(responses.refusal(403, now), 403, Access.TOKEN_REFUSED, path, hop_limit)
            if disabled:
                return Reply(responses.refusal(403, now), 403, Access.REFUSED, path)
            if segments is None:
                return Reply(responses.refusal(400, now), 400, Access.REFUSED, path)
            return Reply(responses.refusal(405, now, allow=ALLOW_READ), 405, Access.REFUSED, path)
        ttl, status = _asked_ttl(request)
        if disabled:
            status = 403
        if status is not None:
            return Reply(responses.refusal(status, now), status, Access.TOKEN_REFUSED, path, hop_limit)
        given = self._issuer(now).issue(ttl, now, self._nonce(NONCE_BYTES))
        return Reply(responses.token(given, now, ttl), 200, Access.TOKEN, path, hop_limit)

    def _get(self, request: Request, path: str, now: float, head: bool, required: bool) -> Reply:
        if request.target == TOKEN_TARGET:
            return Reply(responses.refusal(405, now, allow=ALLOW_TOKEN), 405, Access.REFUSED, path)
        tokens, forwarded = [], False
        for name, value in request.headers:
            if name == TOKEN:
                tokens.append(value)
            elif name == FORWARDED:
                forwarded = True
        left: int | None = None
        access = Access.V1
        if tokens:
            if forwarded:
                return Reply(responses.refusal(403, now, head=head), 403, Access.V2_REFUSED, path)
            # One token counts: with two of them, who knows which one a proxy has looked at.
            left = self._issuer(now).remaining(tokens[0], now) if len(tokens) == 1 else None
            if left is None:
                return Reply(responses.refusal(401, now, head=head), 401, Access.V2_REFUSED, path)
            access = Access.V2
        elif required:
            # Before the path is looked at: who has no token learns nothing of it, not even that it is no path.
            return Reply(responses.refusal(401, now, head=head), 401, Access.V1_REFUSED, path)
        shown = self._shown(request.target, "1.0" if left is None else "2.0", now)
        if isinstance(shown, Content):
            return Reply(responses.found(shown, now, ttl=left, head=head), 200, access, path)
        allow = ALLOW_TOKEN if shown == 405 else None
        if shown != 404:
            access = Access.REFUSED
        return Reply(responses.refusal(shown, now, allow=allow, head=head), shown, access, path)

    def _shown(self, target: bytes, delivery: str, now: float) -> Content | int:
        """What stands at a target, or the status that says why there is nothing."""
        facts = self._source.facts(now)
        tags = self._source.options.instance_metadata_tags is Switch.ENABLED
        if facts is not self._facts or tags is not self._tags:
            self._facts, self._tags = facts, tags
            self._kept.clear()
            self._kept_bytes = 0
        kept = self._kept.get(target)
        if kept is not None:
            return self._asked(kept, facts, delivery, now) if isinstance(kept, Asked) else kept
        segments = segments_of(target)
        if segments is None:
            return 400
        if is_token_path(segments):
            return 405
        leaf = find(View(facts, tags, self._signer is not None), segments)
        if leaf is None:
            self._keep(target, 404, len(target))  # who waits for a notice asks again and again
            return 404
        if isinstance(leaf, Asked):
            self._keep(target, leaf, len(target))
            return self._asked(leaf, facts, delivery, now)
        made = responses.content(_body(leaf), _kind(segments), int(facts.pending_time.timestamp()))
        self._keep(target, made, len(target) + len(made.headers) + len(made.body))
        return made

    def _keep(self, target: bytes, made: Content | Asked | int, size: int) -> None:
        size += KEPT_OVERHEAD_BYTES
        if self._kept_bytes + size > KEPT_BYTES_MAX:
            self._kept.clear()
            self._kept_bytes = 0
        if size <= KEPT_BYTES_MAX:
            self._kept[target] = made
            self._kept_bytes += size

    def _asked(self, leaf: Asked, facts: Facts, delivery: str, now: float) -> Content | int:
        """What is not among the facts: credentials as they are now, and signatures."""
        if leaf is Asked.ROLE_CREDENTIALS:
            return _credentials(self._source.role_credentials(delivery, now))
        if leaf is Asked.IDENTITY_CREDENTIALS:
            return _credentials(self._source.identity_credentials(delivery, now))
        assert self._signer is not None, "the tree has no signatures without one"
        body = self._signer.signed(leaf, facts)
        return responses.content(body, responses.TEXT, int(facts.pending_time.timestamp()))

    def _issuer(self, now: float) -> Tokens:
        """The tokens of the instance that the source has now."""
        instance_id = self._source.facts(now).instance_id
        if self._tokens is None or instance_id != self._tokens.instance_id:
            self._tokens = Tokens(self._key, instance_id)
        return self._tokens


def _asked_ttl(request: Request) -> tuple[int, int | None]:
    """The TTL that a PUT on the token path asks for; or the status with which it is refused."""
    values, expects = [], False
    for name, value in request.headers:
        if name == TOKEN_TTL:
            values.append(value)
        elif name == FORWARDED:
            return 0, 403
        elif name == b"expect":
            expects = True
    if expects:
        return 0, 417
    ttl = ttl_of(values[0]) if len(values) == 1 else None
    return (0, 400) if ttl is None else (ttl, None)


def _body(leaf: str | bytes) -> bytes:
    return leaf if isinstance(leaf, bytes) else leaf.encode()


def _kind(segments: Sequence[str]) -> bytes:
    """Only user data is of no type: whatever the user gave."""
    return responses.BYTES if segments[1:] == ("user-data",) else responses.TEXT


@lru_cache(maxsize=CREDENTIALS_KEPT_MAX)
def _credentials(credentials: RoleCredentials) -> Content:
    body = credentials_document(credentials).encode()
    return responses.content(body, responses.TEXT, int(credentials.updated.timestamp()))

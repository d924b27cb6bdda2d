"""The metadata service of one instance: a request and the time in, a reply out."""

from __future__ import annotations

from imdsctl.imds.facts import Source
from imdsctl.imds.messages import Reply, Request


class MetadataService:
    """IMDSv1 and IMDSv2 of one instance.

    `source` says what holds for the instance; `key` (32 bytes, secret) is the world's, and tokens are bound to
    (`key`, instance): a service made anew with the same two takes the tokens that it gave before.
    Source of the rules: EC2 User Guide, "Use the Instance Metadata Service to access instance metadata".
    """

    __slots__ = ("_key", "_source")

    def __init__(self, source: Source, key: bytes) -> None:
        self._source = source
        self._key = key

    def respond(self, request: Request, now: float) -> Reply:
        """The answer to a request at `now` (seconds since 1970). Never raises, whatever the request."""
        raise NotImplementedError

"""IMDSv2 session tokens that carry what they say: nothing is stored, so nothing has to be swept.

A token has the form of AWS's: 40 bytes as 56 characters of padded base64url, of which the first 4 bytes are the same
in all. Then come the time at which it ends, a nonce, and a MAC with a key of the one instance that it was made for.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from binascii import Error, a2b_base64
from hashlib import blake2b

TTL_SECONDS_MIN = 1
TTL_SECONDS_MAX = 21_600
"""EC2 User Guide: "The TTL (Time to Live) ... minimum is one second, the maximum is six hours (21,600 seconds)"."""

NONCE_BYTES = 6
_HEADER = bytes((1, 0, 4, 0))
_MAC_BYTES = 24
_SIGNED_BYTES = 40 - _MAC_BYTES
_CHARACTERS = 56
_STANDARD = bytes.maketrans(b"-_", b"+/")


class Tokens:
    """Issues and checks the tokens of one instance. It reads no clock and draws no random number: both are arguments.

    `key` (up to 64 bytes) is the secret of the world; the tokens are bound to it and to the instance.
    """

    __slots__ = ("_hash", "instance_id")

    def __init__(self, key: bytes, instance_id: str) -> None:
        self.instance_id = instance_id
        own = blake2b(instance_id.encode(), key=key, digest_size=32, person=b"imds-instance").digest()
        # Copied for every token: a copy is cheaper than keying anew.
        self._hash = blake2b(key=own, digest_size=_MAC_BYTES, person=b"imds-token")

    def issue(self, ttl_seconds: int, now: float, nonce: bytes) -> bytes:
        """A token that is good for `ttl_seconds` from `now` (seconds since 1970); `nonce` has NONCE_BYTES bytes."""
        ends = int(now * 1000) + ttl_seconds * 1000
        signed = _HEADER + ends.to_bytes(6, "big") + nonce
        return urlsafe_b64encode(signed + self._mac(signed))

    def remaining(self, token: bytes, now: float) -> int | None:
        """How many seconds (rounded up, so never 0) a token is still good for; None when it is not, or not ours."""
        if len(token) != _CHARACTERS:
            return None
        try:
            raw = a2b_base64(token.translate(_STANDARD), strict_mode=True)
        except Error:
            return None
        # One spelling counts: 40 bytes leave bits over in the last character, and `+/` are the other alphabet's.
        if len(raw) != _SIGNED_BYTES + _MAC_BYTES or urlsafe_b64encode(raw) != token:
            return None
        signed = raw[:_SIGNED_BYTES]
        if not hmac.compare_digest(raw[_SIGNED_BYTES:], self._mac(signed)):
            return None
        left = int.from_bytes(signed[4:10], "big") - int(now * 1000)
        return -(-left // 1000) if left > 0 else None

    def _mac(self, signed: bytes) -> bytes:
        mac = self._hash.copy()
        mac.update(signed)
        return mac.digest()


def ttl_of(value: bytes) -> int | None:
    """The seconds that an `X-aws-ec2-metadata-token-ttl-seconds` header asks for; None when it is not 1 to 21,600.

    Only ASCII digits count: no sign, no fraction, no other script's digits.
    """
    if not value.isdigit() or len(value) > 8:
        return None
    seconds = int(value)
    return seconds if TTL_SECONDS_MIN <= seconds <= TTL_SECONDS_MAX else None

"""Access key ids that carry their account's number, as AWS's do.

After the four letters of the kind come sixteen base-32 digits, 80 bits; bits 1 to 40 are the account's number, counted
from the left from 0. AWS does not document it: users found it ("AWS access key ID format", observed since 2018).
"""

from __future__ import annotations

import base64
import binascii

_BITS = 80
_SHIFT = _BITS - 41
_ACCOUNT_MASK = (1 << 40) - 1


def key_id(kind: str, account_id: str, noise: int) -> str:
    """An access key id of a kind (`AKIA`, `ASIA`) and account; `noise` fills the bits that say nothing."""
    account_bits = (int(account_id) & _ACCOUNT_MASK) << _SHIFT
    number = (1 << (_BITS - 1)) | account_bits | (noise & ((1 << _SHIFT) - 1))
    return kind + base64.b32encode(number.to_bytes(10, "big")).decode()


def account_of_key(access_key_id: str) -> str | None:
    """The account number in an access key id; None when there is none in it."""
    try:
        number = int.from_bytes(base64.b32decode(access_key_id[4:]), "big")
    except (binascii.Error, ValueError):
        return None
    if len(access_key_id) != 20:
        return None
    account = number >> _SHIFT & _ACCOUNT_MASK
    return f"{account:012d}" if account < 10**12 else None

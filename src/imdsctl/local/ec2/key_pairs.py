"""Key pairs: ImportKeyPair, DescribeKeyPairs, DeleteKeyPair.

Source: EC2 API Reference, the three pages; EC2 User Guide, "Verify the fingerprint of your key pair": an imported RSA
key has the MD5 digest of its DER form, an ED25519 key the SHA-256 digest of its OpenSSH form in Base64.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import md5, sha256
from typing import Any

from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.ec2.common import aws_tags, region_state, tag_specifications
from imdsctl.local.ec2.errors import invalid_value, missing, refuse
from imdsctl.local.ec2.filters import Filters
from imdsctl.local.ec2.resources import KeyPair

NAME_LENGTH_MAX = 255
RSA_BITS = (1024, 2048, 4096)
RSA_ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")
"""The DER of the algorithm identifier rsaEncryption."""


def import_key_pair(call: Call) -> dict[str, Any]:
    """Keep a public key under a name.

    Takes an OpenSSH public key (RSA of 1024, 2048 or 4096 bits, or ED25519), as text or in Base64. Raises
    MissingParameter, InvalidParameterValue, InvalidKey.Format, InvalidKeyPair.Duplicate.
    """
    state, params = region_state(call), call.params
    name, material = params.get("KeyName"), params.get("PublicKeyMaterial")
    if not name:
        raise missing("KeyName")
    if not material:
        raise missing("PublicKeyMaterial")
    if len(name) > NAME_LENGTH_MAX or not name.isascii():
        raise invalid_value(f"Key pair names are up to {NAME_LENGTH_MAX} ASCII characters long")
    kind, fingerprint, text = public_key(material)
    tags = tag_specifications(params.get("TagSpecifications"), ["key-pair"]).get("key-pair")
    if name in state.key_pairs:
        raise refuse("InvalidKeyPair.Duplicate", f"The keypair already exists: {name}")
    pair = KeyPair(f"key-{call.ids.hex17()}", name, kind, fingerprint, text, call.now)
    state.key_pairs[name] = pair
    if tags:
        state.tags[pair.id] = tags
    return {
        "KeyFingerprint": fingerprint,
        "KeyName": name,
        "KeyPairId": pair.id,
        **({"Tags": aws_tags(tags)} if tags else {}),
    }


def public_key(material: bytes | str) -> tuple[str, str, str]:
    """The kind, the fingerprint and the text of an OpenSSH public key. Raises InvalidKey.Format."""
    try:
        text = material.decode("ascii") if isinstance(material, bytes) else material
        if not re.match(r"\s*ssh-", text):
            text = base64.b64decode(text, validate=True).decode("ascii")
        label, encoded = text.split()[:2]
        blob = base64.b64decode(encoded, validate=True)
        fields = list(_fields(blob))
    except (ValueError, binascii.Error, UnicodeDecodeError):
        raise _unreadable() from None
    if not fields or fields[0].decode("ascii", "replace") != label:
        raise _unreadable()
    if label == "ssh-ed25519" and len(fields) == 2 and len(fields[1]) == 32:
        return "ed25519", base64.b64encode(sha256(blob).digest()).decode(), text.strip()
    if label == "ssh-rsa" and len(fields) == 3:
        exponent, modulus = (int.from_bytes(field) for field in fields[1:])
        if modulus.bit_length() not in RSA_BITS:
            raise refuse("InvalidKey.Format", "Key length is not supported. Supported lengths: 1024, 2048, and 4096.")
        digest = md5(_rsa_der(modulus, exponent), usedforsecurity=False).hexdigest()
        return "rsa", ":".join(digest[at : at + 2] for at in range(0, 32, 2)), text.strip()
    raise _unreadable()


def _unreadable() -> AwsError:
    return refuse("InvalidKey.Format", "Key is not in valid OpenSSH public key format")


def _fields(blob: bytes) -> Iterator[bytes]:
    """The length-prefixed fields of an OpenSSH key. Raises ValueError when they do not fill it."""
    at = 0
    while at < len(blob):
        length = int.from_bytes(blob[at : at + 4])
        field = blob[at + 4 : at + 4 + length]
        if at + 4 > len(blob) or len(field) != length:
            raise ValueError
        yield field
        at += 4 + length


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 128 | len(length)]) + length + content


def _der_integer(number: int) -> bytes:
    return _der(2, number.to_bytes(number.bit_length() // 8 + 1))


def _rsa_der(modulus: int, exponent: int) -> bytes:
    """The SubjectPublicKeyInfo of an RSA key."""
    key = _der(0x30, _der_integer(modulus) + _der_integer(exponent))
    return _der(0x30, RSA_ALGORITHM + _der(3, b"\0" + key))


def delete_key_pair(call: Call) -> dict[str, Any]:
    """Forget a key; deleting one that is not there succeeds. Raises MissingParameter."""
    state, params = region_state(call), call.params
    name, pair_id = params.get("KeyName"), params.get("KeyPairId")
    if not name and not pair_id:
        raise missing("KeyName")
    for pair in list(state.key_pairs.values()):
        if pair_id == pair.id or (not pair_id and name == pair.name):
            del state.key_pairs[pair.name]
            state.tags.pop(pair.id, None)
            return {"Return": True, "KeyPairId": pair.id}
    return {"Return": True}


@dataclass(frozen=True, slots=True)
class _Listed:
    pair: KeyPair
    tags: Mapping[str, str]


KEY_PAIR_FILTERS: Filters[_Listed] = Filters(
    {
        "fingerprint": lambda listed: listed.pair.fingerprint,
        "key-name": lambda listed: listed.pair.name,
        "key-pair-id": lambda listed: listed.pair.id,
    },
    lambda listed: listed.tags,
)


def describe_key_pairs(call: Call) -> dict[str, Any]:
    """The keys by name, by id, or all; `IncludePublicKey` shows the keys themselves.

    Raises InvalidKeyPair.NotFound, InvalidParameterValue for an unknown filter.
    """
    state, params = region_state(call), call.params
    names, ids = params.get("KeyNames"), params.get("KeyPairIds")
    by_id = {pair.id: pair for pair in state.key_pairs.values()}
    pairs: dict[str, KeyPair] = {}
    for what, wanted, known in (("pair", names, state.key_pairs), ("pair ID", ids, by_id)):
        for each in wanted or ():
            if each not in known:
                raise refuse("InvalidKeyPair.NotFound", f"The key {what} '{each}' does not exist")
            pairs[known[each].name] = known[each]
    if not names and not ids:
        pairs = dict(state.key_pairs)
    listed = KEY_PAIR_FILTERS.select(
        (_Listed(pairs[name], state.tags.get(pairs[name].id, {})) for name in sorted(pairs)), params.get("Filters")
    )
    return {"KeyPairs": [_structure(each, bool(params.get("IncludePublicKey"))) for each in listed]}


def _structure(listed: _Listed, with_key: bool) -> dict[str, Any]:
    pair = listed.pair
    out: dict[str, Any] = {
        "KeyPairId": pair.id,
        "KeyFingerprint": pair.fingerprint,
        "KeyName": pair.name,
        "KeyType": pair.kind,
        "CreateTime": pair.created,
        "Tags": aws_tags(listed.tags),
    }
    if with_key:
        out["PublicKey"] = pair.public_key
    return out


OPERATIONS = {
    "ImportKeyPair": Operation(import_key_pair, writes=True),
    "DeleteKeyPair": Operation(delete_key_pair, writes=True),
    "DescribeKeyPairs": Operation(describe_key_pairs),
}

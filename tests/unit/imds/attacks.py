"""The attack suite: tests/cases/imds, as bytes for a socket and as requests. Add the case that bit you there.

A case: `send` is the request line and the headers as they go out, `status` and `access` what has to come of it (status
0: the connection closes without a word), `gives` what leaves with it (`credentials`, a `token`, or nothing), `says` a
part of the answer, `options` what differs from "tokens required, everything else enabled". `must_not` says in words
what must not happen. In `send` stand `${token}` for a valid token, `${token:KIND}` for one of `KINDS`, and
`${repeat:TEXT:COUNT}`; every other character is the byte of its code point.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from imdsctl.domain.options import MetadataOptions
from imdsctl.imds.tokens import Tokens

CASES = Path(__file__).parents[2] / "cases" / "imds"

INSTANCE = "i-0123456789abcdef0"
KEY = b"the key of this world"
NOW = 1_790_000_000.25
ROLE = "web"
SECRET = "what/attackers/want"
"""The secret access key of every credential that the service under attack has."""

STRICT = {
    "HttpTokens": "required",
    "HttpPutResponseHopLimit": 1,
    "HttpEndpoint": "enabled",
    "HttpProtocolIpv6": "enabled",
    "InstanceMetadataTags": "enabled",
}


@dataclass(frozen=True)
class Attack:
    """A case of the suite."""

    name: str
    must_not: str
    raw: bytes
    status: int
    gives: str = "nothing"
    access: str | None = None
    says: bytes = b""
    ipv6: bool = False
    options: MetadataOptions = field(default_factory=MetadataOptions)


def attacks(now: float = NOW, key: bytes = KEY, instance_id: str = INSTANCE) -> Iterator[Attack]:
    """All cases, with tokens for a service of that instance, world and time."""
    kinds = Kinds(now, key, instance_id)
    for path in sorted(CASES.glob("*.json")):
        for case in json.loads(path.read_text())["cases"]:
            yield _attack(f"{path.stem}: {case['name']}", case, kinds)


def _attack(name: str, case: Mapping[str, Any], kinds: Kinds) -> Attack:
    lines = [_PLACEHOLDER.sub(kinds.fill, line) for line in case["send"]]
    return Attack(
        name,
        case["must_not"],
        "\r\n".join([*lines, "", ""]).encode("latin-1"),
        case["status"],
        case.get("gives", "nothing"),
        case.get("access"),
        case.get("says", "").encode(),
        case.get("ipv6", False),
        MetadataOptions.from_aws({**STRICT, **case.get("options", {})}),
    )


_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")


class Kinds:
    """Tokens of every kind."""

    def __init__(self, now: float, key: bytes, instance_id: str) -> None:
        self.now = now
        self.key = key
        self.instance_id = instance_id
        # One whose text has both characters in which the two alphabets of Base64 differ.
        nonces = (number.to_bytes(6, "big") for number in range(1 << 20))
        made = (self.made(nonce=nonce) for nonce in nonces)
        self.valid = next(text for text in made if "-" in text and "_" in text and text != text.upper())

    def made(
        self, ttl: int = 3600, ago: float = 0, key: bytes | None = None, of: str | None = None, nonce: bytes = b"noncen"
    ) -> str:
        """A token that was made some seconds ago."""
        return Tokens(key or self.key, of or self.instance_id).issue(ttl, self.now - ago, nonce).decode()

    def fill(self, placeholder: re.Match[str]) -> str:
        word, *arguments = placeholder[1].split(":")
        if word == "repeat":
            return arguments[0] * int(arguments[1])
        assert word == "token"
        if not arguments:
            return self.valid
        kind = arguments[0]
        if kind.startswith("flip-"):
            return self.changed(int(kind.removeprefix("flip-")))
        return KINDS[kind](self)

    def raw(self) -> bytes:
        return urlsafe_b64decode(self.valid)

    def changed(self, index: int) -> str:
        raw = bytearray(self.raw())
        raw[index] ^= 1
        return text(raw)

    def spare_bits(self) -> str:
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        other = self.valid[:-3] + letters[letters.index(self.valid[-3]) + 1] + "=="
        assert urlsafe_b64decode(other) == self.raw()
        return other

    def other_alphabet(self) -> str:
        other = self.valid.replace("-", "+").replace("_", "/")
        assert b64decode(other) == self.raw()
        assert other != self.valid
        return other

    def later_end(self) -> str:
        raw = self.raw()
        return text(raw[:4] + (int.from_bytes(raw[4:10], "big") + 3_600_000).to_bytes(6, "big") + raw[10:])


def text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode()


KINDS: Mapping[str, Callable[[Kinds], str]] = {
    "other-instance": lambda kinds: kinds.made(of="i-0fedcba9876543210"),
    "other-key": lambda kinds: kinds.made(key=b"the key of another world"),
    "expired": lambda kinds: kinds.made(ttl=60, ago=61),
    "expiring-now": lambda kinds: kinds.made(ttl=60, ago=60),
    "last-second": lambda kinds: kinds.made(ttl=60, ago=59.5),
    "later-end": Kinds.later_end,
    "spare-bits": Kinds.spare_bits,
    "other-alphabet": Kinds.other_alphabet,
    "percent-encoded": lambda kinds: quote(kinds.valid, safe=""),
    "no-padding": lambda kinds: kinds.valid.rstrip("="),
    "more-padding": lambda kinds: kinds.valid + "==",
    "padding-inside": lambda kinds: kinds.valid[:26] + "==" + kinds.valid[28:],
    "space-inside": lambda kinds: kinds.valid[:28] + " " + kinds.valid[28:],
    "truncated": lambda kinds: kinds.valid[:-1],
    "half": lambda kinds: kinds.valid[:28],
    "doubled": lambda kinds: kinds.valid * 2,
    "upper-case": lambda kinds: kinds.valid.upper(),
    "no-mac": lambda kinds: text(kinds.raw()[:16]),
    "zero-mac": lambda kinds: text(kinds.raw()[:16] + bytes(24)),
    "zeros": lambda kinds: text(bytes(40)),
    "ones": lambda kinds: text(b"\xff" * 40),
    "old-header": lambda kinds: text(b"\x01\0\0\0" + kinds.raw()[4:]),
}

"""What a handler of the local AWS is given, and what it may use: the call, its caller, its clock, its random ids."""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from imdsctl.wire.errors import ServiceError

if TYPE_CHECKING:
    from imdsctl.local.sessions import Session
    from imdsctl.local.world import World

AwsError = ServiceError
"""What a handler raises to refuse: `AwsError(code, message, status)`, with AWS's own code, message and status."""


@dataclass(slots=True)
class Caller:
    """Who signed the request, as GetCallerIdentity would report it."""

    account_id: str
    arn: str
    user_id: str
    access_key_id: str


class Ids:
    """Identifiers that look random and are a pure function of (world seed, sequence number of the write).

    What happens by itself has a name of its own (a text) in place of a number. A replayed log therefore creates the
    same resources again. Cheap to make; nothing is computed before it is needed.
    """

    __slots__ = ("_buffer", "_counter", "_key")

    def __init__(self, seed: int, sequence: int | str) -> None:
        self._key = f"{seed}/{sequence}".encode()
        self._counter = 0
        self._buffer = ""

    def hex(self, digits: int) -> str:
        """`digits` lower-case hexadecimal digits."""
        while len(self._buffer) < digits:
            block = blake2b(self._key + b"/" + str(self._counter).encode(), digest_size=64).hexdigest()
            self._counter += 1
            self._buffer += block
        taken, self._buffer = self._buffer[:digits], self._buffer[digits:]
        return taken

    def hex17(self) -> str:
        """The 17 digits of a long EC2 id: `"i-" + ids.hex17()` (AWS writes a `0` first)."""
        return "0" + self.hex(16)

    def integer(self, below: int) -> int:
        """An integer in `range(below)`."""
        return int(self.hex(16), 16) % below

    def upper(self, letters: int) -> str:
        """Upper-case base-32 characters, as in access key ids (`"ASIA" + ids.upper(16)`)."""
        return base32_letters(int(self.hex(letters * 2), 16), letters)

    def uuid(self) -> str:
        """A UUID's 36 characters."""
        digits = self.hex(32)
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def base32_letters(number: int, letters: int) -> str:
    """The `letters` low base-32 digits of `number`, lowest first, in the alphabet of AWS's access key ids."""
    size = -(-letters // 8) * 5
    encoded = b32encode((number & ((1 << 8 * size) - 1)).to_bytes(size, "big"))
    return encoded[: -letters - 1 : -1].decode()


@dataclass(slots=True)
class Call:
    """One authenticated, decoded request, as a handler sees it.

    `now` is the only clock (aware, UTC); `ids` the only source of new identifiers. A handler that writes must be a
    deterministic function of the world and this call: the log replays it, without the `session`, so that only what
    does not write may look at it.
    """

    service: str
    action: str
    caller: Caller
    account_id: str
    region: str
    params: dict[str, Any]
    now: datetime
    request_id: str
    ids: Ids
    world: World
    endpoint_url: str = ""
    session: Session | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """A service's operation: its handler, and whether a success changes the world (and so goes to the log).

    A handler refuses by raising AwsError, before it has changed anything. EC2's DryRun is answered before the handler.
    """

    handler: Callable[[Call], Mapping[str, Any]]
    writes: bool = False


Operations = Mapping[str, Operation]

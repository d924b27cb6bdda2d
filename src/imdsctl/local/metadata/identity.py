"""The keys that sign a world's instance identity documents: made when they are first needed, and kept like a write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from imdsctl.imds.facts import Facts
from imdsctl.imds.tree import Asked
from imdsctl.local.call import Call

if TYPE_CHECKING:
    from imdsctl.imds.identity import IdentitySigner
    from imdsctl.local.world import World


class WorldSigner:
    """Signs with the world's keys; `keep` is given new ones, and has to put them into the world."""

    def __init__(self, world: World, keep: Callable[[bytes], None]) -> None:
        self._world = world
        self._keep = keep
        self._signer: IdentitySigner | None = None

    def signed(self, what: Asked, facts: Facts) -> bytes:
        """A signature of an instance's identity document."""
        return self._ready().signed(what, facts)

    def certificates(self) -> str:
        """The certificates, as PEM: RSA's, then DSA's."""
        return self._ready().certificates_pem()

    def _ready(self) -> IdentitySigner:
        if self._signer is None:
            from imdsctl.imds.identity import IdentitySigner  # cryptography takes its time to load

            if self._world.identity_keys is None:
                self._keep(IdentitySigner.generate(self._world.created).private_pem())
            assert self._world.identity_keys is not None
            self._signer = IdentitySigner.load(self._world.identity_keys)
        return self._signer


def keep_identity_keys(call: Call) -> Mapping[str, Any]:
    """The world's keys (`Keys`, PEM), as they were made."""
    call.world.identity_keys = call.params["Keys"]
    return {}

"""The keys that sign the identity documents of `imdsctl imds serve` and `imdsctl run`, kept for their certificates.

They are secret only so far as somebody trusts the certificate that goes with them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.imds.facts import Facts

if TYPE_CHECKING:
    from imdsctl.imds.identity import IdentitySigner
    from imdsctl.imds.tree import Asked

FILE_NAME = "identity-keys.pem"


class LazySigner:
    """A signer whose keys are read, or made, when the first signature is asked for: they take a while to load."""

    def __init__(self, load: Callable[[], IdentitySigner]) -> None:
        self._load = load
        self._signer: IdentitySigner | None = None

    def signed(self, what: Asked, facts: Facts) -> bytes:
        """A signature of an instance's identity document."""
        if self._signer is None:
            self._signer = self._load()
        return self._signer.signed(what, facts)


def kept_signer(folder: Path) -> IdentitySigner:
    """The signer whose keys are kept in `folder`; new ones are made and put there when there are none.

    Raises DiagnosticError `identity-keys-unusable` when the file cannot be read or written, or is damaged.
    """
    from imdsctl.imds.identity import IdentitySigner

    path = folder / FILE_NAME
    try:
        try:
            return IdentitySigner.load(path.read_bytes())
        except FileNotFoundError:
            signer = IdentitySigner.generate(datetime.now(UTC).replace(microsecond=0))
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return _put(path, signer)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DiagnosticError(
            Diagnostic(
                "identity-keys-unusable",
                f"the keys of the identity document cannot be had: {why}",
                subject=str(path),
                hint="remove the file, and new keys are made; who has the old certificate needs the new one",
            )
        ) from None


def _put(path: Path, signer: IdentitySigner) -> IdentitySigner:
    """Write the keys unless another process was first; whoever was first counts."""
    from imdsctl.imds.identity import IdentitySigner

    handle, name = tempfile.mkstemp(dir=path.parent, prefix=FILE_NAME)  # readable by the owner only
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(signer.private_pem())
        try:
            os.link(name, path)
        except FileExistsError:
            return IdentitySigner.load(path.read_bytes())
    finally:
        os.unlink(name)
    return signer

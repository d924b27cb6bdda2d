"""The file of `imdsctl local up --faults FILE`, in TOML, or in JSON when its name ends in `.json`."""

from __future__ import annotations

import json
from pathlib import Path

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.toml_text import parse_toml
from imdsctl.local.faults import HINT, Faults, parse_faults


def read_faults(path: Path) -> Faults:
    """The rules of a file.

    Raises DiagnosticError (exit code 2): `faults-unreadable`, `faults-syntax`, `faults-invalid` with every mistake.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else f"not UTF-8: {error.reason}"
        raise DiagnosticError(Diagnostic("faults-unreadable", why, str(path), HINT), exit_code=2) from None
    if path.suffix != ".json":
        return parse_faults(parse_toml(text, str(path), code="faults-syntax", hint=HINT), str(path))
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        what = f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}"
        where = f"{path}:{error.lineno}"
        raise DiagnosticError(Diagnostic("faults-syntax", what, where, HINT), exit_code=2) from None
    except RecursionError:
        what = "brackets are nested too deep"
        raise DiagnosticError(Diagnostic("faults-syntax", what, str(path), HINT), exit_code=2) from None
    if not isinstance(document, dict):
        document = {"rule": document}  # a list of rules is enough
    return parse_faults(document, str(path))

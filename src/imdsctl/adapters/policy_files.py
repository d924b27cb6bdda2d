"""Policies on disk, and the words that botocore knows."""

from __future__ import annotations

import sys
from functools import cache

from imdsctl.adapters.models import load_data
from imdsctl.adapters.utf8_text import NotText, decoded
from imdsctl.codify.policy_check import CHARACTERS_MAX
from imdsctl.codify.policy_file import File, Kind
from imdsctl.codify.vocabulary import Vocabulary
from imdsctl.domain.diagnostics import Diagnostic

_SERVICES = ("ec2", "autoscaling")


@cache
def vocabulary() -> Vocabulary:
    """The actions of EC2 and EC2 Auto Scaling: the names of their operations."""
    return Vocabulary({name: frozenset(load_data(name, "service-2")["operations"]) for name in _SERVICES})


def read_policy(name: str, kind: Kind | None) -> File | Diagnostic:
    """A file's text (`-`: standard input), or the diagnostic `policy-unreadable`."""
    try:
        if name == "-":
            content = sys.stdin.buffer.read(4 * CHARACTERS_MAX + 1)
        else:
            with open(name, "rb") as file:
                content = file.read(4 * CHARACTERS_MAX + 1)
        if len(content) > 4 * CHARACTERS_MAX:
            why = f"more than {CHARACTERS_MAX:,} characters, which no policy has"
            return Diagnostic("policy-unreadable", why, name, "name files that hold one policy each")
        if not content.strip():
            return Diagnostic("policy-unreadable", "it is empty", f"{name}:1:1")
        return File(name, decoded(content), kind)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        return Diagnostic("policy-unreadable", why, name, "name files, or `-` for standard input")
    except NotText as error:
        return Diagnostic("policy-unreadable", str(error), f"{name}:{error.line}:{error.column}")

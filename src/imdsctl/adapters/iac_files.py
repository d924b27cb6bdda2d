"""Infrastructure code on disk: which files there are, and their text taken apart."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from imdsctl.adapters.hcl_tree import read_hcl
from imdsctl.adapters.yaml_tree import read_yaml
from imdsctl.codify.iac_check import HINT, Language, Source
from imdsctl.codify.iac_tree import of_json
from imdsctl.codify.json_places import read_json
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

BYTES_MAX = 64 * 1024 * 1024
_SUFFIXES = {
    ".tf": Language.HCL,
    ".hcl": Language.HCL,
    ".json": Language.JSON,
    ".yaml": Language.YAML,
    ".yml": Language.YAML,
    ".template": Language.YAML,
}
_LEFT_OUT = {"node_modules", "__pycache__", "venv"}


def code_files(paths: Iterable[Path]) -> list[Path]:
    """The files that are named, and those of a known kind below the folders that are named, in order.

    Folders whose name begins with a dot, and those of installed packages, are left out. Raises DiagnosticError (exit
    code 2) `code-missing`.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found |= dict.fromkeys(_below(path))
        elif path.exists():
            found[path] = None
        else:
            raise DiagnosticError(Diagnostic("code-missing", "no such file or folder", str(path)), exit_code=2)
    return list(found)


def _below(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith(".") and each not in _LEFT_OUT)
        for name in sorted(files):
            path = Path(here, name)
            if path.suffix in _SUFFIXES and path.is_file() and not name.endswith(".lock.hcl"):
                yield path


def read_code(path: Path) -> tuple[Source | None, list[Diagnostic]]:
    """A file taken apart, None where it has nothing to be checked, and what is wrong with it: `code-unreadable`."""
    name = str(path)
    try:
        if not path.is_file():
            return None, [Diagnostic("code-unreadable", "not a file", name)]
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
        if len(content) > BYTES_MAX:
            return None, [Diagnostic("code-unreadable", f"larger than {BYTES_MAX >> 20} MiB", name)]
        text = content.decode("utf-8-sig")
    except OSError as error:
        return None, [Diagnostic("code-unreadable", (error.strerror or str(error)).lower(), name)]
    except UnicodeDecodeError as error:
        return None, [Diagnostic("code-unreadable", f"byte {error.start} is not UTF-8", name)]
    language = _SUFFIXES.get(path.suffix, Language.YAML)
    if language is Language.YAML and text.lstrip()[:1] in ("{", "["):
        language = Language.JSON
    if not HINT.search(text):
        return None, []
    return _apart(path, language, text)


def _apart(path: Path, language: Language, text: str) -> tuple[Source | None, list[Diagnostic]]:
    name, folder = str(path), str(path.parent)
    if language is not Language.JSON:
        read = read_hcl(name, text) if language is Language.HCL else read_yaml(name, text)
        if isinstance(read, Diagnostic):
            return None, [read]
        return Source(name, folder, language, read), []
    document = read_json(text)
    problems = [
        Diagnostic("code-unreadable", fault.message, f"{name}:{fault.place.line}:{fault.place.column}")
        for fault in document.faults
    ]
    return Source(name, folder, language, (of_json(document),)) if document.readable else None, problems

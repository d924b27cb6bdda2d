"""Infrastructure code on disk: which files there are, and their text taken apart."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imdsctl.adapters.hcl_tree import read_expression, read_hcl
from imdsctl.adapters.utf8_text import NotText, decoded
from imdsctl.adapters.yaml_tree import read_yaml
from imdsctl.codify.iac_check import HINT, Source
from imdsctl.codify.iac_model import Language
from imdsctl.codify.iac_modules import Values, local_modules
from imdsctl.codify.iac_tree import Node, Unknown, of_json
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


@dataclass(frozen=True, slots=True)
class Code:
    """What was read: the sources, the values of variables that lie beside them, and what could not be read."""

    sources: tuple[Source, ...]
    values: Values
    problems: tuple[Diagnostic, ...]


def read_all(paths: Iterable[Path], var_files: Sequence[Path] = ()) -> Code:
    """The files that are named or lie in named folders, and what Terraform reads with them: local modules that they
    call, variables and locals in files beside them, values of variables.

    Raises DiagnosticError (exit code 2) `code-missing`.
    """
    files, problems = code_files(paths)
    sources: dict[str, Source] = {}
    seen: set[str] = set()

    def take(path: Path, judged: bool) -> Source | None:
        seen.add(os.path.normpath(path))
        source, found = read_code(path, judged)
        problems.extend(found)
        if source is not None:
            sources[source.file] = source
        return source

    for path in files:
        take(path, True)
    _modules(sources, seen, take)
    folders = list(dict.fromkeys(each.folder for each in sources.values() if each.terraform and each.judged))
    for folder in folders:
        for path in _beside(folder, _TERRAFORM):
            if os.path.normpath(path) not in seen:
                take(path, False)
    of_folder = {folder: tuple(_values(_automatic(folder), problems)) for folder in folders}
    for path in var_files:
        if not path.exists():
            raise DiagnosticError(Diagnostic("code-missing", "no such file", str(path)), exit_code=2)
    named = tuple(_values(var_files, problems))
    return Code(tuple(sources.values()), Values({k: v for k, v in of_folder.items() if v}, named), tuple(problems))


def _modules(sources: dict[str, Source], seen: set[str], take: Callable[[Path, bool], Source | None]) -> None:
    """Read the folders of local modules that are called, and those that these call."""
    waiting = [each for each in sources.values() if each.terraform]
    followed: set[str] = set()
    while waiting:
        source = waiting.pop()
        for document in source.documents:
            for folder in local_modules(source.folder, document):
                if folder in followed or len(followed) >= FOLDERS_MAX:
                    continue
                followed.add(folder)
                for path in _beside(folder, _TERRAFORM):
                    if os.path.normpath(path) not in seen:
                        found = take(path, True)
                        waiting += [found] if found is not None else []


_TERRAFORM = (".tf", ".tf.json")
FOLDERS_MAX = 500


def _beside(folder: str, ends: tuple[str, ...]) -> list[Path]:
    try:
        return sorted(path for path in Path(folder).iterdir() if path.name.endswith(ends) and path.is_file())
    except OSError:
        return []


def _automatic(folder: str) -> list[Path]:
    """The files of values that Terraform reads by itself, the one that wins last."""
    found = [Path(folder, "terraform.tfvars"), Path(folder, "terraform.tfvars.json")]
    return [each for each in found if each.is_file()] + _beside(folder, (".auto.tfvars", ".auto.tfvars.json"))


def _values(paths: Iterable[Path], problems: list[Diagnostic]) -> Iterator[tuple[str, Node]]:
    for path in paths:
        text = _text(path)
        if isinstance(text, Diagnostic):
            problems.append(text)
            continue
        language = Language.JSON if path.suffix == ".json" else Language.HCL
        source, found = _apart(path, language, text)
        problems += found
        if source is not None:
            yield str(path), source.documents[0]


def code_files(paths: Iterable[Path]) -> tuple[list[Path], list[Diagnostic]]:
    """The files that are named, and those of a known kind below the folders that are named, in order; and the folders
    that cannot be looked through.

    Folders whose name begins with a dot, and those of installed packages, are left out. Raises DiagnosticError (exit
    code 2) `code-missing`.
    """
    found: dict[Path, None] = {}
    problems: list[Diagnostic] = []
    for path in paths:
        if path.is_dir():
            found |= dict.fromkeys(_below(path, problems))
        elif os.path.lexists(path):
            found[path] = None
        else:
            raise DiagnosticError(Diagnostic("code-missing", "no such file or folder", str(path)), exit_code=2)
    return list(found), problems


def _below(folder: Path, problems: list[Diagnostic]) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        problems.append(Diagnostic("code-unreadable", _why(error), str(error.filename or folder)))

    for here, folders, files in os.walk(folder, onerror=refused):
        folders[:] = sorted(each for each in folders if not each.startswith(".") and each not in _LEFT_OUT)
        for name in sorted(files):
            path = Path(here, name)
            if path.suffix in _SUFFIXES and not name.endswith(".lock.hcl") and (path.is_file() or path.is_symlink()):
                yield path


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _text(path: Path) -> str | Diagnostic:
    name = str(path)
    try:
        if not path.is_file():
            path.stat()
            return Diagnostic("code-unreadable", "not a file", name)
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        return Diagnostic("code-unreadable", _why(error), name)
    if len(content) > BYTES_MAX:
        return Diagnostic("code-unreadable", f"larger than {BYTES_MAX >> 20} MiB", name)
    try:
        return decoded(content)
    except NotText as error:
        return Diagnostic("code-unreadable", str(error), f"{name}:{error.line}:{error.column}")


def read_code(path: Path, judged: bool = True) -> tuple[Source | None, list[Diagnostic]]:
    """A file taken apart, None where it has nothing to be checked, and what is wrong with it: `code-unreadable`."""
    text = _text(path)
    if isinstance(text, Diagnostic):
        return None, [text]
    language = _SUFFIXES.get(path.suffix, Language.YAML)
    if language is Language.YAML and text.lstrip()[:1] in ("{", "["):
        language = Language.JSON
    terraform = language is Language.HCL or path.name.endswith(".tf.json")
    if not HINT.search(text) and not (terraform and _NAMES.search(text)):
        return None, []
    source, problems = _apart(path, language, text)
    if source is None:
        return None, problems
    return replace(source, terraform=terraform, judged=judged, text=text), problems


_NAMES = re.compile(r'^\s*(variable|locals|module|output)\b|"(variable|locals|module|output)"\s*:', re.MULTILINE)
"""What Terraform's files have that say what names mean."""


def _apart(path: Path, language: Language, text: str) -> tuple[Source | None, list[Diagnostic]]:
    name, folder = str(path), os.path.normpath(path.parent)
    if language is not Language.JSON:
        twice: list[Diagnostic] = []
        read = read_hcl(name, text) if language is Language.HCL else read_yaml(name, text, twice)
        if isinstance(read, Diagnostic):
            return None, [read]
        return Source(name, folder, language, read), twice
    document = read_json(text)
    problems = [
        Diagnostic("code-unreadable", fault.message, f"{name}:{fault.place.line}:{fault.place.column}")
        for fault in document.faults
    ]
    if not document.readable:
        return None, problems
    tree = of_json(document)
    return Source(name, folder, language, (_templates(tree) if name.endswith(".tf.json") else tree,)), problems


_TEMPLATE = re.compile(r"\$\{((?:(?!\$\{).)*)\}", re.DOTALL)
_REFERENCE = re.compile(r"[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)+")


def _templates(node: Node) -> Node:
    """Terraform's JSON: every text is a template."""
    value = node.value
    if isinstance(value, dict):
        return replace(node, value={name: _templates(each) for name, each in value.items()})
    if isinstance(value, tuple):
        return replace(node, value=tuple(map(_templates, value)))
    if not isinstance(value, str) or "${" not in value.replace("$${", ""):
        return node
    whole = _TEMPLATE.fullmatch(value)
    read = read_expression(whole[1]) if whole else None
    if read is not None:
        return Node(read.value, node.line, node.column)
    return replace(node, value=Unknown(tuple(_REFERENCE.findall(value)), _TEMPLATE.sub(" ", value)))

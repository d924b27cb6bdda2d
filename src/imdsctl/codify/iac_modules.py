"""Terraform's folders: what variables and locals stand for in each, and its local modules with what their calls give.

Source: Terraform, "Input Variables" (which value wins), "Local Values", "Modules", "Module Blocks".
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from imdsctl.codify.iac_clusters import of_packer
from imdsctl.codify.iac_model import Language, Resource, Role
from imdsctl.codify.iac_overrides import TerraformFile, over, overridden, overrides
from imdsctl.codify.iac_terraform import child_all, expanded, of_source
from imdsctl.codify.iac_tree import Node, Unknown, child, entries, members, text
from imdsctl.codify.iac_values import Fails, Scope, settled, typed
from imdsctl.domain.diagnostics import Diagnostic

MODULES_MAX = 1_000
"""Calls of modules that are followed, those of modules' modules among them."""
MODULES_DEEP_MAX = 10
_LAUNCHES = (
    *("ami", "ami_id", "image_id", "instance_type", "instance_types", "launch_template", "metadata_options"),
    *("http_tokens", "eks_managed_node_groups", "self_managed_node_groups", "node_groups", "worker_groups"),
)
"""Arguments of a module that launches something, in the modules that are in use."""
_HEADINGS = ("source", "version", "providers", "depends_on", "count", "for_each")


@dataclass(frozen=True, slots=True)
class Values:
    """Values of variables: by folder the files that Terraform reads by itself, and those that are named for the
    command (they win). Of each the name and the content, the one that wins last."""

    of_folder: Mapping[str, tuple[tuple[str, Node], ...]] = field(default_factory=dict)
    named: tuple[tuple[str, Node], ...] = ()


NO_VALUES = Values()


@dataclass(frozen=True, slots=True)
class Written:
    """What the folders launch, and what of them could not be judged. `defaults` are the origins of values that a run
    may be given other ones for; `left_out` is what is not made, with the origin of the value that says so."""

    resources: tuple[Resource, ...]
    failed: tuple[Diagnostic, ...]
    defaults: frozenset[str]
    left_out: tuple[tuple[str, str], ...]


@dataclass
class _Folder:
    files: list[TerraformFile] = field(default_factory=list)
    variables: dict[str, tuple[str, Node]] = field(default_factory=dict)
    locals: dict[str, tuple[str, Node]] = field(default_factory=dict)
    outputs: dict[str, Node] = field(default_factory=dict)
    calls: dict[str, tuple[TerraformFile, Node]] = field(default_factory=dict)


def local_modules(folder: str, root: Node) -> Iterator[str]:
    """The folders of the local modules that a file calls."""
    for _, body in _labelled(root, "module"):
        found = _target(folder, body)
        if found is not None:
            yield found


def _target(folder: str, body: Node) -> str | None:
    source = text(child(body, "source"))
    return posixpath.normpath(posixpath.join(folder, source)) if source.startswith(("./", "../")) else None


def _labelled(root: Node, kind: str) -> Iterator[tuple[str, Node]]:
    for block in entries(child_all(root, kind)):
        for name, body in members(block):
            for each in entries(body):
                if isinstance(each.value, dict):
                    yield name, each


def of_folders(files: Sequence[TerraformFile], values: Values) -> Written:
    """Everything that these folders launch."""
    folders: dict[str, _Folder] = {}
    for each in sorted(overridden(files), key=lambda each: (overrides(each.file), each.judged)):
        folder = folders.setdefault(each.folder, _Folder())
        folder.files.append(each)
        for name, body in _labelled(each.root, "variable"):
            before = folder.variables.get(name) if overrides(each.file) else None
            folder.variables[name] = (each.file, over(before[1], body) if before else body)
        for block in entries(child_all(each.root, "locals")):
            folder.locals |= {name: (each.file, node) for name, node in members(block)}
        folder.outputs |= dict(_labelled(each.root, "output"))
        for name, body in _labelled(each.root, "module"):
            under = folder.calls.get(name) if overrides(each.file) else None
            folder.calls[name] = (each, over(under[1], body) if under else body)
    run = _Run(folders, values)
    called = {
        found for each in folders.values() for file, body in each.calls.values() if (found := _called(file, body))
    }
    for name in folders:
        if name not in called:
            run.root(name)
    # Folders that call each other in a circle.
    for name in folders:
        if name not in run.seen:
            run.root(name)
    return Written(tuple(run.resources), tuple(run.failed), frozenset(run.defaults), tuple(dict.fromkeys(run.left_out)))


def _called(file: TerraformFile, body: Node) -> str | None:
    return _target(file.folder, body) if file.judged else None


class _Run:
    """One walk through all folders."""

    def __init__(self, folders: Mapping[str, _Folder], values: Values) -> None:
        self.folders = folders
        self.values = values
        self.seen: set[str] = set()
        self.resources: list[Resource] = []
        self.failed: list[Diagnostic] = []
        self.defaults: set[str] = set()
        self.left_out: list[tuple[str, str]] = []
        self._modules = 0

    def root(self, name: str) -> None:
        """A folder that a command is run in."""
        given: dict[str, tuple[str, Node]] = {}
        for file, body in (*self.values.of_folder.get(name, ()), *self.values.named):
            given |= {key: (f"var.{key} in {file}:{node.line}", node) for key, node in members(body)}
        self._take(_Module(self, self.folders[name], name, "", given))

    def _take(self, module: _Module) -> None:
        self.seen.add(module.folder_name)
        for each in module.folder.files:
            if not each.judged:
                continue
            try:
                found = [*of_source(module.scope, each.file, each.root, module.address)]
                found += of_packer(each.file, settled(_sources(each.root), module.scope))
                language = Language.JSON if each.file.endswith(".json") else Language.HCL
                self.resources += [replace(one, language=language) for one in found]
            except (AttributeError, TypeError, ValueError, KeyError, RecursionError):
                self._fail(each.file, each.root)
        for name, (file, body) in module.folder.calls.items():
            if file.judged:
                try:
                    self._call(module, name, file, body)
                except (AttributeError, TypeError, ValueError, KeyError, RecursionError):
                    self._fail(file.file, body)

    def _fail(self, file: str, at: Node) -> None:
        place = f"{file}:{at.line}"
        failed = Diagnostic("code-unreadable", "parts of it have another form than expected", place)
        if failed not in self.failed:
            self.failed.append(failed)

    def _call(self, module: _Module, name: str, file: TerraformFile, body: Node) -> None:
        target = _target(file.folder, body)
        if target is None or target not in self.folders:
            self.resources += _outside(module, name, file, body, target)
            return
        self.seen.add(target)
        for child_module in module.calls_of(name):
            self._modules += 1
            if self._modules > MODULES_MAX or child_module.address.count("module.") > MODULES_DEEP_MAX:
                why = f"more than {MODULES_MAX:,} calls of modules, or {MODULES_DEEP_MAX} inside each other"
                self.failed.append(Diagnostic("code-unreadable", why, f"{file.file}:{body.line}:{body.column}"))
                return
            self._take(child_module)


def _sources(root: Node) -> Node:
    """What Packer reads of a file."""
    return replace(root, value={name: each for name, each in root.value.items() if name in ("source", "builders")})


def _outside(module: _Module, name: str, file: TerraformFile, body: Node, target: str | None) -> Iterator[Resource]:
    """A call of a module whose source is not there, if it looks like one that launches something."""
    launching = next((each for each in _LAUNCHES if child(body, each) is not None), None)
    if launching is None:
        return
    source = text(child(body, "source")) or "?"
    why = f"the folder {target} is not there" if target else f"the module `{source}` is not in the code"
    place = Node(None, body.line, body.column)
    address = f"{module.address}module.{name}"
    yield Resource(
        module.scope.name, address, "module", Role.LAUNCH, file.file, place, silence_unknown=True, outside=why
    )


class _Module:
    """A folder with values for its variables: as it is run, or as it is called."""

    def __init__(
        self, run: _Run, folder: _Folder, folder_name: str, address: str, given: Mapping[str, tuple[str, Node]]
    ) -> None:
        self.folder, self.folder_name, self.address = folder, folder_name, address
        self._run = run
        self._given = given
        self._values: dict[tuple[str, str], Node | None] = {}
        self._calls: dict[str, list[_Module]] = {}
        self._open: set[tuple[str, str]] = set()
        name = f"{folder_name}#{address}" if address else folder_name
        self.scope = Scope(self._look, name, left_out=run.left_out)

    def _look(self, root: str, name: str) -> Node | None:
        key = (root, name)
        if key not in self._values:
            if key in self._open:
                raise Fails(f"{root}.{name}, which stands for itself")
            self._open.add(key)
            try:
                self._values[key] = self._found(root, name)
            finally:
                self._open.discard(key)
        return self._values[key]

    def _found(self, root: str, name: str) -> Node | None:
        if root == "var":
            return self._variable(name)
        if root == "local" and name in self.folder.locals:
            file, node = self.folder.locals[name]
            found = settled(node, self.scope)
            return replace(found, origin=found.origin or f"local.{name} in {file}:{node.line}")
        if root == "module" and name in self.folder.calls:
            calls = self.calls_of(name)
            if len(calls) == 1 and child(self.folder.calls[name][1], "for_each") is None:
                outputs = calls[0].folder.outputs
                values = {each: child(body, "value") or Node(None) for each, body in outputs.items()}
                return Node({each: settled(node, calls[0].scope) for each, node in values.items()})
        return None

    def _variable(self, name: str) -> Node:
        declared = self.folder.variables.get(name)
        if declared is None:
            return Node(Unknown(why=f"var.{name}, which is not declared here"))
        file, body = declared
        default = body.value.get("default")
        origin, value = self._given.get(name, ("", None))
        if value is not None and value.value is None and default is not None:
            nullable = child(body, "nullable")
            value = None if nullable is not None and nullable.value is False else value
        if value is None and default is not None:
            origin = f"the default of var.{name} in {file}:{body.line}"
            value = default
            if not self.address:
                self._run.defaults.add(origin)
        if value is None:
            lacking = f"the call of {self.address.rstrip('.')} does not give" if self.address else "has no default"
            return Node(Unknown(why=f"var.{name}, which {lacking}"))
        if isinstance(value.value, Unknown):
            return value
        return replace(typed(value, body.value.get("type")), origin=origin)

    def calls_of(self, name: str) -> list[_Module]:
        """The modules that a call makes; none where it is switched off, or not in the code."""
        if name not in self._calls:
            self._calls[name] = list(self._made(name))
        return self._calls[name]

    def _made(self, name: str) -> Iterator[_Module]:
        file, body = self.folder.calls[name]
        target = _target(file.folder, body)
        if target is None or target not in self._run.folders:
            return
        for key, one in expanded(body, self.scope, f"{self.address}module.{name}"):
            address = f"{self.address}module.{name}{key}."
            given: dict[str, tuple[str, Node]] = {}
            for argument, node in members(one):
                if argument not in _HEADINGS:
                    set_at = f"var.{argument} of {address.rstrip('.')} in {file.file}:{node.line}"
                    given[argument] = (node.origin or set_at, node)
            yield _Module(self._run, self._run.folders[target], target, address, given)

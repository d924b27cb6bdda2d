"""`imdsctl check`: which language a document is, what it says, and what that comes to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from imdsctl.codify.findings import CodeFinding
from imdsctl.codify.iac_cloudformation import of_launch_template, of_template
from imdsctl.codify.iac_clusters import of_manifest, of_packer, with_variables
from imdsctl.codify.iac_judge import Judge
from imdsctl.codify.iac_model import Language, Resource
from imdsctl.codify.iac_modules import NO_VALUES, Values, of_folders
from imdsctl.codify.iac_overrides import TerraformFile
from imdsctl.codify.iac_rests import rests_on
from imdsctl.codify.iac_terraform import of_plan
from imdsctl.codify.iac_tree import Node, filled_in_later, text
from imdsctl.codify.iac_world import World
from imdsctl.domain.diagnostics import Diagnostic

HINT = re.compile(
    r"AWS::|aws_|LaunchTemplateData|MetadataOptions|amazon-(ebs|instance)|EC2NodeClass|AWSNodeTemplate|InstanceGroup|ClusterConfig"
    r"|resource_changes|planned_values|\"ImageId\"|\"InstanceType\""
)
"""A text without any of these has nothing to be checked, however it is written."""
_LAUNCH_TEMPLATE = {"LaunchTemplateData", "LaunchTemplateVersions", "MetadataOptions", "ImageId", "InstanceType"}
_PLAN_VERSION = re.compile(r"1\.\d+")


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was taken apart into documents. `folder` is the scope of Terraform's names.

    `terraform`: it is Terraform's or Packer's source, in whichever form. Not `judged`: it only says what names mean.
    """

    file: str
    folder: str
    language: Language
    documents: tuple[Node, ...]
    terraform: bool = False
    judged: bool = True
    text: str = ""


@dataclass(frozen=True, slots=True)
class CheckedCode:
    """`recognized` are the files that are of a language and kind this check knows."""

    findings: tuple[CodeFinding, ...]
    unread: tuple[Diagnostic, ...]
    recognized: tuple[str, ...]
    resources: int
    rests_on: tuple[str, ...] = ()
    """What else would change an answer of which nothing else speaks: sentences."""


def check_code(sources: Iterable[Source], world: World, values: Values = NO_VALUES) -> CheckedCode:
    """Judge everything that the sources launch, together: names of one Terraform folder go across its files, and a
    module is judged with what its calls give it. `values` are those of variables."""
    resources: list[Resource] = []
    unread: list[Diagnostic] = []
    recognized: list[str] = []
    terraform: list[TerraformFile] = []
    texts: dict[str, str] = {}
    for source in sources:
        texts[source.file] = source.text
        if source.terraform:
            terraform += [TerraformFile(source.file, source.folder, each, source.judged) for each in source.documents]
            recognized += [source.file] if source.judged else []
            continue
        for document in source.documents:
            try:
                made = _resources(source, document)
            except (AttributeError, TypeError, ValueError, RecursionError):
                place = f"{source.file}:{document.line}"
                unread.append(Diagnostic("code-unreadable", "parts of it have another form than expected", place))
                continue
            if isinstance(made, Diagnostic):
                unread.append(made)
            elif made is not None:
                resources.extend(_as_written(each, source.language) for each in made)
                recognized.append(source.file)
    written = of_folders(terraform, values)
    resources += written.resources
    unread += written.failed
    judge = Judge(tuple(resources), world, texts)
    findings: dict[CodeFinding, None] = {}
    silent: list[Resource] = []
    for each in resources:
        found = dict.fromkeys(judge.findings(each))
        findings |= found
        silent += [] if found else [each]
    rests = tuple(rests_on(judge, silent, written, world))
    ordered = sorted(findings, key=lambda each: (each.file, each.line, each.column, each.rule.id))
    return CheckedCode(tuple(ordered), tuple(unread), tuple(dict.fromkeys(recognized)), len(resources), rests)


def _as_written(each: Resource, language: Language) -> Resource:
    """A plan is not where to correct it: what is to be written there is HCL."""
    return each if each.generated else replace(each, language=language)


def _resources(source: Source, root: Node) -> tuple[Resource, ...] | Diagnostic | None:
    """The resources of a document; None where it is not infrastructure code."""
    file, keys = source.file, root.value if isinstance(root.value, dict) else {}
    if "resource_changes" in keys or "planned_values" in keys or "terraform_version" in keys:
        version = text(keys.get("format_version"))
        if not _PLAN_VERSION.fullmatch(version):
            summary = f"a Terraform plan of format `{version or 'unknown'}`; 1.x is read"
            hint = "write it anew with `terraform show -json`"
            place = keys.get("format_version", root)
            return Diagnostic("code-plan-version", summary, f"{file}:{place.line}:{place.column}", hint)
        if "resource_changes" not in keys:
            summary = "no `resource_changes`: a state, or a plan that was cut"
            return Diagnostic("code-unreadable", summary, f"{file}:{root.line}", "show a plan file, not a state")
        return tuple(of_plan(file, root))
    if "builders" in keys:
        return tuple(of_packer(file, filled_in_later(with_variables(root))))
    root = filled_in_later(root)
    if "Resources" in keys:
        return tuple(of_template(file, root))
    if "apiVersion" in keys and "kind" in keys:
        return tuple(of_manifest(file, root)) or None
    return tuple(of_launch_template(file, root)) if _LAUNCH_TEMPLATE & keys.keys() else None

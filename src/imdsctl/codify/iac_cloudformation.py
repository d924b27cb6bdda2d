"""CloudFormation templates, CDK's included, and the bodies of launch templates.

Source: CloudFormation Template Reference, the resource types named here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from imdsctl.codify.iac_model import PASCAL, Resource, Role, Spelling, containers_in, named, options_of, texts
from imdsctl.codify.iac_terraform import EMR, OPTIONAL, emr_setting, version_setting
from imdsctl.codify.iac_tree import Node, Unknown, child, entries, members, text, words

OPTIONS = Spelling("MetadataOptions", PASCAL)
_NOTEBOOK = Spelling(
    "InstanceMetadataServiceConfiguration", {"http_tokens": "MinimumInstanceMetadataServiceVersion"}, "2"
)
_BUILDER = Spelling("InstanceMetadataOptions", PASCAL)
SETTING = "MetadataOptions: {HttpTokens: required}"


def settled(node: Node) -> Node:
    """The tree with every intrinsic function as an unknown value that knows the names in it."""
    if isinstance(node.value, tuple):
        return replace(node, value=tuple(map(settled, node.value)))
    if not isinstance(node.value, dict):
        return node
    if len(node.value) == 1:
        name, inner = next(iter(node.value.items()))
        if name.startswith("Fn::") or name == "Ref":
            return replace(node, value=Unknown(tuple(_names(name, inner)), " ".join(words(inner))))
    return replace(node, value={name: settled(each) for name, each in node.value.items()})


def _names(function: str, inner: Node) -> Iterator[str]:
    if function == "Ref" and isinstance(inner.value, str):
        yield inner.value
    elif function == "Fn::GetAtt":
        first = entries(inner)[0].value if entries(inner) else ""
        if isinstance(first, str):
            yield first.partition(".")[0]


def of_template(file: str, root: Node) -> Iterator[Resource]:
    """The resources of a template."""
    for name, each in members(child(root, "Resources")):
        properties = child(each, "Properties") or Node({}, each.line, each.column)
        place = Node(None, each.line, each.column)
        inside = child(each, "Properties")
        base = Resource(file, name, text(child(each, "Type")), Role.LAUNCH, file, place, setting=SETTING, inside=inside)
        yield from _resource(base, settled(properties))


def _resource(base: Resource, body: Node) -> Iterator[Resource]:
    kind = base.type.removeprefix("AWS::")
    if kind == "EC2::LaunchTemplate":
        made = template_data(base, child(body, "LaunchTemplateData") or Node({}))
        yield replace(made, aliases=texts(body, "LaunchTemplateName"))
    elif kind == "EC2::Instance":
        use = child(body, "LaunchTemplate")
        made = replace(template_data(base, body), role=Role.LAUNCH)
        yield replace(made, template=_specification(use), template_version=_version(use))
    elif kind == "AutoScaling::LaunchConfiguration":
        names = texts(body, "LaunchConfigurationName")
        yield replace(template_data(base, body), role=Role.CONFIGURATION, aliases=names)
    elif kind == "AutoScaling::AutoScalingGroup":
        mixed = child(body, "MixedInstancesPolicy", "LaunchTemplate")
        uses = [child(body, "LaunchTemplate"), child(mixed, "LaunchTemplateSpecification")]
        uses += [child(each, "LaunchTemplateSpecification") for each in entries(child(mixed, "Overrides"))]
        for use in filter(None, uses):
            yield replace(base, template=_specification(use), template_version=_version(use))
        configuration = child(body, "LaunchConfigurationName")
        if configuration is not None:
            yield replace(base, template=configuration)
    elif kind in ("EC2::SpotFleet", "EC2::EC2Fleet"):
        data = child(body, "SpotFleetRequestConfigData") if kind == "EC2::SpotFleet" else body
        for each in entries(child(data, "LaunchTemplateConfigs")):
            use = child(each, "LaunchTemplateSpecification")
            yield replace(base, template=_specification(use), template_version=_version(use), setting="")
        for each in entries(child(data, "LaunchSpecifications")):
            image = child(each, "ImageId")
            yield replace(base, place=replace(each, value=None), image=image, setting="")
    elif kind == "EKS::Nodegroup":
        use = child(body, "LaunchTemplate")
        made = replace(base, containers="an EKS node group uses it", setting="", silence_unknown=use is None)
        yield replace(made, template=_specification(use), template_version=_version(use))
    elif kind == "SageMaker::NotebookInstance":
        block = child(body, "InstanceMetadataServiceConfiguration")
        said = version_setting(child(block, "MinimumInstanceMetadataServiceVersion"))
        setting = 'InstanceMetadataServiceConfiguration: {MinimumInstanceMetadataServiceVersion: "2"}'
        made = replace(base, role=Role.SERVICE, said=said, built_in=OPTIONAL, setting=setting)
        yield replace(made, spelling=_NOTEBOOK, block=block)
    elif kind == "ImageBuilder::InfrastructureConfiguration":
        block = child(body, "InstanceMetadataOptions")
        setting = "InstanceMetadataOptions: {HttpTokens: required}"
        made = replace(base, role=Role.SERVICE, said=options_of(block), built_in=OPTIONAL, setting=setting)
        yield replace(made, spelling=_BUILDER, block=block)
    elif kind == "EMR::SecurityConfiguration":
        setting = "InstanceMetadataServiceConfiguration: {MinimumInstanceMetadataServiceVersion: 2}"
        said = emr_setting(child(body, "SecurityConfiguration"))
        made = replace(base, role=Role.SERVICE, said=said, silence_unknown=True, setting=setting)
        yield replace(made, spelling=EMR, inside=None)


def _version(use: Node | None) -> Node | None:
    return None if use is None else named(use, "Version")


def _specification(node: Node | None) -> Node | None:
    if node is None or node.unknown:
        return node
    return named(node, "LaunchTemplateId", "LaunchTemplateName", "Id", "Name") or replace(node, value=Unknown())


def template_data(base: Resource, body: Node) -> Resource:
    """A launch template's data, or the like-named properties of an instance."""
    return replace(
        base,
        role=Role.TEMPLATE,
        said=options_of(child(body, "MetadataOptions")),
        spelling=OPTIONS,
        inside=Node(None, body.line, body.column),
        block=child(body, "MetadataOptions"),
        image=child(body, "ImageId"),
        containers=containers_in(child(body, "UserData")),
    )


def of_launch_template(file: str, root: Node) -> Iterator[Resource]:
    """LaunchTemplateData, alone or as `get-launch-template-data` and `describe-launch-template-versions` give it."""
    versions = root.value.get("LaunchTemplateVersions") if isinstance(root.value, dict) else None
    for each in entries(versions) if versions is not None else (root,):
        body = child(each, "LaunchTemplateData") or each
        name = text(named(each, "LaunchTemplateName", "LaunchTemplateId")) or "launch template"
        place = Node(None, body.line, body.column)
        setting = '"MetadataOptions": {"HttpTokens": "required"}'
        yield template_data(
            Resource(file, name, "LaunchTemplateData", Role.TEMPLATE, file, place, setting=setting), body
        )

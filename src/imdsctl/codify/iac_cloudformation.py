"""CloudFormation templates, CDK's included, and the bodies of launch templates.

Source: CloudFormation Template Reference, the resource types named here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from imdsctl.codify.iac_model import PASCAL, Resource, Role, Spelling, containers_in, named, options_of, texts
from imdsctl.codify.iac_terraform import (
    EMR,
    OPTIONAL,
    beanstalk,
    child_all,
    emr_setting,
    version_setting,
)
from imdsctl.codify.iac_tree import Node, Unknown, child, entries, mapped, members, text, words

OPTIONS = Spelling("MetadataOptions", PASCAL)
_NOTEBOOK = Spelling(
    "InstanceMetadataServiceConfiguration", {"http_tokens": "MinimumInstanceMetadataServiceVersion"}, "2"
)
_BUILDER = Spelling("InstanceMetadataOptions", PASCAL)
SETTING = "MetadataOptions: {HttpTokens: required}"


def settled(node: Node) -> Node:
    """The tree with every intrinsic function as an unknown value that knows the names in it."""
    return mapped(node, _intrinsic)


def _intrinsic(node: Node) -> Node | None:
    if not isinstance(node.value, dict) or len(node.value) != 1:
        return None
    name, inner = next(iter(node.value.items()))
    if name == "Ref" and inner.value == "AWS::NoValue":
        return replace(node, value=None)
    if not name.startswith("Fn::") and name != "Ref":
        return None
    why = f"{name} `{inner.value}`" if isinstance(inner.value, str) else f"{name}, which is not followed here"
    return replace(node, value=Unknown(tuple(_names(name, inner)), " ".join(words(inner)), why=why))


def _names(function: str, inner: Node) -> Iterator[str]:
    if function == "Ref" and isinstance(inner.value, str):
        yield inner.value
    elif function == "Fn::GetAtt":
        first = entries(inner)[0].value if entries(inner) else ""
        if isinstance(first, str):
            yield first.partition(".")[0]


def of_template(file: str, root: Node) -> Iterator[Resource]:
    """The resources of a template."""
    yield from _resources_of(file, child(root, "Resources"))


def _resources_of(file: str, resources: Node | None) -> Iterator[Resource]:
    for name, each in members(resources):
        if name.startswith("Fn::ForEach::"):
            # The loop's name, what it goes over, and the resources: once for all of them.
            for body in entries(each)[2:]:
                yield from _resources_of(file, body)
            continue
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
    elif kind in ("ElasticBeanstalk::Environment", "ElasticBeanstalk::ConfigurationTemplate"):
        yield beanstalk(base, entries(child_all(body, "OptionSettings")), "OptionName", "Value")
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
        said=_included(body, child(body, "MetadataOptions")),
        spelling=OPTIONS,
        inside=Node(None, body.line, body.column),
        block=child(body, "MetadataOptions"),
        image=child(body, "ImageId"),
        containers=containers_in(child(body, "UserData")),
    )


_MACRO = "Fn::Transform"


def _included(body: Node, block: Node | None) -> dict[str, Node]:
    """The options; what a macro beside them may put in is unknown."""
    said = options_of(block)
    for where in (body, block):
        macro = where.value.get(_MACRO) if where is not None and isinstance(where.value, dict) else None
        if macro is not None:
            unknown = replace(macro, value=Unknown(why=f"{_MACRO}, which a run resolves"))
            said = {**options_of(unknown), **said}
    return said


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

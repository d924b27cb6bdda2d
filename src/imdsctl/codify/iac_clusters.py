"""Manifests of clusters: Karpenter, kops, eksctl, and Packer's templates.

Source: Karpenter, "NodeClasses" (v1: absent `metadataOptions` are HttpTokens required, hop limit 1; v1beta1, and the
AWSNodeTemplate before it: hop limit 2); kops, "Instance Group Resource"; eksctl, "Config file schema"; Packer, "Amazon
EBS builder", "User Variables".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from imdsctl.codify.iac_model import CAMEL, SNAKE, Resource, Role, Spelling, named, options_of
from imdsctl.codify.iac_tree import Node, child, entries, mapped, members, text
from imdsctl.domain.options import HttpTokens, MetadataOptions, Switch

_KARPENTER = Spelling("metadataOptions", CAMEL)
_KOPS = Spelling("instanceMetadata", CAMEL)
_EKSCTL = Spelling("", {"http_tokens": "disableIMDSv1"}, True)
_PACKER_OPTIONS = Spelling("metadata_options", SNAKE)
_REQUIRED = HttpTokens.REQUIRED
_PACKER = ("amazon-ebs", "amazon-ebssurrogate", "amazon-ebsvolume", "amazon-instance")


def of_manifest(file: str, root: Node) -> Iterator[Resource]:
    """One document of a manifest; nothing where it is of another kind."""
    kind, version = text(child(root, "kind")), text(child(root, "apiVersion"))
    name = text(child(root, "metadata", "name")) or kind
    spec = child(root, "spec")
    place = Node(None, (spec or root).line, (spec or root).column)
    base = Resource(file, name, kind, Role.SERVICE, file, place, containers="it is a Kubernetes node")
    if kind == "List":
        for each in entries(root.value.get("items")):
            yield from of_manifest(file, each)
    elif kind in ("EC2NodeClass", "AWSNodeTemplate") and version.startswith("karpenter"):
        hop = 1 if version.endswith("/v1") else 2
        silent = MetadataOptions(_REQUIRED, hop, Switch.ENABLED)
        block = child(spec, "metadataOptions")
        made = replace(base, built_in=silent, setting="metadataOptions: {httpTokens: required}")
        yield replace(made, said=options_of(block), spelling=_KARPENTER, inside=spec, block=block)
    elif kind == "InstanceGroup" and version.startswith("kops"):
        block = child(spec, "instanceMetadata")
        made = replace(base, silence_unknown=True, setting="instanceMetadata: {httpTokens: required}")
        yield replace(made, said=options_of(block), spelling=_KOPS, inside=spec, block=block)
    elif kind == "ClusterConfig" and version.startswith("eksctl.io"):
        for key in ("nodeGroups", "managedNodeGroups"):
            groups = child(root, key)
            for each in entries(root.value.get(key)) if groups is not None else ():
                yield _eksctl(base, each)


def _eksctl(base: Resource, group: Node) -> Resource:
    said: dict[str, Node] = {}
    disabled = child(group, "disableIMDSv1")
    if disabled is not None:
        value = disabled.value
        said["http_tokens"] = replace(disabled, value={True: "required", False: "optional"}.get(value, value))
    template = child(group, "launchTemplate", "id")
    return replace(
        base,
        address=text(child(group, "name")) or base.address,
        place=Node(None, group.line, group.column),
        role=Role.LAUNCH,
        said=said,
        template=template,
        template_version=child(group, "launchTemplate", "version"),
        silence_unknown=template is None,
        containers="" if _true(child(group, "disablePodIMDS")) else base.containers,
        setting="disableIMDSv1: true",
        spelling=_EKSCTL,
        block=group,
    )


def _true(node: Node | None) -> bool:
    return node is not None and node.value is True


_USER = re.compile(r"\{\{\s*user\s+[`'\"]([^`'\"]+)[`'\"]\s*\}\}")


def with_variables(root: Node) -> Node:
    """A JSON template of Packer with the defaults of its user variables, where a text is nothing but one."""
    defaults = dict(members(child(root, "variables")))

    def filled(node: Node) -> Node | None:
        found = _USER.fullmatch(node.value) if isinstance(node.value, str) else None
        default = defaults.get(found[1]) if found else None
        if found is None or default is None or default.value is None or "{{" in str(default.value):
            return None
        return replace(node, value=default.value, origin=f"the default of the variable `{found[1]}`")

    return mapped(root, filled)


def of_packer(file: str, root: Node) -> Iterator[Resource]:
    """Packer's builders (JSON) and sources (HCL2): the machine that builds, and the image that comes out."""
    for each in entries(root.value.get("builders")):
        kind = text(child(each, "type"))
        yield from _builder(file, kind, text(child(each, "name")) or kind, each)
    for block in entries(root.value.get("source")):
        for kind, by_name in members(block):
            for name, body in members(by_name):
                for each in entries(body):
                    yield from _builder(file, kind, f"{kind}.{name}", each)


def _builder(file: str, kind: str, name: str, body: Node) -> Iterator[Resource]:
    if kind not in _PACKER:
        return
    setting = 'metadata_options { http_tokens = "required" }'
    base = Resource(file, name, kind, Role.LAUNCH, file, Node(None, body.line, body.column), setting=setting)
    block = child(body, "metadata_options")
    built = replace(base, spelling=_PACKER_OPTIONS, inside=body, block=block)
    yield replace(built, said=options_of(block), image=named(body, "source_ami"))
    yield replace(base, role=Role.IMAGE, imds_support=child(body, "imds_support"))

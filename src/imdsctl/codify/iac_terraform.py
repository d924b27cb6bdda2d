"""Terraform: source (as blocks) and plans (`terraform show -json`, format 1.x).

Source: Terraform, "JSON Output Format"; the AWS provider's documentation of the resources.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from imdsctl.codify.iac_model import SNAKE, Resource, Role, Spelling, containers_in, named, options_of, texts
from imdsctl.codify.iac_tree import Node, Unknown, child, entries, members, of_json, text
from imdsctl.codify.iac_values import Scope, pairs_of, settled
from imdsctl.codify.json_places import read_json
from imdsctl.domain.options import HttpTokens, MetadataOptions

_ROLES = {
    "aws_instance": Role.LAUNCH,
    "aws_spot_instance_request": Role.LAUNCH,
    "aws_launch_template": Role.TEMPLATE,
    "aws_launch_configuration": Role.CONFIGURATION,
    "aws_ec2_instance_metadata_defaults": Role.DEFAULTS,
    "aws_ami": Role.IMAGE,
}
OPTIONAL = MetadataOptions(http_tokens=HttpTokens.OPTIONAL, http_put_response_hop_limit=1)
SETTING = 'metadata_options { http_tokens = "required" }'
OPTIONS = Spelling("metadata_options", SNAKE)
_DEFAULTS = Spelling("", SNAKE)
_NOTEBOOK = Spelling(
    "instance_metadata_service_configuration", {"http_tokens": "minimum_instance_metadata_service_version"}, "2"
)
_BUILDER = Spelling("instance_metadata_options", SNAKE)
EMR = Spelling(
    "InstanceMetadataServiceConfiguration",
    {
        "http_tokens": "MinimumInstanceMetadataServiceVersion",
        "http_put_response_hop_limit": "HttpPutResponseHopLimit",
    },
    2,
)
_INDEX = re.compile(r"\[[^\]]*\]")
_VERSIONS = {"1": "optional", "2": "required"}


def version_setting(node: Node | None) -> dict[str, Node]:
    """A minimum version of IMDS as HttpTokens."""
    if node is None:
        return {}
    if node.unknown:
        return {"http_tokens": node}
    return {"http_tokens": replace(node, value=_VERSIONS.get(str(node.value), node.value))}


def emr_setting(document: Node | None) -> dict[str, Node]:
    """What an EMR security configuration says; `document` is an object, JSON text, or unknown."""
    if document is not None and isinstance(document.value, str):
        read = read_json(document.value)
        document = replace(of_json(read), line=document.line) if read.readable else replace(document, value=Unknown())
        where = document
        block = child(document, "InstanceMetadataServiceConfiguration")
        found = _emr(block)
        return {name: replace(node, line=where.line, column=where.column) for name, node in found.items()}
    return _emr(child(document, "InstanceMetadataServiceConfiguration"))


def _emr(block: Node | None) -> dict[str, Node]:
    said = version_setting(child(block, "MinimumInstanceMetadataServiceVersion"))
    hop = child(block, "HttpPutResponseHopLimit")
    return said | ({"http_put_response_hop_limit": hop} if hop is not None else {})


_BEANSTALK = "DisableIMDSv1 = true (namespace aws:autoscaling:launchconfiguration)"
_DISABLED = {"true": "required", "false": "optional"}


def beanstalk(base: Resource, options: Iterable[Node], name: str, value: str) -> Resource:
    """An Elastic Beanstalk environment: what it says in one of its options, each of a name and a value. What silence
    means depends on its platform."""
    made = replace(base, role=Role.SERVICE, silence_unknown=True, setting=_BEANSTALK, spelling=Spelling("", {}))
    for each in options:
        found = child(each, value)
        if text(child(each, name)) == "DisableIMDSv1" and found is not None:
            said = (
                found if found.unknown else replace(found, value=_DISABLED.get(str(found.value).lower(), found.value))
            )
            spelling = Spelling("", {"http_tokens": value}, "true")
            return replace(made, said={"http_tokens": said}, block=each, spelling=spelling)
    return made


def resource(scope: str, file: str, kind: str, address: str, body: Node) -> Iterator[Resource]:
    """What one resource says. `body` are its arguments."""
    base = Resource(scope, address, kind, Role.LAUNCH, file, body, setting=SETTING, inside=body)
    if kind in _ROLES:
        block = child(body, "metadata_options")
        defaults = _ROLES[kind] is Role.DEFAULTS
        said = options_of(body if defaults else block)
        yield replace(
            base,
            spelling=_DEFAULTS if defaults else OPTIONS,
            block=body if defaults else block,
            role=_ROLES[kind],
            said=said,
            template=named(child(body, "launch_template"), "id", "name"),
            template_version=child(body, "launch_template", "version"),
            image=named(body, "ami", "image_id"),
            imds_support=child(body, "imds_support"),
            containers=containers_in(named(body, "user_data", "user_data_base64")),
            aliases=texts(body, "id", "name"),
        )
    elif kind == "aws_sagemaker_notebook_instance":
        block = child(body, "instance_metadata_service_configuration")
        setting = 'instance_metadata_service_configuration { minimum_instance_metadata_service_version = "2" }'
        said = version_setting(child(block, "minimum_instance_metadata_service_version"))
        made = replace(base, role=Role.SERVICE, said=said, built_in=OPTIONAL, setting=setting)
        yield replace(made, spelling=_NOTEBOOK, block=block)
    elif kind == "aws_imagebuilder_infrastructure_configuration":
        block = child(body, "instance_metadata_options")
        said = options_of(block)
        setting = 'instance_metadata_options { http_tokens = "required" }'
        made = replace(base, role=Role.SERVICE, said=said, built_in=OPTIONAL, setting=setting)
        yield replace(made, spelling=_BUILDER, block=block)
    elif kind == "aws_emr_security_configuration":
        setting = '"InstanceMetadataServiceConfiguration": {"MinimumInstanceMetadataServiceVersion": 2}'
        said = emr_setting(child(body, "configuration"))
        made = replace(base, role=Role.SERVICE, said=said, silence_unknown=True, setting=setting)
        yield replace(made, spelling=replace(EMR, json=True), inside=None)
    elif kind in ("aws_elastic_beanstalk_environment", "aws_elastic_beanstalk_configuration_template"):
        yield beanstalk(base, entries(child_all(body, "setting")), "name", "value")
    else:
        yield from _users(replace(base, setting=""), body)


def _users(base: Resource, body: Node) -> Iterator[Resource]:
    """What launches from a template or a configuration that stands elsewhere."""
    if base.type == "aws_eks_node_group":
        template = child(body, "launch_template")
        if template is not None:
            made = replace(base, template_version=child(template, "version"), containers="an EKS node group uses it")
            yield replace(made, template=named(template, "id", "name"))
        else:
            yield replace(base, silence_unknown=True, containers="it is an EKS node group")
    elif base.type == "aws_autoscaling_group":
        mixed = child(body, "mixed_instances_policy", "launch_template")
        uses = [child(body, "launch_template"), child(mixed, "launch_template_specification")]
        uses += [child(each, "launch_template_specification") for each in entries(child(mixed, "override"))]
        for use in uses:
            if use is not None:
                yield _use(base, use, "launch_template_id", "id", "launch_template_name", "name")
        configuration = child(body, "launch_configuration")
        if configuration is not None:
            yield replace(base, template=configuration)
    elif base.type == "aws_ec2_fleet":
        for each in entries(child(body, "launch_template_config")):
            use = child(each, "launch_template_specification")
            if use is not None:
                yield _use(base, use, "launch_template_id", "launch_template_name")
    elif base.type == "aws_spot_fleet_request":
        for each in entries(child(body, "launch_template_config")):
            use = child(each, "launch_template_specification")
            if use is not None:
                yield _use(base, use, "id", "name")
        for each in entries(child(body, "launch_specification")):
            yield replace(base, place=each, image=child(each, "ami"))


def _use(base: Resource, use: Node, *names: str) -> Resource:
    found = use if use.unknown else named(use, *names)
    version = child(use, "version")
    return replace(base, template=found or replace(use, value=Unknown()), template_version=version)


INSTANCES_MAX = 200
"""Of one block: of more, what `each` is counts as unknown."""


def of_source(scope: Scope, file: str, root: Node, prefix: str = "") -> Iterator[Resource]:
    """The resources of a source file: `{"resource": {TYPE: {NAME: body}}}`, once for each block, and once for each
    member of a `for_each` that is known. `prefix` is the address of the module."""
    for block in entries(child_all(root, "resource")):
        for kind, by_name in members(block):
            for name, body in members(by_name):
                for each in entries(body):
                    for key, one in expanded(each, scope, f"{prefix}{kind}.{name}"):
                        for made in resource(scope.name, file, kind, f"{prefix}{kind}.{name}{key}", one):
                            yield replace(made, aliases=(*made.aliases, f"{kind}.{name}{key}", f"{kind}.{name}"))


def expanded(body: Node, scope: Scope, address: str) -> Iterator[tuple[str, Node]]:
    """What a block comes to: key (as in an address) and body of each of its instances."""
    said = child(body, "for_each")
    over = settled(said, scope) if said is not None else None
    pairs = pairs_of(over) if over is not None else None
    if over is None or pairs is None or len(pairs) > INSTANCES_MAX:
        one = settled(body, scope)
        count = child(one, "count")
        if count is not None and count.value == 0:
            scope.left_out.append((address, count.origin))
        else:
            yield "", one
        return
    if not pairs:
        scope.left_out.append((address, over.origin))
    for key, value in pairs:
        bound = Node({"key": key, "value": value})
        yield f'["{key.value}"]', settled(body, scope.binding(each=bound))


def child_all(root: Node, name: str) -> Node | None:
    """A member, lists kept as they are."""
    return root.value.get(name) if isinstance(root.value, dict) else None


def of_plan(file: str, root: Node) -> Iterator[Resource]:
    """The resources that a plan creates, changes or leaves."""
    configured = dict(_configured(child(root, "configuration", "root_module"), ""))
    for change in entries(child_all(root, "resource_changes")):
        after = child(change, "change", "after")
        if after is None or text(child(change, "mode")) == "data":
            continue
        address = text(child(change, "address"))
        expressions = configured.get(_INDEX.sub("", address))
        known = expressions is not None
        unknown = child(change, "change", "after_unknown")
        module = address.rpartition(f"{text(child(change, 'type'))}.")[0]
        merged = _overlay(after, unknown, expressions, known, _INDEX.sub("", module)) or after
        for each in resource(file, file, text(child(change, "type")), address, merged):
            yield replace(each, generated=True)


def _configured(module: Node | None, prefix: str) -> Iterator[tuple[str, Node]]:
    for each in entries(child_all(module, "resources") if module else None):
        yield prefix + text(child(each, "address")), child(each, "expressions") or Node({})
    for name, call in members(child(module, "module_calls")):
        yield from _configured(child(call, "module"), f"{prefix}module.{name}.")


def _overlay(after: Node | None, unknown: Node | None, said: Node | None, known: bool, module: str) -> Node | None:
    """`after` with what is unknown marked. Unknown and not said in the configuration is only computed: silent."""
    if unknown is not None and unknown.value is True:
        if known and said is None:
            return None
        refers = tuple(module + text(each) for each in entries(child_all(said, "references") if said else None))
        return Node(Unknown(refers), unknown.line, unknown.column)
    if unknown is None or (after is None and not isinstance(unknown.value, (dict, tuple))):
        return after
    if isinstance(unknown.value, dict):
        old: Mapping[str, Node] = after.value if after is not None and isinstance(after.value, dict) else {}
        merged = {
            name: found
            for name in [*old, *(each for each in unknown.value if each not in old)]
            if (found := _overlay(old.get(name), unknown.value.get(name), _member(said, name), known, module))
        }
        place = after or unknown
        return Node(merged, place.line, place.column)
    if isinstance(unknown.value, tuple):
        olds = after.value if after is not None and isinstance(after.value, tuple) else ()
        blocks = said.value if said is not None and isinstance(said.value, tuple) else (said,)
        listed = []
        for number in range(max(len(olds), len(unknown.value))):
            one = olds[number] if number < len(olds) else None
            mark = unknown.value[number] if number < len(unknown.value) else None
            found = _overlay(one, mark, blocks[number] if number < len(blocks) else None, known, module)
            if found is not None:
                listed.append(found)
        place = after or unknown
        return Node(tuple(listed), place.line, place.column)
    return after


def _member(said: Node | None, name: str) -> Node | None:
    return said.value.get(name) if said is not None and isinstance(said.value, dict) else None

"""What infrastructure code says about IMDS, in one form for all languages."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from imdsctl.codify.iac_tree import Node, Unknown, child, members, text, words
from imdsctl.domain.options import MetadataOptions

FIELDS = {
    "httptokens": "http_tokens",
    "httpputresponsehoplimit": "http_put_response_hop_limit",
    "httpendpoint": "http_endpoint",
}
"""The options that are judged, by their name in any spelling."""


class Role(StrEnum):
    """What a resource has to do with a launch."""

    LAUNCH = "launch"
    TEMPLATE = "launch template"
    CONFIGURATION = "launch configuration"
    SERVICE = "setting"
    """A setting of another service: the Region default does not reach it."""
    DEFAULTS = "Region default"
    IMAGE = "image"


class Language(StrEnum):
    """What a file is written in."""

    HCL = "hcl"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a kind of resource spells its options: the name of the block (empty: there is none), the names of the options
    by the names here, and what stands for `required`. `json`: it stands in JSON in a text, whatever is around it."""

    block: str
    names: Mapping[str, str]
    required: Any = "required"
    json: bool = False


SNAKE = {name: name for name in ("http_tokens", "http_put_response_hop_limit", "http_endpoint")}
PASCAL = {
    "http_tokens": "HttpTokens",
    "http_put_response_hop_limit": "HttpPutResponseHopLimit",
    "http_endpoint": "HttpEndpoint",
}
CAMEL = {name: f"{each[0].lower()}{each[1:]}" for name, each in PASCAL.items()}


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of the code.

    `scope` is where its `address` is valid: a folder for Terraform, else the file. `said` holds the options that it
    says itself. `template` and `image` are what it names, or None. `containers` says why containers run on it.
    """

    scope: str
    address: str
    type: str
    role: Role
    file: str
    place: Node
    said: Mapping[str, Node] = field(default_factory=dict)
    template: Node | None = None
    template_version: Node | None = None
    """Which version it names; None: the default one."""
    image: Node | None = None
    imds_support: Node | None = None
    containers: str = ""
    built_in: MetadataOptions | None = None
    """What silence means to a service that does not leave it to EC2; None: EC2's precedence."""
    silence_unknown: bool = False
    """Silence means different things in different releases of the tool."""
    outside: str = ""
    """What it is made of is not in the code; why."""
    aliases: tuple[str, ...] = ()
    """Its id and name at AWS, where the code knows them."""
    setting: str = ""
    """How the code spells HttpTokens=required, for the remedy."""
    spelling: Spelling | None = None
    inside: Node | None = None
    """Where its block of options would stand: the place of what is around it."""
    block: Node | None = None
    """The block of options, where there is one."""
    language: Language = Language.HCL
    generated: bool = False
    """The text is made of other code (a plan): it is not the place to correct."""


def options_of(block: Node | None) -> dict[str, Node]:
    """The options of a block of metadata options, in any spelling. An unknown block leaves each option unknown."""
    if block is None:
        return {}
    while isinstance(block.value, tuple):
        if not block.value:
            return {}
        if len(block.value) > 1:
            why = f"{len(block.value)} blocks, of which there may be one"
            return dict.fromkeys(FIELDS.values(), replace(block.value[1], value=Unknown(why=why)))
        block = block.value[0]
    if block.unknown:
        return dict.fromkeys(FIELDS.values(), block)
    found = ((FIELDS.get(name.replace("_", "").lower()), node) for name, node in members(block))
    return {name: node for name, node in found if name and node.value is not None}


USER_DATA_MAX = 32 * 1024
"""EC2 takes 16 KB before base64."""
CONTAINER_MARKS = ("ECS_CLUSTER", "/etc/eks/bootstrap.sh", "node.eks.aws", "dockerd", "docker run", "kubelet")


def containers_in(user_data: Node | None) -> str:
    """Why user data make a container host, or nothing. `user_data` may be base64, and may be known in part."""
    if user_data is None:
        return ""
    said = " ".join(words(user_data))
    found = next((mark for mark in CONTAINER_MARKS if mark in said or mark in _decoded(said)), None)
    return f"its user data name `{found}`" if found else ""


def _decoded(said: str) -> str:
    if len(said) > USER_DATA_MAX:
        return ""
    try:
        return b64decode(said, validate=True).decode("utf-8", "replace")
    except ValueError:
        return ""


def named(node: Node | None, *names: str) -> Node | None:
    """The first of these members that there is."""
    return next((found for name in names if (found := child(node, name)) is not None), None)


def texts(body: Node, *names: str) -> tuple[str, ...]:
    """The members of these names that are text."""
    return tuple(found for name in names if (found := text(child(body, name))))

"""What a launch described by code gets. Every value that is possible is resolved by the one rule of precedence; where
all agree it is known, where they differ it is unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import product
from typing import Any

from imdsctl.codify.findings import CodeFinding, CodeRule
from imdsctl.codify.iac_fixes import Right, edit, line_of, right
from imdsctl.codify.iac_model import Resource, Role
from imdsctl.codify.iac_rules import EXPOSED, HOP_LIMIT, IMAGE, INVALID, REGION_DEFAULT, UNKNOWN
from imdsctl.codify.iac_tree import Node, Unknown, text
from imdsctl.codify.iac_world import World
from imdsctl.codify.policy_file import end_of_line
from imdsctl.domain.observations import TemplateVersionSeen
from imdsctl.domain.options import AWS_NAMES, HttpTokens, InvalidOption, MetadataOptions, Switch
from imdsctl.domain.precedence import BUILT_IN, IMAGE_IMDS_V2, Layer, resolve

Values = tuple[Any, ...]
_ALL: Mapping[str, Values] = {
    "http_tokens": (None, *HttpTokens),
    "http_put_response_hop_limit": (None, 1, 64),
    "http_endpoint": (None, *Switch),
}
_IMAGES = (MetadataOptions(), IMAGE_IMDS_V2)
_INDEX = re.compile(r"\[[^\]]*\]")
_NO_PREFERENCE = ("no-preference", -1)


@dataclass(frozen=True, slots=True)
class _Layers:
    """What each layer may say, option by option; several values: one of them, nobody knows which."""

    launch: Mapping[str, Values]
    template: Mapping[str, Values]
    images: tuple[MetadataOptions, ...]
    why: Mapping[Layer, str]


@dataclass(frozen=True, slots=True)
class _Outcome:
    values: frozenset[Any]
    layers: frozenset[Layer]

    def only(self, value: Any) -> bool:
        return self.values == {value}


class Judge:
    """Judges resources among all those of one run, in one world."""

    def __init__(self, resources: tuple[Resource, ...], world: World, texts: Mapping[str, str] | None = None) -> None:
        self._world = world
        self._texts = texts or {}
        self._split: dict[str, list[str]] = {}
        self._named = _by_name(resources)
        self._containers = {
            id(found): each.containers
            for each in resources
            if each.containers and (found := self._template(each)) is not None
        }

    def _lines(self, file: str) -> list[str] | None:
        if file not in self._split and file in self._texts:
            self._split[file] = self._texts[file].split("\n")
        return self._split.get(file)

    def findings(self, resource: Resource) -> Iterator[CodeFinding]:
        """What is wrong with one resource."""
        invalid = tuple(self._invalid(resource))
        yield from invalid
        if resource.role is Role.DEFAULTS:
            yield from self._region_default(resource)
        elif resource.role is Role.IMAGE:
            yield from self._image_says(resource)
        elif not invalid:
            yield from self._launched(resource)

    def left_to_region(self, resource: Resource) -> bool:
        """Does the Region default decide about HttpTokens for it, and no template of the code?"""
        if resource.role in (Role.DEFAULTS, Role.IMAGE) or self._template(resource) is not None:
            return False
        layers = self._layers(resource, None)
        if self._possible(resource, layers, "http_endpoint").only(Switch.DISABLED):
            return False
        return Layer.ACCOUNT_DEFAULT in self._possible(resource, layers, "http_tokens").layers

    def _invalid(self, resource: Resource) -> Iterator[CodeFinding]:
        for name, node in resource.said.items():
            if node.unknown or (resource.role is Role.DEFAULTS and node.value in _NO_PREFERENCE):
                continue
            if isinstance(node.value, (dict, tuple)):
                message = f"{resource.address}: {AWS_NAMES[name]} is a list or an object, not a value"
                yield self._finding(
                    INVALID, resource, node, message, "write one value", right(resource, name, _usual(name))
                )
                continue
            try:
                MetadataOptions.from_aws({AWS_NAMES[name]: _number(name, node.value)})
            except InvalidOption as error:
                meant = right(resource, name, _meant(name, node.value))
                yield self._finding(
                    INVALID, resource, node, f"{resource.address}: {error}", "write one of these", meant
                )
        support = resource.imds_support
        if support is not None and not support.unknown and support.value != "v2.0":
            message = f"{resource.address}: `{support.value}` is not valid for ImdsSupport: it is `v2.0`, or absent"
            meant = Right(line_of(resource.language, "imds_support", "v2.0"), support, "imds_support", '"v2.0"')
            yield self._finding(INVALID, resource, support, message, "write `v2.0`", meant)

    def _template(self, resource: Resource) -> Resource | None:
        """The template or configuration in the code that it launches from."""
        node = resource.template
        if node is None:
            return None
        names: tuple[str, ...] = (str(node.value),)
        scope = resource.scope
        if isinstance(node.value, Unknown):
            names, scope = node.value.refers, node.value.scope or scope
        for name in names:
            for end in (name, _two(name)):
                found = self._named.get((scope, end))
                if found is not None and found.role in (Role.TEMPLATE, Role.CONFIGURATION):
                    return found
        return None

    def _launched(self, resource: Resource) -> Iterator[CodeFinding]:
        template = self._template(resource)
        layers = self._layers(resource, template)
        if self._possible(resource, layers, "http_endpoint").only(Switch.DISABLED):
            return
        # What its template does alone is said once, at the template.
        said_there = template is not None and "http_tokens" not in resource.said
        tokens = self._possible(resource, layers, "http_tokens")
        place = resource.said.get("http_tokens", resource.place)
        endpoint = self._possible(resource, layers, "http_endpoint").values
        if HttpTokens.OPTIONAL in tokens.values and not (said_there and template and self._open(template)):
            exposed = tokens.only(HttpTokens.OPTIONAL) and endpoint == {Switch.ENABLED}
            message = _reason(resource, layers, tokens, endpoint, self._world)
            if exposed and resource.role is not Role.SERVICE and any(d.enforced for d in self._world.defaults):
                message += "; with HttpTokensEnforced, AWS refuses such a launch"
            remedy = (
                f"write `{resource.setting}`"
                if resource.setting
                else "launch from a template that says HttpTokens=required"
            )
            meant = right(resource, "http_tokens", HttpTokens.REQUIRED.value)
            yield self._finding(EXPOSED if exposed else UNKNOWN, resource, place, message, remedy, meant)
        yield from self._hops(resource, layers, template)

    def _open(self, template: Resource) -> bool:
        tokens = self._possible(template, self._layers(template, None), "http_tokens")
        return HttpTokens.OPTIONAL in tokens.values

    def _hops(self, resource: Resource, layers: _Layers, template: Resource | None) -> Iterator[CodeFinding]:
        floor = self._world.container_floor
        why = resource.containers or self._containers.get(id(resource), "")
        if floor is None or not why or (template is not None and "http_put_response_hop_limit" not in resource.said):
            return
        hops = self._possible(resource, layers, "http_put_response_hop_limit")
        if resource.silence_unknown and "http_put_response_hop_limit" not in resource.said:
            return
        if max(hops.values) < floor:
            place = resource.said.get("http_put_response_hop_limit", resource.place)
            message = (
                f"{resource.address} gets HttpPutResponseHopLimit {max(hops.values)}, and containers run on it ({why}):"
                f" they need {floor}"
            )
            meant = right(resource, "http_put_response_hop_limit", floor)
            yield self._finding(HOP_LIMIT, resource, place, message, f"set the hop limit to {floor}", meant)

    def _layers(self, resource: Resource, template: Resource | None) -> _Layers:
        why: dict[Layer, str] = {}
        said = dict(_values(resource.said))
        if resource.silence_unknown:
            said = {name: _ALL[name] for name in _ALL if name != "http_endpoint"} | said
        through: Mapping[str, Values] = {}
        image = resource.image
        if template is not None:
            through, image = _values(template.said), image or template.image
        elif resource.template is not None:
            seen = self._seen(resource.template, resource.template_version)
            if isinstance(seen, str):
                through, why[Layer.LAUNCH_TEMPLATE] = _ALL, seen
                image = image or Node(Unknown())
            else:
                through = {name: (getattr(seen.options, name),) for name in _ALL}
                image = image or (Node(seen.image_id) if seen.image_id else None)
        return _Layers(said, through, self._images(resource.scope, image), why)

    def _seen(self, template: Node, version: Node | None) -> TemplateVersionSeen | str:
        """The version that a launch uses, as the scan saw it; or why that is not known."""
        name = text(template)
        wanted = "$Default" if version is None or version.value == "" else str(version.value)
        if version is not None and isinstance(version.value, Unknown):
            if not any(known == name for known, _ in self._world.templates):
                return "the launch template is not in the code"
            depends = version.value.why or "a variable or a computed value"
            return f"the version of the launch template {name} depends on {depends}"
        seen = self._world.templates.get((name, wanted))
        if seen is not None:
            return seen
        if any(known == name for known, _ in self._world.templates):
            return f"version {wanted} of the launch template {name} is not in {self._world.source}"
        return "the launch template is not in the code"

    def _images(self, scope: str, image: Node | None) -> tuple[MetadataOptions, ...]:
        """What the image may say; one answer when it is known."""
        if image is None:
            return _IMAGES
        if isinstance(image.value, Unknown):
            for name in image.value.refers:
                where = image.value.scope or scope
                made = self._named.get((where, _two(name))) or self._named.get((where, name))
                if made is not None and made.role is Role.IMAGE:
                    if made.imds_support is None:
                        return _IMAGES[:1]
                    return _IMAGES if made.imds_support.unknown else _IMAGES[1:]
            return _IMAGES
        seen = self._world.images.get(text(image))
        if seen is None or not seen.found:
            return _IMAGES
        return _IMAGES[1:] if seen.imds_support == "v2.0" else _IMAGES[:1]

    def _possible(self, resource: Resource, layers: _Layers, name: str) -> _Outcome:
        """Every value that the option can have, each by the one rule."""
        launch, template = layers.launch.get(name, (None,)), layers.template.get(name, (None,))
        service = resource.built_in is not None
        defaults = self._world.defaults[:1] if service else self._world.defaults
        images = _IMAGES[:1] if service else layers.images
        built_in = resource.built_in.over(BUILT_IN) if resource.built_in is not None else BUILT_IN
        results = set()
        for mine, theirs, default, image in product(launch, template, defaults, images):
            said = MetadataOptions(**{name: mine})
            if service:
                said = said.over(built_in)
            decided = getattr(
                resolve(said, default, image, built_in, launch_template=MetadataOptions(**{name: theirs})), name
            )
            layer = Layer.BUILT_IN if service and mine is None else decided.layer
            results.add((decided.value, layer))
        return _Outcome(frozenset(value for value, _ in results), frozenset(layer for _, layer in results))

    def _image_says(self, resource: Resource) -> Iterator[CodeFinding]:
        undecided = any(each.http_tokens is None for each in self._world.defaults)
        if resource.imds_support is None and undecided:
            message = f"{resource.address} does not say ImdsSupport=v2.0, and no Region default decides"
            line = line_of(resource.language, "imds_support", "v2.0")
            meant = Right(line, resource.place, added=not resource.generated)
            yield self._finding(IMAGE, resource, resource.place, message, 'write `imds_support = "v2.0"`', meant)

    def _region_default(self, resource: Resource) -> Iterator[CodeFinding]:
        node = resource.said.get("http_tokens")
        meant = right(resource, "http_tokens", HttpTokens.REQUIRED.value)
        if node is None or (not node.unknown and node.value in ("optional", "no-preference")):
            said = f"says `{node.value}`" if node is not None else "says nothing about HttpTokens"
            said += f" ({node.origin})" if node is not None and node.origin else ""
            message = f"{resource.address} {said}: launches that say nothing may answer IMDSv1"
            remedy = 'write `http_tokens = "required"`'
            yield self._finding(REGION_DEFAULT, resource, node or resource.place, message, remedy, meant)
        elif node.unknown:
            message = f"{resource.address}: HttpTokens of the Region default is not known: it {_depends(node)}"
            yield self._finding(UNKNOWN, resource, node, message, "write the value itself", meant)

    def _finding(
        self, rule: CodeRule, resource: Resource, place: Node, message: str, remedy: str, meant: Right | None
    ) -> CodeFinding:
        lines = self._lines(resource.file) or []
        fix = None
        if meant is not None and lines and not resource.generated:
            fix = edit(lines, meant, resource.language)
        corrected = meant.text if meant is not None else None
        made = CodeFinding(rule, rule.severity, resource.file, place.line, place.column, message, remedy)
        return replace(made, corrected=corrected, fix=fix, end_column=end_of_line(lines, place.line))


def _usual(name: str) -> Any:
    return {"http_tokens": "required", "http_endpoint": "enabled"}.get(name, 1)


def _meant(name: str, value: Any) -> Any:
    """The closest value that there is; where none is close, the safe one."""
    known = {"http_tokens": ("required", "optional"), "http_endpoint": ("enabled", "disabled")}.get(name, ())
    # A misspelt `optional` is no reason to write it.
    found = get_close_matches(str(value).lower(), known, 1, 0.6)
    if name == "http_tokens" or not found:
        return _usual(name)
    return found[0]


def _by_name(resources: Iterable[Resource]) -> dict[tuple[str, str], Resource]:
    """By scope and address; also by id and name, and by the address without an index where all that have it say the
    same."""
    exact: dict[tuple[str, str], Resource] = {}
    loose: dict[tuple[str, str], list[Resource]] = {}
    for each in resources:
        exact[each.scope, each.address] = each
        for name in (_INDEX.sub("", each.address), *each.aliases):
            loose.setdefault((each.scope, name), []).append(each)
    same = {key: found[0] for key, found in loose.items() if len({_said(each) for each in found}) == 1}
    return same | exact


def _said(resource: Resource) -> tuple[object, ...]:
    # No list or object is a value; with aliases in it, it may be too large to be written out.
    values = {n: "" if isinstance(node.value, (dict, tuple)) else node.value for n, node in resource.said.items()}
    return (resource.role, text(resource.image), *sorted((name, repr(value)) for name, value in values.items()))


def _number(name: str, value: Any) -> Any:
    """Terraform and YAML take a number in quotes."""
    digits = name == "http_put_response_hop_limit" and isinstance(value, str) and value.isascii() and value.isdigit()
    if digits and len(value) < 4:
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _values(said: Mapping[str, Node]) -> dict[str, Values]:
    out: dict[str, Values] = {}
    for name, node in said.items():
        if node.unknown:
            out[name] = _ALL[name]
            continue
        try:
            options = MetadataOptions.from_aws({AWS_NAMES[name]: _number(name, node.value)})
        except (InvalidOption, TypeError):
            out[name] = _ALL[name]
        else:
            out[name] = (getattr(options, name),)
    return out


def _two(name: str) -> str:
    """`TYPE.NAME` of a reference that goes on (`TYPE.NAME.id`), with the modules before it."""
    parts = name.split(".")
    head = 0
    while head + 1 < len(parts) and parts[head] == "module":
        head += 2
    return ".".join(parts[: head + 2])


def _depends(node: Node) -> str:
    why = node.value.why if isinstance(node.value, Unknown) else ""
    return f"depends on {why}" if why else "is a variable or computed"


_WHAT = {Role.LAUNCH: "this launch", Role.SERVICE: "what it starts"}


def _reason(resource: Resource, layers: _Layers, tokens: _Outcome, endpoint: frozenset[Any], world: World) -> str:
    """The sentence that says what it gets and why."""
    what = _WHAT.get(resource.role, f"what uses this {resource.role}")
    head = f"{resource.address}: {what} gets `optional`"
    if len(tokens.values) > 1:
        head = f"{resource.address}: whether {what} gets `optional` is unknown"
    node = resource.said.get("http_tokens")
    if node is not None:
        if node.unknown:
            return f"{head}, because HttpTokens {_depends(node)}"
        # Where the value itself is known, the doubt is about something else: the endpoint.
        doubt = "" if len(endpoint) == 1 else ", unless HttpEndpoint, which is a variable or computed, is `disabled`"
        source = f" ({node.origin})" if node.origin else ""
        who = "launch" if resource.role is Role.LAUNCH else resource.role
        return f"{head}, because the {who} says so{source}{doubt}"
    if resource.outside:
        return f"{head}, because {resource.outside}: check the plan"
    if resource.silence_unknown:
        return f"{head}, because it says nothing, and what that means depends on the release of the service or tool"
    if resource.built_in is not None:
        return f"{head}, because it says nothing, and that is what the service does then"
    reasons = ["the launch says nothing" if resource.role is Role.LAUNCH else f"the {resource.role} says nothing"]
    if resource.template is not None:
        options = layers.template.get("http_tokens", (None,))
        said = "says nothing" if options == (None,) else f"says `{options[0]}`"
        absent = layers.why.get(Layer.LAUNCH_TEMPLATE, "what the launch template says is a variable or computed")
        if isinstance(resource.template.value, Unknown) and resource.template.value.why and len(options) > 1:
            absent += f" (it depends on {resource.template.value.why})"
        reasons.append(absent if len(options) > 1 else f"the launch template {said}")
        if options == (HttpTokens.OPTIONAL,):
            return f"{head}, because {_and(reasons)}"
    defaults = {each.http_tokens for each in world.defaults}
    if len(defaults) > 1:
        reasons.append(f"the Region default was not read ({world.source})")
    elif defaults != {None}:
        reasons.append(f"the Region default says `{next(iter(defaults))}` ({world.source})")
    else:
        reasons.append(f"the Region default is unset ({world.source})")
    if None in defaults:
        looked = len(layers.images) == 1
        reasons.append("the image does not say ImdsSupport=v2.0" if looked else "what the image says is not known")
    return f"{head}, because {_and(reasons)}"


def _and(reasons: list[str]) -> str:
    return f"{', '.join(reasons[:-1])} and {reasons[-1]}" if len(reasons) > 1 else reasons[0]

"""`rest-json`: members travel in the path, the query string, headers, the status code or the JSON body.

Rules: Smithy's "HTTP bindings" and "AWS restJson1" pages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from imdsctl.wire.errors import BrokenSyntax, Malformed, MissingParameter, ServiceError, UnknownTrait, WireError
from imdsctl.wire.form import percent_decode, percent_encode
from imdsctl.wire.http import HttpRequest, HttpResponse
from imdsctl.wire.model import OperationModel, Projection, ServiceModel, Shape
from imdsctl.wire.protocols import Decoder, Wire, _Buffer, _Tree, body_of, host_prefix
from imdsctl.wire.scalars import read_base64, text_scalar, write_base64
from imdsctl.wire.tree import Structure, TreeCodec, TreeCompiler, json_compiler, read_json, write_json

_LABEL: Final = re.compile(r"\{([^}+]+)(\+?)\}")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _unquote(text: str) -> str:
    """A path segment: `+` is a plus sign here."""
    if _BAD_PERCENT.search(text):
        raise BrokenSyntax("the path contains an invalid percent-encoding")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise BrokenSyntax("the path is not UTF-8") from None


class Template:
    """A request URI: `/tags/{resourceArn}?mode=import`. A label with `+` takes slashes too."""

    def __init__(self, uri: str) -> None:
        path, _, self.query = uri.partition("?")
        self.fixed = frozenset(filter(None, self.query.split("&")))
        self._parts = _LABEL.split(path)  # literal, label, "+" or "", literal, label, ...
        self.labels = self._parts[1::3]
        pattern = "".join(
            f"({'.+' if self._parts[i + 1] else '[^/]+'})" if i % 3 == 1 else re.escape(part)
            for i, part in enumerate(self._parts)
            if i % 3 != 2
        )
        self._pattern = re.compile(f"{pattern}\\Z")
        self.rank = ("+" in self._parts[2::3], len(self.labels), -len(path), -len(self.fixed))

    def fill(self, values: Mapping[str, str]) -> str:
        path = self._parts[0]
        for label, greedy, literal in zip(self.labels, self._parts[2::3], self._parts[3::3], strict=True):
            if not values.get(label):
                raise MissingParameter("the request's path needs a value", label)
            path += quote(values[label], safe="-_.~/" if greedy else "-_.~") + literal
        return path

    def match(self, path: str) -> dict[str, str] | None:
        """The raw values of the labels."""
        found = self._pattern.match(path)
        return dict(zip(self.labels, found.groups(), strict=True)) if found else None


# --- one member outside of the body -----------------------------------------------------------------------------------


class _Located:
    """A member in a header, the path or the query string, as text. A list has one codec for its items."""

    __slots__ = ("_scalar", "is_list", "is_map", "json", "many", "name", "strings", "wire")

    def __init__(self, name: str, shape: Shape, timestamps: str) -> None:
        self.name = name
        self.wire = shape.wire_name or name
        self.is_list, self.is_map = shape.type == "list", shape.type == "map"
        self.json = bool(shape.traits.get("jsonvalue"))
        item = shape.child("member") if self.is_list else shape.child("value") if self.is_map else shape
        # A query string may hold a map of lists; its items are then the strings.
        self.many = self.is_map and item.type == "list"
        if self.many:
            item = item.child("member")
        self.strings = item.type == "string"
        self._scalar = text_scalar(item, timestamps)

    def encode(self, value: Any) -> str:
        if self.json:
            return write_base64(write_json(value))
        text: str = self._scalar.encode(value)
        return text

    def decode(self, text: str) -> Any:
        if self.json:
            return read_json(read_base64(text))
        return self._scalar.decode(text)

    def encode_list(self, values: Any) -> str:
        """A list in one header: an item that holds a comma or a quote is quoted."""
        texts = [self.encode(value) for value in values if value is not None]
        if self.strings:
            texts = ['"' + text.replace('"', '\\"') + '"' if '"' in text or "," in text else text for text in texts]
        return ",".join(texts)

    def decode_list(self, text: str) -> list[Any]:
        items = re.findall(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*))\s*(?:,|\Z)', text.strip())
        texts = [quoted.replace('\\"', '"') if quoted else plain.strip() for quoted, plain in items]
        if texts and not text.rstrip().endswith(","):
            texts.pop()  # the empty match at the end
        # An HTTP date holds a comma of its own.
        if not self.strings and len(texts) > 1 and all(re.fullmatch("[A-Z][a-z]{2}", day) for day in texts[::2]):
            texts = [f"{day}, {rest}" for day, rest in zip(texts[::2], texts[1::2], strict=False)]
        return [self.decode(item) for item in texts]


def _header_value(member: _Located, value: Any, headers: dict[str, str]) -> None:
    if member.is_map:
        for key, item in value.items():
            headers[f"{member.wire}{key}".lower()] = member.encode(item)
    elif member.is_list:
        if value:
            headers[member.wire.lower()] = member.encode_list(value)
    else:
        text = member.encode(value)
        if "\r" in text or "\n" in text:
            raise WireError("a header cannot hold a line break")
        headers[member.wire.lower()] = text


def _from_headers(member: _Located, headers: Mapping[str, str]) -> Any:
    """The value, or None when the header is not there."""
    wire = member.wire.lower()
    if member.is_map:
        found = {name[len(wire) :]: member.decode(text) for name, text in headers.items() if name.startswith(wire)}
        return found or None
    text = headers.get(wire)
    if text is None:
        return None
    return member.decode_list(text) if member.is_list else member.decode(text)


class _Message:
    """The bindings of one structure, a request's or a response's: which member travels where."""

    def __init__(self, compiler: TreeCompiler, shape: Shape | None) -> None:
        self.uri: dict[str, _Located] = {}
        self.query: dict[str, _Located] = {}
        self.header: dict[str, _Located] = {}
        self.status: str | None = None
        self.payload: str | None = None
        self.raw: str | None = None
        self.body: Structure | None = None
        self.document: TreeCodec | None = None
        self.members: frozenset[str] = frozenset()
        self.required: tuple[str, ...] = ()
        if shape is None:
            return
        members = dict(shape.members())
        self.members = frozenset(members)
        self.required = shape.required
        for name, member in members.items():
            match member.location:
                case "uri":
                    self.uri[name] = _Located(name, member, "iso8601")
                case "querystring":
                    self.query[name] = _Located(name, member, "iso8601")
                case "header" | "headers":
                    self.header[name] = _Located(name, member, "rfc822")
                case "statusCode":
                    self.status = name
                case None:
                    continue
                case unknown:
                    raise UnknownTrait(f"member `{name}` has the unknown location `{unknown}`")
        self.payload = shape.traits.get("payload")
        if self.payload is not None:
            member = members[self.payload]
            member.refuse_event_stream()
            if member.type in ("blob", "string"):
                self.raw = member.type
            else:
                self.document = compiler.codec(member)
        elif any(member.location is None for member in members.values()):
            self.body = compiler.body(shape)

    def encode_body(self, values: Mapping[str, Any]) -> bytes:
        if self.payload is not None:
            value = values.get(self.payload)
            if self.raw is not None:
                return b"" if value is None else value.encode() if isinstance(value, str) else bytes(value)
            assert self.document is not None
            try:
                return b"{}" if value is None else write_json(self.document.encode(value))
            except WireError as error:
                raise error.inside(self.payload) from None
        if self.body is None:
            return b""
        located = self.uri.keys() | self.query.keys() | self.header.keys() | {self.status}
        return write_json(self.body.encode({name: item for name, item in values.items() if name not in located}))

    def decode_body(self, body: bytes, projection: Projection | None, result: dict[str, Any]) -> None:
        if self.payload is not None:
            if projection is not None and self.payload not in projection:
                return
            below = projection[self.payload] if projection is not None else None
            if self.raw == "blob":
                result[self.payload] = body
            elif self.raw == "string":
                result[self.payload] = _utf8(body)
            elif body and self.document is not None:
                try:
                    result[self.payload] = self.document.reader(below)(read_json(body))
                except WireError as error:
                    raise error.inside(self.payload) from None
        elif self.body is not None:
            if projection is not None:
                projection = {name: below for name, below in projection.items() if name in self.body.members}
            result.update(self.body.reader(projection)(read_json(body) if body else {}))


def _utf8(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise BrokenSyntax("the body is not UTF-8") from None


# --- the protocol -----------------------------------------------------------------------------------------------------


class RestJson(_Tree):
    name = "rest-json"
    content_type = "application/json"
    write = staticmethod(write_json)
    read = staticmethod(read_json)

    def __init__(self, model: ServiceModel) -> None:
        super().__init__(model, json_compiler)
        self._routes: list[tuple[str, Template, str]] | None = None

    def wire(self, operation: OperationModel) -> Wire:
        return _Rest(self, operation)

    def route(self, request: HttpRequest) -> str:
        if self._routes is None:
            routes = [
                (traits["http"]["method"], Template(traits["http"]["requestUri"]), name)
                for name, traits in self.model.operations.items()
            ]
            self._routes = sorted(routes, key=lambda route: route[1].rank)
        for method, template, name in self._routes:
            if method == request.method and template.match(request.path) is not None:
                if not template.fixed <= set(request.query.split("&")):
                    continue
                return name
        raise ServiceError("UnknownOperationException", "", 404)

    def encode_error(self, error: ServiceError, request_id: str) -> HttpResponse:
        response = super().encode_error(error, request_id)
        shape = self.model.error(error.code)
        headers = {**response.headers, "x-amzn-errortype": shape.name if shape is not None else error.code}
        return HttpResponse(response.status, headers, response.body)

    def _error_members(
        self, shape: Shape, detail: Mapping[str, Any], document: dict[str, Any], headers: dict[str, str]
    ) -> None:
        message = _Message(self.responses, shape)
        for name, member in message.header.items():
            if detail.get(name) is not None:
                _header_value(member, detail[name], headers)
        if message.body is not None:
            document.update(message.body.encode({n: v for n, v in detail.items() if n in message.body.members}))

    def _error_name(self, response: HttpResponse, document: dict[Any, Any]) -> object:
        named = response.headers.get("x-amzn-errortype") or document.get("code") or document.get("Code")
        return named or super()._error_name(response, document)

    def _error_detail(self, shape: Shape, response: HttpResponse, document: dict[Any, Any]) -> dict[str, Any]:
        message = _Message(self.responses, shape)
        detail: dict[str, Any] = message.body.reader(None)(document) if message.body is not None else {}
        for name, member in message.header.items():
            value = _from_headers(member, response.headers)
            if value is not None:
                detail[name] = value
        return detail


class _Rest:
    def __init__(self, protocol: RestJson, operation: OperationModel) -> None:
        self._protocol, self._operation = protocol, operation
        self._template = Template(operation.uri)
        self._in = _Message(protocol.requests, operation.input)
        self._out = _Message(protocol.responses, operation.output)

    def encode_request(self, params: Mapping[str, Any]) -> HttpRequest:
        params = {name: value for name, value in params.items() if value is not None}
        bound = self._in
        for name in params:
            if name not in bound.members:
                raise WireError("there is no such parameter", name)
        for name in bound.required:
            if name not in params:
                raise MissingParameter("the parameter is required", name)
        headers: dict[str, str] = {}
        query: list[str] = [self._template.query] if self._template.query else []
        labels: dict[str, str] = {}
        name = ""
        try:
            for name, member in bound.uri.items():
                if name in params:
                    labels[member.wire] = member.encode(params[name])
            for name, member in bound.query.items():
                if name in params:
                    query += [
                        f"{percent_encode(key)}={percent_encode(text)}" for key, text in _query(member, params[name])
                    ]
            for name, member in bound.header.items():
                if name in params:
                    _header_value(member, params[name], headers)
        except WireError as error:
            raise error.inside(name) from None
        body = bound.encode_body(params)
        if body and bound.raw is None:
            headers.setdefault("content-type", self._protocol.content_type)
        path = self._template.fill(labels)
        return HttpRequest(
            self._operation.method, path, "&".join(query), headers, body, host_prefix(self._operation, params)
        )

    def decode_request(self, request: HttpRequest) -> dict[str, Any]:
        bound = self._in
        result: dict[str, Any] = {}
        labels = self._template.match(request.path)
        if labels is None:
            raise BrokenSyntax("the path is not that of the operation")
        query: dict[str, list[str]] = {}
        for part in filter(None, request.query.split("&")):
            key, _, text = part.partition("=")
            query.setdefault(percent_decode(key), []).append(percent_decode(text))
        bound.decode_body(body_of(request), None, result)
        name = ""
        try:
            for name, member in bound.uri.items():
                result[name] = member.decode(_unquote(labels[member.wire]))
            for name, member in bound.query.items():
                value = _from_query(member, query, bound.query)
                if value is not None:
                    result[name] = value
            for name, member in bound.header.items():
                value = _from_headers(member, request.headers)
                if value is not None:
                    result[name] = value
        except WireError as error:
            raise error.inside(name) from None
        for name in bound.required:
            if name not in result:
                raise MissingParameter("the parameter is required", name)
        return result

    def encode_response(self, result: Mapping[str, Any], request_id: str) -> HttpResponse:
        bound = self._out
        result = {name: value for name, value in result.items() if value is not None}
        for name in result:
            if name not in bound.members:
                raise WireError("the model has no such member", name)
        headers = self._protocol.headers(request_id)
        name = ""
        try:
            for name, member in bound.header.items():
                if name in result:
                    _header_value(member, result[name], headers)
        except WireError as error:
            raise error.inside(name) from None
        status = result.get(bound.status, self._operation.status) if bound.status else self._operation.status
        body = bound.encode_body(result)
        if bound.raw is not None:
            headers["content-type"] = "application/octet-stream"
        elif not bound.members:
            body = b"{}"
        return HttpResponse(status, headers, body)

    def decode_response(self, response: HttpResponse, projection: Projection | None) -> dict[str, Any]:
        bound = self._out
        self._check(projection)
        result: dict[str, Any] = {}
        bound.decode_body(response.body, projection, result)
        for name, member in bound.header.items():
            if projection is None or name in projection:
                value = _from_headers(member, response.headers)
                if value is not None:
                    result[name] = value
        if bound.status is not None and (projection is None or bound.status in projection):
            result[bound.status] = response.status
        return result

    def _check(self, projection: Projection | None) -> None:
        for name in projection or ():
            if name not in self._out.members:
                raise WireError("the model has no such member", name)

    def stream(self, projection: Projection | None) -> Decoder:
        """Headers and the status are not part of a stream: only the members of the body are decoded."""
        self._check(projection)

        def finish(body: bytes) -> dict[str, Any]:
            result: dict[str, Any] = {}
            self._out.decode_body(body, projection, result)
            return result

        return _Buffer(finish)


def _query(member: _Located, value: Any) -> list[tuple[str, str]]:
    if member.is_map:
        return [
            (key, member.encode(one))
            for key, item in value.items()
            for one in (item if isinstance(item, list | tuple) else [item])
        ]
    if member.is_list:
        return [(member.wire, member.encode(item)) for item in value]
    return [(member.wire, member.encode(value))]


def _from_query(member: _Located, query: Mapping[str, list[str]], bound: Mapping[str, _Located]) -> Any:
    if member.is_map:
        taken = {other.wire for other in bound.values() if other is not member}
        found = {key: [member.decode(text) for text in texts] for key, texts in query.items() if key not in taken}
        return (found if member.many else {key: texts[-1] for key, texts in found.items()}) or None
    texts = query.get(member.wire)
    if texts is None:
        return None
    if member.is_list:
        return [member.decode(text) for text in texts]
    if len(texts) > 1:
        raise Malformed("the parameter is given twice")
    return member.decode(texts[0])

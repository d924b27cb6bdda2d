"""A protocol is a wire for the request, a wire for the response, and an envelope. One class each.

Sources: Smithy's protocol pages (`https://smithy.io/2.0/aws/protocols/`), and for the codes of refused requests the
"Common errors" pages of EC2 (`https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html`) and of the
query services (`https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html`).
"""

from __future__ import annotations

import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Final, Protocol

from imdsctl.wire.errors import BrokenSyntax, Malformed, MissingParameter, ServiceError, UnknownParameter, WireError
from imdsctl.wire.form import Ec2Form, Pairs, QueryForm, parse_pairs, percent_decode, unflatten, write_pairs
from imdsctl.wire.http import HttpRequest, HttpResponse
from imdsctl.wire.model import OperationModel, Projection, ServiceModel, Shape, words
from imdsctl.wire.skim import Document, Unusual
from imdsctl.wire.tree import TreeCompiler, cbor_compiler, json_compiler, read_cbor, read_json, write_cbor, write_json
from imdsctl.wire.xml import PlainReader, XmlCompiler, XmlReader, escape, local_name, parse, skim_of
from imdsctl.wire.xml import Structure as XmlStructure

body_bytes_max: Final = 16 * 1024 * 1024
_XML: Final = b'<?xml version="1.0" encoding="UTF-8"?>\n'
_MESSAGE: Final = ("message", "Message")
_QUERY_SHAPES: Final = {
    "AWS.SimpleQueueService.NonExistentQueue": "QueueDoesNotExist",
    "QueueAlreadyExists": "QueueNameExists",
    **{
        f"AWS.SimpleQueueService.{name}": name
        for name in (
            *("BatchEntryIdsNotDistinct", "BatchRequestTooLong", "EmptyBatchRequest", "InvalidBatchEntryId"),
            *("PurgeQueueInProgress", "TooManyEntriesInBatchRequest"),
        )
    },
}
"""SQS's errors by the codes of its query protocol, which clients still see; its model no longer says them."""
DOCUMENTS_REMEMBERED_MAX: Final = 32
"""Projections of one operation for which a quick reader is compiled; they are constants of the callers."""


class Decoder(Protocol):
    """The incremental form of `decode_response`."""

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the body; raises `WireError` when they cannot be a reply."""
        ...

    def close(self) -> dict[str, Any]:
        """The decoded result; raises `WireError` when the body is cut."""
        ...


class Wire(Protocol):
    """One operation in one protocol."""

    def encode_request(self, params: Mapping[str, Any]) -> HttpRequest: ...
    def decode_request(self, request: HttpRequest) -> dict[str, Any]: ...
    def encode_response(self, result: Mapping[str, Any], request_id: str) -> HttpResponse: ...
    def decode_response(self, response: HttpResponse, projection: Projection | None) -> dict[str, Any]: ...
    def stream(self, projection: Projection | None) -> Decoder: ...


class ProtocolOf(ABC):
    """One protocol of one service: compilers shared by its operations, routing, and the error envelope."""

    name: ClassVar[str]

    def __init__(self, model: ServiceModel) -> None:
        self.model = model

    @abstractmethod
    def wire(self, operation: OperationModel) -> Wire: ...

    @abstractmethod
    def route(self, request: HttpRequest) -> str:
        """The operation that a request asks for. Raises `ServiceError` as AWS answers an unknown one."""

    @abstractmethod
    def refuse(self, error: WireError) -> ServiceError:
        """AWS's answer to a request that cannot be decoded."""

    @abstractmethod
    def encode_error(self, error: ServiceError, request_id: str) -> HttpResponse: ...

    @abstractmethod
    def decode_error(self, response: HttpResponse) -> ServiceError: ...


def body_of(request: HttpRequest) -> bytes:
    """The body, unpacked when the client packed it (botocore packs large PutMetricData calls)."""
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity", "aws-chunked"):
        return request.body
    if encoding != "gzip":
        raise BrokenSyntax(f"the content encoding {encoding[:64]} is not supported")
    unpack = zlib.decompressobj(wbits=31)
    try:
        body = unpack.decompress(request.body, body_bytes_max)
    except zlib.error:
        raise BrokenSyntax("the body is not gzip") from None
    if not unpack.eof:
        raise BrokenSyntax("the body is cut, or larger than a request may be")
    return body


def host_prefix(operation: OperationModel, params: Mapping[str, Any]) -> str:
    """The endpoint trait's prefix with its labels filled in. Raises `WireError` for a label that no host may have."""
    prefix = operation.host_prefix
    for label in operation.host_labels:
        value = params.get(label)
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9.-]+", value):
            raise WireError("a part of the host name: letters, digits, hyphen and period only", label)
        prefix = prefix.replace(f"{{{label}}}", value)
    return prefix


def unreadable_error(response: HttpResponse) -> ServiceError:
    """An error that is no AWS error document: a proxy's page, an empty body. The HTTP status is all that is known."""
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "unknown status"
    return ServiceError(
        str(response.status),
        phrase,
        response.status,
        response.headers.get("x-amzn-requestid"),
        "server" if response.status >= 500 else "client",
    )


def _service_error(
    response: HttpResponse, code: str, message: str, request_id: str | None, sender: str | None, detail: dict[str, Any]
) -> ServiceError:
    for name in _MESSAGE:
        detail.pop(name, None)
    server = response.status >= 500 if sender is None else sender in ("Receiver", "Server")
    return ServiceError(code, message, response.status, request_id, "server" if server else "client", detail)


def _null_members(error: WireError) -> str:
    """The message of the services built on AWS's common framework when a required member is missing."""
    steps = [step[:1].lower() + step[1:] for step in error.path.split(".")]
    return (
        f"1 validation error detected: Value null at '{'.'.join(steps)}' failed to satisfy constraint: "
        "Member must not be null"
    )


# --- query and ec2: a form out, XML back ----------------------------------------------------------------------------

_ACTION: Final = re.compile(r"(?:^|&)Action=([^&]*)")
# Beside the operation's own parameters: the envelope, and what signature versions 2 and 4 put in a query string.
_ENVELOPE: Final = words(
    "Action Version AWSAccessKeyId Signature SignatureMethod SignatureVersion Timestamp Expires SecurityToken "
    "X-Amz-Algorithm X-Amz-Credential X-Amz-Date X-Amz-Expires X-Amz-SignedHeaders X-Amz-Signature "
    "X-Amz-Security-Token"
)


class Query(ProtocolOf):
    """`query`: STS, IAM, Auto Scaling and the older CloudWatch."""

    name = "query"
    form: type[QueryForm] = QueryForm
    milliseconds = False
    wraps = True

    def __init__(self, model: ServiceModel) -> None:
        super().__init__(model)
        self.forms = self.form()
        self.xmls = XmlCompiler(milliseconds=self.milliseconds)

    def wire(self, operation: OperationModel) -> Wire:
        return _FormXml(self, operation)

    def envelope(self, operation: str, result: list[bytes] | None, wrapper: str | None, request_id: str) -> list[bytes]:
        """The document around a result, in pieces; None for an operation that returns nothing."""
        name, tag = operation.encode(), (wrapper or "").encode()
        wrapped = result is not None and wrapper is not None
        return [
            b'<%bResponse xmlns="%b">' % (name, self.model.namespace.encode()),
            b"<%b>" % tag if wrapped else b"",
            *(result or ()),
            b"</%b>" % tag if wrapped else b"",
            b"<ResponseMetadata><RequestId>%b</RequestId></ResponseMetadata></%bResponse>" % (escape(request_id), name),
        ]

    def route(self, request: HttpRequest) -> str:
        try:
            body = body_of(request).decode(errors="replace")
            match = _ACTION.search(body) or _ACTION.search(request.query)
            name = percent_decode(match[1]) if match else ""
        except WireError as error:
            raise self.refuse(error) from None
        if not name:
            raise ServiceError("MissingAction", "The request is missing an action or a required parameter.")
        if name not in self.model.operations:
            raise self._invalid_action(name)
        return name

    def _invalid_action(self, name: str) -> ServiceError:
        version = self.model.metadata["apiVersion"]
        return ServiceError("InvalidAction", f"Could not find operation {name} for version {version}")

    def refuse(self, error: WireError) -> ServiceError:
        match error:
            case BrokenSyntax():
                return ServiceError(
                    "MalformedQueryString", f"The query string contains a syntax error: {error.message}"
                )
            case MissingParameter():
                return ServiceError("ValidationError", _null_members(error))
            case UnknownParameter():
                return ServiceError("UnknownParameter", f"The parameter {error.path} is not recognized")
            case _:
                return ServiceError(
                    "InvalidParameterValue", f"Invalid value for parameter {error.path}: {error.message}"
                )

    def encode_error(self, error: ServiceError, request_id: str) -> HttpResponse:
        kind = b"Receiver" if error.fault == "server" else b"Sender"
        body = (
            b'%b<ErrorResponse xmlns="%b"><Error><Type>%b</Type>%b</Error><RequestId>%b</RequestId></ErrorResponse>'
            % (
                _XML,
                self.model.namespace.encode(),
                kind,
                self._inside_error(error),
                escape(request_id),
            )
        )
        return self.respond(error.status, body, request_id)

    def _inside_error(self, error: ServiceError) -> bytes:
        shape = self.model.error(error.code)
        detail = self.xmls.structure(shape).encode(error.detail) if shape is not None and error.detail else b""
        return b"<Code>%b</Code><Message>%b</Message>%b" % (escape(error.code), escape(error.message), detail)

    def respond(self, status: int, body: bytes | Sequence[bytes], request_id: str) -> HttpResponse:
        return HttpResponse(status, {"content-type": "text/xml;charset=UTF-8", "x-amzn-requestid": request_id}, body)

    def decode_error(self, response: HttpResponse) -> ServiceError:
        try:
            root = parse(response.body)
        except WireError:
            return unreadable_error(response)
        request_id = sender = None
        code = message = ""
        detail: dict[str, Any] = {}
        for element in root.iter("{*}RequestId", "{*}RequestID"):
            request_id = element.text
        error = next(root.iter("{*}Error"), None)
        if error is None:
            return unreadable_error(response)
        for child in error:
            match local_name(child.tag):
                case "Code":
                    code = child.text or ""
                case "Message":
                    message = child.text or ""
                case "Type":
                    sender = child.text
        shape = self.model.error(code)
        if shape is not None:
            detail = self.xmls.codec(shape).reader(None)(error)
        return _service_error(response, code, message, request_id, sender, detail)


class Ec2(Query):
    """`ec2`: the query protocol with flat lists, its own envelope, and its own words for a refusal."""

    name = "ec2"
    form = Ec2Form
    milliseconds = True
    wraps = False

    def envelope(self, operation: str, result: list[bytes] | None, wrapper: str | None, request_id: str) -> list[bytes]:
        name, namespace = operation.encode(), self.model.namespace.encode().rstrip(b"/")
        return [
            b'%b<%bResponse xmlns="%b/"><requestId>%b</requestId>' % (_XML, name, namespace, escape(request_id)),
            *(result or ()),
            b"</%bResponse>" % name,
        ]

    def _invalid_action(self, name: str) -> ServiceError:
        return ServiceError("InvalidAction", f"The action {name} is not valid for this web service.")

    def refuse(self, error: WireError) -> ServiceError:
        if isinstance(error, MissingParameter):
            return ServiceError("MissingParameter", f"The request must contain the parameter {error.path}")
        if isinstance(error, Malformed):
            return ServiceError("InvalidParameterValue", f"Invalid value for parameter {error.path}: {error.message}")
        return super().refuse(error)

    def encode_error(self, error: ServiceError, request_id: str) -> HttpResponse:
        body = b"%b<Response><Errors><Error>%b</Error></Errors><RequestID>%b</RequestID></Response>" % (
            _XML,
            self._inside_error(error),
            escape(request_id),
        )
        return self.respond(error.status, body, request_id)


class _FormXml:
    __slots__ = ("_documents", "_operation", "_output", "_parameters", "_protocol")

    def __init__(self, protocol: Query, operation: OperationModel) -> None:
        self._documents: dict[int, tuple[Projection, Document | None]] = {}
        self._protocol = protocol
        self._operation = operation
        self._parameters = protocol.forms.codec(operation.input) if operation.input is not None else None
        self._output: XmlStructure | None = None
        if operation.output is not None:
            self._output = protocol.xmls.structure(operation.output)

    def encode_request(self, params: Mapping[str, Any]) -> HttpRequest:
        pairs: Pairs = [("Action", self._operation.name), ("Version", self._protocol.model.metadata["apiVersion"])]
        if self._parameters is not None:
            self._parameters.encode(params, "", pairs)
        elif params:
            raise WireError("the operation takes no parameters", next(iter(params)))
        return HttpRequest(
            self._operation.method,
            "/",
            "",
            {"content-type": "application/x-www-form-urlencoded; charset=utf-8"},
            write_pairs(pairs),
            host_prefix(self._operation, params),
        )

    def decode_request(self, request: HttpRequest) -> dict[str, Any]:
        try:
            text = body_of(request).decode()
        except UnicodeDecodeError:
            raise BrokenSyntax("the body is not UTF-8") from None
        pairs = parse_pairs(f"{request.query}&{text}" if request.query else text)
        params = {name: value for name, value in pairs.items() if name not in _ENVELOPE}
        if self._parameters is None:
            if params and not self._protocol.forms.open_:
                raise UnknownParameter("the operation takes no parameters", next(iter(params)))
            return {}
        decoded: dict[str, Any] = self._parameters.decode(unflatten(params))
        return decoded

    def encode_response(self, result: Mapping[str, Any], request_id: str) -> HttpResponse:
        inner = self._output.parts(result) if self._output is not None else None
        operation = self._operation
        body = self._protocol.envelope(operation.name, inner, operation.result_wrapper, request_id)
        return self._protocol.respond(200, body, request_id)

    def decode_response(self, response: HttpResponse, projection: Projection | None) -> dict[str, Any]:
        document = self._document(projection) if projection is not None else None
        if document is not None:
            try:
                return document.read(response.body)
            except Unusual:
                pass
        reader = self._parser(projection)
        reader.feed(response.body)
        return reader.close()

    def stream(self, projection: Projection | None) -> Decoder:
        document = self._document(projection) if projection is not None else None
        if document is not None:
            return PlainReader(document, lambda: self._parser(projection))
        return self._parser(projection)

    def _parser(self, projection: Projection | None) -> XmlReader:
        return XmlReader(self._output, projection, self._root, self._wrapper)

    @property
    def _root(self) -> str:
        return f"{self._operation.name}Response"

    @property
    def _wrapper(self) -> str | None:
        return self._operation.result_wrapper if self._protocol.wraps else None

    def _document(self, projection: Projection) -> Document | None:
        """The quick reader for a projection, compiled once for each projection that is somebody's constant."""
        known = self._documents.get(id(projection))
        if known is not None and known[0] is projection:
            return known[1]
        if len(self._documents) >= DOCUMENTS_REMEMBERED_MAX:
            return None
        skim = skim_of(self._output, projection) if self._output is not None else None
        document = Document(skim, self._root, self._wrapper) if skim is not None else None
        self._documents[id(projection)] = (projection, document)
        return document


# --- json, rest-json, cbor: a tree out, a tree back -------------------------------------------------------------------


class _Tree(ProtocolOf):
    """What the three tree protocols share: the error document and the words of a refusal."""

    content_type: str
    write: Callable[[object], bytes]
    read: Callable[[bytes], Any]

    def __init__(self, model: ServiceModel, compiler: Callable[..., TreeCompiler]) -> None:
        super().__init__(model)
        self.requests = compiler(requests=True)
        self.responses = compiler(requests=False)

    def refuse(self, error: WireError) -> ServiceError:
        if isinstance(error, MissingParameter):
            return ServiceError("ValidationException", _null_members(error))
        return ServiceError("SerializationException", str(error))

    def headers(self, request_id: str) -> dict[str, str]:
        return {"content-type": self.content_type, "x-amzn-requestid": request_id}

    def encode_error(self, error: ServiceError, request_id: str) -> HttpResponse:
        shape = self.model.error(_QUERY_SHAPES.get(error.code, error.code))
        name = shape.name if shape is not None else error.code
        document: dict[str, Any] = {"__type": name}
        key = "message"
        headers = self.headers(request_id)
        if shape is not None:
            key = next((wire for wire in _MESSAGE if wire in shape.traits["members"]), key)
            self._error_members(shape, error.detail, document, headers)
        document[key] = error.message
        if self.model.query_compatible:
            fault = "Receiver" if error.fault == "server" else "Sender"
            headers["x-amzn-query-error"] = f"{error.code};{fault}"
        return HttpResponse(error.status, headers, self.write(document))

    def _error_members(
        self, shape: Shape, detail: Mapping[str, Any], document: dict[str, Any], headers: dict[str, str]
    ) -> None:
        document.update(self.responses.structure(shape).encode(detail))

    def decode_error(self, response: HttpResponse) -> ServiceError:
        try:
            document = self.read(response.body)
        except WireError:
            return unreadable_error(response)
        if not isinstance(document, dict) or not (document or "x-amzn-errortype" in response.headers):
            return unreadable_error(response)
        named = self._error_name(response, document)
        name = str(named).split(":", 1)[0].rsplit("#", 1)[-1]
        message = next((document[key] for key in _MESSAGE if document.get(key) is not None), "")
        shape = self.model.error(name)
        detail = self._error_detail(shape, response, document) if shape is not None else {}
        code, sender = name, None
        query_error = response.headers.get("x-amzn-query-error", "").split(";")
        if len(query_error) == 2 and query_error[0]:
            code, sender = query_error
        return _service_error(response, code, str(message), response.headers.get("x-amzn-requestid"), sender, detail)

    def _error_name(self, response: HttpResponse, document: dict[Any, Any]) -> object:
        return document.get("__type") or response.headers.get("x-amzn-errortype") or response.status

    def _error_detail(self, shape: Shape, response: HttpResponse, document: dict[Any, Any]) -> dict[str, Any]:
        detail: dict[str, Any] = self.responses.structure(shape).reader(None)(document)
        return detail


class Json(_Tree):
    """`json`, versions 1.0 and 1.1: every call is a POST, the operation stands in `X-Amz-Target`."""

    name = "json"
    write = staticmethod(write_json)
    read = staticmethod(read_json)

    def __init__(self, model: ServiceModel) -> None:
        super().__init__(model, json_compiler)
        self.content_type = f"application/x-amz-json-{model.metadata.get('jsonVersion', '1.0')}"

    def wire(self, operation: OperationModel) -> Wire:
        headers = {
            "content-type": self.content_type,
            "x-amz-target": f"{self.model.metadata['targetPrefix']}.{operation.name}",
        }
        return _Rpc(self, operation, "/", headers)

    def route(self, request: HttpRequest) -> str:
        prefix, _, name = request.headers.get("x-amz-target", "").rpartition(".")
        if prefix != self.model.metadata["targetPrefix"] or name not in self.model.operations:
            raise ServiceError("UnknownOperationException", "")
        return name


class Cbor(_Tree):
    """`smithy-rpc-v2-cbor`: the operation stands in the path."""

    name = "smithy-rpc-v2-cbor"
    write = staticmethod(write_cbor)
    read = staticmethod(read_cbor)
    content_type = "application/cbor"
    _path: Final = re.compile(r"/service/([^/]+)/operation/([^/]+)\Z")

    def __init__(self, model: ServiceModel) -> None:
        super().__init__(model, cbor_compiler)

    def wire(self, operation: OperationModel) -> Wire:
        headers = {"content-type": self.content_type, "accept": self.content_type, "smithy-protocol": "rpc-v2-cbor"}
        target = self.model.metadata["targetPrefix"]
        return _Rpc(self, operation, f"/service/{target}/operation/{operation.name}", headers)

    def headers(self, request_id: str) -> dict[str, str]:
        return {**super().headers(request_id), "smithy-protocol": "rpc-v2-cbor"}

    def route(self, request: HttpRequest) -> str:
        match = self._path.search(request.path)
        if match is None or match[1] != self.model.metadata["targetPrefix"] or match[2] not in self.model.operations:
            raise ServiceError("UnknownOperationException", "", 404)
        return match[2]


class _Buffer:
    """A decoder for a wire that cannot stream: it keeps the body until the end."""

    def __init__(self, finish: Callable[[bytes], dict[str, Any]]) -> None:
        self._finish = finish
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        self._body += data

    def close(self) -> dict[str, Any]:
        return self._finish(bytes(self._body))


class _Rpc:
    """Json and Cbor: the whole input is the body, the whole output is the body."""

    __slots__ = ("_headers", "_input", "_operation", "_output", "_path", "_protocol")

    def __init__(self, protocol: Json | Cbor, operation: OperationModel, path: str, headers: dict[str, str]) -> None:
        self._protocol, self._operation, self._path = protocol, operation, path
        self._input = protocol.requests.structure(operation.input) if operation.input is not None else None
        self._output = protocol.responses.structure(operation.output) if operation.output is not None else None
        if protocol.model.query_compatible:
            headers["x-amzn-query-mode"] = "true"
        self._headers = headers

    def encode_request(self, params: Mapping[str, Any]) -> HttpRequest:
        if self._input is None and params:
            raise WireError("the operation takes no parameters", next(iter(params)))
        headers = dict(self._headers)
        if self._input is not None:
            body = self._protocol.write(self._input.encode(params))
        elif isinstance(self._protocol, Cbor):
            # RPC v2 CBOR: "no content type when the operation has no input".
            body = b""
            del headers["content-type"]
        else:
            body = b"{}"
        return HttpRequest("POST", self._path, "", headers, body, host_prefix(self._operation, params))

    def decode_request(self, request: HttpRequest) -> dict[str, Any]:
        body = body_of(request)
        document = self._protocol.read(body) if body else {}
        if not isinstance(document, dict):
            raise BrokenSyntax("the body is not a structure")
        if self._input is None:
            return {}
        decoded: dict[str, Any] = self._input.reader(None)(document)
        return decoded

    def encode_response(self, result: Mapping[str, Any], request_id: str) -> HttpResponse:
        headers = self._protocol.headers(request_id)
        if self._output is not None:
            body = self._protocol.write(self._output.encode(result))
        elif isinstance(self._protocol, Cbor):
            body = b""
            del headers["content-type"]
        else:
            body = b"{}"
        return HttpResponse(200, headers, body)

    def decode_response(self, response: HttpResponse, projection: Projection | None) -> dict[str, Any]:
        return self._finish(response.body, projection)

    def stream(self, projection: Projection | None) -> Decoder:
        return _Buffer(lambda body: self._finish(body, projection))

    def _finish(self, body: bytes, projection: Projection | None) -> dict[str, Any]:
        if self._output is None:
            return {}
        decoded: dict[str, Any] = self._output.reader(projection)(self._protocol.read(body) if body else {})
        return decoded

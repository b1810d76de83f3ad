"""The description of the HTTP API, as OpenAPI 3.1; docs/serve.md says the same in prose."""

from importlib.metadata import version
from typing import Any

from xraylab.serve.limits import Limits
from xraylab.serve.uploads import FIELD

Schema = dict[str, Any]
ERRORS = {
    400: "The body or the request is malformed.",
    401: "The token is missing or wrong.",
    403: "The request comes from another site's page.",
    408: "The body came too slowly.",
    413: "The body is too large, or holds too many files.",
    415: "The body is not multipart/form-data.",
    421: "The Host header names another machine.",
    429: "The client has sent too many requests; Retry-After says when to go on.",
    500: "The server failed.",
    503: "The server has too much to do; Retry-After says when to try again.",
    504: "The request took too long.",
}
EVERYWHERE = (400, 401, 403, 421, 429, 500)


def document(limits: Limits, classes: list[str], points: list[str], largest_preview: int, needs_token: bool) -> Schema:
    """The whole description, with the limits of this server and the classes and operating points of its models."""
    choices = [
        _parameter("explain", {"enum": classes}, "The answer holds where the evidence for this class is."),
        *([_parameter("point", {"enum": points}, "The operating point of has_<class>.")] if points else []),
        _parameter(
            "preview",
            {"type": "integer", "minimum": 0, "maximum": largest_preview, "default": 0},
            "Pixels: the answer holds each image in 8 bits, at most so large.",
        ),
    ]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "xraylab",
            "version": version("xraylab"),
            "summary": "Classify radiographs by trained models.",
            "description": "For research, not for diagnosis. Nothing that is sent is kept or logged.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/predict": {"post": _predict(limits, choices)},
            "/model": {"get": _get("getModel", "The models that are served", "application/json", _ref("Models"))},
            "/health": {"get": _get("getHealth", "Whether the server works", "application/json", _ref("Health"))},
            "/metrics": {"get": _get("getMetrics", "Counters for Prometheus", "text/plain", {"type": "string"})},
            "/openapi.json": {"get": _get("getOpenapi", "This description", "application/json", {"type": "object"})},
        },
        "components": {"schemas": SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        **({"security": [{"token": []}]} if needs_token else {}),
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _errors(*statuses: int) -> Schema:
    content = {"application/json": {"schema": _ref("Error")}}
    return {str(status): {"description": ERRORS[status], "content": content} for status in sorted(statuses)}


def _get(operation: str, summary: str, media_type: str, schema: Schema) -> Schema:
    good = {"200": {"description": summary, "content": {media_type: {"schema": schema}}}}
    failing = _errors(503) if operation != "getHealth" else {"503": good["200"] | {"description": "It does not work."}}
    return {"operationId": operation, "summary": summary, "responses": good | _errors(*EVERYWHERE) | failing}


def _predict(limits: Limits, parameters: list[Schema]) -> Schema:
    file = {"type": "string", "format": "binary", "description": "PNG, JPEG, WebP, TIFF, BMP or DICOM."}
    files = {"type": "array", "items": file, "minItems": 1, "maxItems": limits.files}
    body = {"type": "object", "required": [FIELD], "properties": {FIELD: files}, "additionalProperties": False}
    answer = {"application/json": {"schema": _ref("Answer")}}
    either = {"application/json": {"schema": {"anyOf": [_ref("Answer"), _ref("Error")]}}}
    return {
        "operationId": "predict",
        "summary": "Classify images",
        "description": f"At most {limits.body} MiB, {limits.files} files, {limits.megapixels} million pixels each.",
        "parameters": parameters,
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": body}}},
        "responses": {
            "200": {"description": "At least one image was classified; the others have an error.", "content": answer},
            "422": {"description": "No image could be classified, or the query is invalid.", "content": either},
            **_errors(*EVERYWHERE, 408, 413, 415, 503, 504),
        },
    }


def _parameter(name: str, schema: Schema, text: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


def _object(required: list[str], properties: Schema, **more: Any) -> Schema:
    return {"type": "object", "required": required, "properties": properties, **more}


TEXT, NUMBER = {"type": "string"}, {"type": "number"}
P: Schema = {"type": "number", "minimum": 0, "maximum": 1}
SCHEMAS: Schema = {
    "Problem": _object(["code", "message"], {"code": TEXT, "message": TEXT}, additionalProperties=False),
    "Warning": _object(["code", "text"], {"code": TEXT, "text": TEXT}, additionalProperties=False),
    "Error": _object(["error"], {"error": _ref("Problem")}, additionalProperties=False),
    "Health": _object(["status"], {"status": {"enum": ["ok", "failing"]}}, additionalProperties=False),
    "Answer": _object(
        ["note", "files"],
        {
            "note": TEXT,
            "files": {"type": "array", "minItems": 1, "items": {"anyOf": [_ref("File"), _ref("FailedFile")]}},
        },
        additionalProperties=False,
    ),
    "FailedFile": _object(["name", "error"], {"name": TEXT, "error": _ref("Problem")}, additionalProperties=False),
    "File": _object(
        ["name", "width", "height", "format", "mode", "results"],
        {
            "name": TEXT,
            "width": {"type": "integer", "minimum": 1},
            "height": {"type": "integer", "minimum": 1},
            "format": {"enum": ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "DICOM"]},
            "mode": {"type": "string", "description": "How the file stores its levels."},
            "results": {"type": "array", "minItems": 1, "maxItems": 2, "items": _ref("Result")},
            "preview": {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"},
        },
        additionalProperties=False,
    ),
    "Result": _object(
        ["model", "predicted", "point", "warnings"],
        {
            "model": TEXT,
            "predicted": {"type": "string", "description": "The class of the highest p, or findings joined by |."},
            "point": {"type": ["string", "null"], "description": "The operating point of has_<class>."},
            "warnings": {"type": "array", "items": _ref("Warning")},
            "overlay": _ref("Overlay"),
        },
        patternProperties={
            "^p_": P | {"description": "The network's probability."},
            "^calibrated_": P | {"description": "After temperature scaling."},
            "^has_": {"enum": [0, 1], "description": "1: p reaches the threshold of the operating point."},
        },
        additionalProperties=False,
    ),
    "Overlay": _object(
        ["class", "box", "png"],
        {
            "class": TEXT,
            "box": {
                "type": "array",
                "items": NUMBER,
                "minItems": 4,
                "maxItems": 4,
                "description": "Left, top, width and height of the overlay as fractions of the image's sides.",
            },
            "png": {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"},
        },
        additionalProperties=False,
    ),
    "Models": _object(
        ["note", "models"],
        {"note": TEXT, "models": {"type": "array", "minItems": 1, "maxItems": 2, "items": _ref("Model")}},
        additionalProperties=False,
    ),
    "Model": _object(
        ["name", "task", "classes", "point", "operating_points", "preprocessing", "arch", "hardware", "notes", "card"],
        {
            "name": TEXT,
            "task": {"enum": ["single-label", "multi-label"]},
            "classes": {"type": "array", "items": TEXT, "minItems": 1},
            "point": {"type": ["string", "null"]},
            "operating_points": {
                "type": "array",
                "items": _object(
                    ["class", "point", "threshold"],
                    {"class": TEXT, "point": TEXT, "threshold": NUMBER},
                    additionalProperties=False,
                ),
            },
            "preprocessing": {"type": "object"},
            "arch": TEXT,
            "hardware": TEXT,
            "notes": {"type": "array", "items": TEXT},
            "card": {"type": ["object", "null"]},
        },
        additionalProperties=False,
    ),
}

"""What all faces share: routes as data, bodies with limits, errors of the transport, the ASGI application."""

from mainstem.http.application import Application, wants_problem_details
from mainstem.http.bodies import decompress
from mainstem.http.errors import (
    BodyTooLarge,
    BodyTooSlow,
    MalformedBody,
    MethodNotAllowed,
    NoSuchRoute,
    UnsupportedMediaType,
)
from mainstem.http.hot import HotAnswer, HotRoute, hot_answer, hot_protocol, is_json
from mainstem.http.openapi import openapi
from mainstem.http.protocol import HEADER_BYTES_MAX, Guard
from mainstem.http.routes import (
    JSON,
    REQUEST_ID,
    Answer,
    Call,
    Face,
    Header,
    Limits,
    Reply,
    Route,
    decode_json,
    json_answer,
)

__all__ = [
    "HEADER_BYTES_MAX",
    "JSON",
    "REQUEST_ID",
    "Answer",
    "Application",
    "BodyTooLarge",
    "BodyTooSlow",
    "Call",
    "Face",
    "Guard",
    "Header",
    "HotAnswer",
    "HotRoute",
    "Limits",
    "MalformedBody",
    "MethodNotAllowed",
    "NoSuchRoute",
    "Reply",
    "Route",
    "UnsupportedMediaType",
    "decode_json",
    "decompress",
    "hot_answer",
    "hot_protocol",
    "is_json",
    "json_answer",
    "openapi",
    "wants_problem_details",
]

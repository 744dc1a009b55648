"""What all faces share: routes as data, bodies with limits, errors of the transport, the ASGI application."""

from mainstem.http.application import Application, wants_problem_details
from mainstem.http.bodies import accepts, compressed, decompress, preferred_encoding
from mainstem.http.errors import (
    BodyTooLarge,
    BodyTooSlow,
    ClientGone,
    MalformedBody,
    MethodNotAllowed,
    NoSuchRoute,
    NotAcceptable,
    UnsupportedMediaType,
    UpgradeRequired,
)
from mainstem.http.files import File, RangeNotSatisfiable, file_answer
from mainstem.http.forms import FORM, FormLimits, Part, form_parts
from mainstem.http.hot import Answering, HotHead, HotRoute, hot_answer, hot_protocol, is_json
from mainstem.http.openapi import openapi
from mainstem.http.origins import Cors
from mainstem.http.protocol import HEADER_BYTES_MAX, Guard, SocketProtocol
from mainstem.http.proxies import TrustedProxies
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
from mainstem.http.sessions import Session, Sessions
from mainstem.http.sockets import GOING_AWAY, NORMAL, POLICY, Socket

__all__ = [
    "FORM",
    "GOING_AWAY",
    "HEADER_BYTES_MAX",
    "JSON",
    "NORMAL",
    "POLICY",
    "REQUEST_ID",
    "Answer",
    "Answering",
    "Application",
    "BodyTooLarge",
    "BodyTooSlow",
    "Call",
    "ClientGone",
    "Cors",
    "Face",
    "File",
    "FormLimits",
    "Guard",
    "Header",
    "HotHead",
    "HotRoute",
    "Limits",
    "MalformedBody",
    "MethodNotAllowed",
    "NoSuchRoute",
    "NotAcceptable",
    "Part",
    "RangeNotSatisfiable",
    "Reply",
    "Route",
    "Session",
    "Sessions",
    "Socket",
    "SocketProtocol",
    "TrustedProxies",
    "UnsupportedMediaType",
    "UpgradeRequired",
    "accepts",
    "compressed",
    "decode_json",
    "decompress",
    "file_answer",
    "form_parts",
    "hot_answer",
    "hot_protocol",
    "is_json",
    "json_answer",
    "openapi",
    "preferred_encoding",
    "wants_problem_details",
]

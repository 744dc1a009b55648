"""The short way for messages in: one push with its Key and Message as JSON, or both in the query string."""

import re
from time import perf_counter

import msgspec

from mainstem.clock import Clock
from mainstem.errors import MainstemError
from mainstem.events import Message, Messages, Topic
from mainstem.faces.evernest import wire
from mainstem.http import Answering, HotHead, hot_answer
from mainstem.identity import Sources
from mainstem.ids import TopicId
from mainstem.telemetry import Metrics

_TARGET = re.compile(rb"/stream/([0-9]{1,18})/push/?(?:\?(.*))?", re.IGNORECASE)
_MESSAGE_CHARACTERS_MAX = 512
"""The answer repeats the message, and a large one may be compressed: that is the long way's work."""
_MEANINGLESS = (b"content-type", b"x-api-key", b"authorization")
"""The body is JSON, whatever is said of it, and keys are parameters."""
_NOT_KEPT = b"%b: %b\r\n" % tuple(text.encode() for text in wire.NOT_KEPT)
_PUSHED = HotHead(200, _NOT_KEPT, wire.MEDIA_TYPE.encode())


class _Push(msgspec.Struct, forbid_unknown_fields=True, rename="pascal", gc=False):
    """The usual body. Whatever differs from it, be it by the case of a name, goes the long way."""

    message: str
    key: str


_decode = msgspec.json.Decoder(_Push).decode
_encode = msgspec.json.Encoder().encode


class _Facts:
    """What a header block says."""

    __slots__ = ("is_post", "push", "topic")

    def __init__(self, topic: TopicId, push: _Push | None, *, is_post: bool) -> None:
        self.topic = topic
        self.push = push
        self.is_post = is_post


class HotPush:
    """`mainstem.http.HotRoute` of Push."""

    def __init__(self, messages: Messages, sources: Sources, clock: Clock, metrics: Metrics) -> None:
        self._messages = messages
        self._sources = sources
        self._clock = clock
        self._post_meter = metrics.meter("evernest_push", "POST")
        self._get_meter = metrics.meter("evernest_push", "GET")

    def read(self, method: bytes, target: bytes, headers: dict[bytes, bytes]) -> _Facts | None:
        found = _TARGET.fullmatch(target)
        if found is None or method not in (b"POST", b"GET"):
            return None
        for name in _MEANINGLESS:
            headers.pop(name, None)
        push = None
        if found[2]:
            push = _of_query(found[2])
            if push is None:
                return None
        return _Facts(TopicId(int(found[1])), push, is_post=method == b"POST")

    def serve(self, facts: _Facts, body: bytes, now: float, answer: Answering) -> bool:
        started = perf_counter()
        push = facts.push
        if push is None:
            try:
                push = _decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return False
        elif body:
            return False
        principal = self._sources.known(push.key)
        if principal is None or len(push.message) > _MESSAGE_CHARACTERS_MAX:
            return False
        meter = self._post_meter if facts.is_post else self._get_meter
        clock = self._clock

        def answered(topic: Topic, result: Message | Exception) -> None:
            if isinstance(result, Exception):
                error = result if isinstance(result, MainstemError) else None
                head, text = hot_answer(wire.error_answer(error, clock()), _NOT_KEPT)
                meter.count(head.status, perf_counter() - started)
                answer(head, text)
                return
            meter.count(200, perf_counter() - started)
            response = _encode(wire.pushed(topic, result))
            time = wire.format_time(clock()).encode()
            answer(_PUSHED, b'{"Success":true,"UtcTime":"%b","Response":%b}' % (time, response))

        return self._messages.submit(principal, facts.topic, push.message, answered)


def _of_query(query: bytes) -> _Push | None:
    """Key and Message of a query string that has nothing else."""
    try:
        parameters = wire.Parameters(query, b"")
        key, message = parameters.text("Key"), parameters.text("Message")
    except MainstemError:
        return None
    return None if key is None or message is None else _Push(message, key)

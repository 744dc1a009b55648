"""What a request gives by name: its query string, and over it its body, JSON or a form with brackets."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from mainstem.errors import NotFound
from mainstem.http import JSON, Call, MalformedBody

FORM = "application/x-www-form-urlencoded"

PAGE_MAX = 1 << 53
PER_PAGE_MAX = 100
PER_PAGE = 25

_ID_MAX = (1 << 63) - 1
_SEARCH_CHARACTERS_MAX = 8_193
"""One more than the longest of those texts has."""
_FORM_FIELDS_MAX = 10_000
_FORM_DEPTH_MAX = 8
_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_FORM_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_FALSE = frozenset({"false", "f", "0", "off"})


class TooManyParameters(MalformedBody):
    """More fields than anybody has."""


class Parameters(Mapping[str, Any]):
    """The fields of a request, as they came. What a client adds that nobody knows is left alone, never an error."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def text(self, name: str) -> str | None:
        """A field as text. None where it is missing, null, or no scalar: lists and objects are dropped, not refused."""
        return text_of(self._values.get(name))

    def filled(self, name: str) -> str | None:
        """The same without space at its ends, and None where nothing is left of it."""
        return (self.text(name) or "").strip() or None

    @property
    def search(self) -> str | None:
        """What is looked for in texts that have their limits. One that is longer than any of them fits nothing, and the
        rest of it makes no difference but in the database, which refuses patterns of such a size."""
        given = self.filled("search")
        return None if given is None else given[:_SEARCH_CHARACTERS_MAX]

    def boolean(self, name: str) -> bool | None:
        """None where it is missing or blank; `false`, `f`, `0` and `off` in any case are false, all else is true."""
        given = self.filled(name)
        return None if given is None else given.lower() not in _FALSE

    def integer(self, name: str) -> int | None:
        """None where it is missing, or no whole number of 64 bits."""
        return integer_of(self._values.get(name))

    def list(self, name: str) -> list[Any]:
        """The elements of an array; none where it is none. `ids[]=1&ids[]=2` is one."""
        given = self._values.get(name)
        return given if isinstance(given, list) else []

    @property
    def page(self) -> int:
        """Which page of a list is asked for: 1 where that is no number, or less."""
        return min(max(self.integer("page") or 1, 1), PAGE_MAX)

    def per_page(self, default: int = PER_PAGE) -> int:
        """How long a page may be: `default` where that is no number, or less than 1; 100 at most."""
        asked = self.integer("per_page")
        return default if asked is None or asked < 1 else min(asked, PER_PAGE_MAX)


def text_of(value: object) -> str | None:
    """A scalar as text, else None."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case _:
            return None


def integer_of(value: object) -> int | None:
    """A whole number of 64 bits, also as text, else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    if isinstance(value, str):
        digits = value.strip().removeprefix("-")
        value = int(value) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
    return value if isinstance(value, int) and -_ID_MAX <= value <= _ID_MAX else None


def record_id(call: Call, name: str = "id", kind: type[NotFound] = NotFound) -> int:
    """The number of a record in the path. Raises NotFound, of this kind, for what cannot be one."""
    number = integer_of(call.path_parameters[name])
    if number is None or number < 0:
        raise kind("Record not found")
    return number


def query_of(call: Call) -> Parameters:
    """The query string alone, to look for something. What no text can have in it, bytes that are no UTF-8 and NUL, is
    replaced: it fits nothing, and so finds nothing, where databases would take what is before it."""
    return Parameters(_form(_query_string(call).replace("%00", "%EF%BF%BD")))


def _query_string(call: Call) -> str:
    return str(call.scope["query_string"].decode(errors="replace"))


async def body_of(call: Call) -> Any:
    """The body as JSON, or as an object made of a form; an empty one is `{}`, whatever its Content-Type says.

    Raises MalformedBody, TooManyParameters, BodyTooLarge.
    """
    body = await call.body()
    if not body or body.isspace():
        return {}
    if call.media_type == FORM:
        return _form(body.decode(errors="replace"))
    if call.media_type not in (JSON, "") and not call.media_type.endswith("+json"):
        return {}  # as if it were not there: nothing in it has a name
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody("Malformed JSON") from error


async def parameters_of(call: Call, wrapper: str | None = None) -> Parameters:
    """Query string and body together; the body wins.

    With a `wrapper`, what is in the object of that name counts as well, and most: clients send both
    `{"city": "Austin"}` and `{"location": {"city": "Austin"}}`.
    """
    values = _form(_query_string(call))
    body = await body_of(call)
    if isinstance(body, dict):
        values |= body
    inner = values.get(wrapper) if wrapper is not None else None
    return Parameters(values | inner if isinstance(inner, dict) else values)


def _form(text: str) -> dict[str, Any]:
    """`user[email]=a&ids[]=1&ids[]=2` as {"user": {"email": "a"}, "ids": ["1", "2"]}.

    Raises TooManyParameters for more fields than anybody has.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_FORM_FIELDS_MAX)
    except ValueError as error:
        raise TooManyParameters(f"At most {_FORM_FIELDS_MAX:,} parameters are read") from error
    values: dict[str, Any] = {}
    for name, value in pairs:
        match = _FORM_NAME.fullmatch(name)
        path = [match[1], *_BRACKET.findall(match[2])] if match else [name]
        if len(path) <= _FORM_DEPTH_MAX:
            _put(values, path, value)
    return values


def _put(values: dict[str, Any], path: list[str], value: str) -> None:
    """Where two names contradict each other, the later one counts."""
    name, rest = path[0], path[1:]
    if not rest:
        values[name] = value
    elif rest == [""]:
        if not isinstance(values.get(name), list):
            values[name] = []
        values[name].append(value)
    elif rest[0] == "":
        _put_in_last(values, name, rest[1:], value)
    else:
        if not isinstance(values.get(name), dict):
            values[name] = {}
        _put(values[name], rest, value)


def _put_in_last(values: dict[str, Any], name: str, rest: list[str], value: str) -> None:
    """`entries[][value]=a&entries[][notes]=b`: an object goes on until one of its fields comes again."""
    if not isinstance(values.get(name), list):
        values[name] = []
    elements = values[name]
    if not elements or not isinstance(elements[-1], dict) or rest[0] in elements[-1]:
        elements.append({})
    _put(elements[-1], rest, value)

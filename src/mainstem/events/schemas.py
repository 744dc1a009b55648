"""JSON Schemas of topics: read once for each version of a topic, then held against every event that comes in."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import jsonschema_rs
import msgspec

from mainstem.errors import Invalid
from mainstem.events.model import EventError, told

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REASON_CHARACTERS_MAX = 200
_KNOWN_MAX = 1_024
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")


class InvalidSchema(Invalid):
    """A text that is no JSON Schema 2020-12, or refers to something outside of itself."""


class SchemaViolation(Invalid):
    """Events are not as their topic's schema wants them; `index` and `path` say where the first one is not."""

    def __init__(self, errors: Sequence[EventError], total: int) -> None:
        first = errors[0]
        super().__init__(
            f"{len(errors)} of {total} events are not as the stream's schema wants them and none was stored; the first,"
            f" at index {first.index}: {first.path}: {first.message}",
            index=first.index,
            path=first.path,
            reason=first.message,
            errors=told(errors),
            rejected=len(errors),
        )


class Violation(NamedTuple):
    """What a schema holds against an event; `path` is where, as filters write it: `data.user.id`."""

    path: str
    reason: str


class Schema:
    """A JSON Schema, compiled. It judges `data` alone."""

    def __init__(self, text: bytes) -> None:
        """Raises InvalidSchema. Nothing is ever fetched: a `$ref` must lead to somewhere inside the schema."""
        try:
            schema = msgspec.json.decode(text)
            if isinstance(schema, dict) and schema.get("$schema", _DIALECT).rstrip("#") != _DIALECT:
                raise InvalidSchema(f"Schemas are read as {_DIALECT}; leave $schema out, or name that", field="schema")
            self._validator = jsonschema_rs.Draft202012Validator(
                schema,
                offline=True,
                mask="The value",  # messages would repeat it, however long it is
                # This engine's time grows with the text and no faster, so no pattern can hold up the server; it knows
                # neither look-around nor back references.
                pattern_options=jsonschema_rs.RegexOptions(),
            )
        except jsonschema_rs.ValidationError as error:
            place = _dotted("schema", error.instance_path)
            raise InvalidSchema(f"{place} is wrong: {_shortened(error.message)}", field=place) from error
        except (ValueError, AttributeError, RecursionError, jsonschema_rs.ReferencingError) as error:
            # Of which msgspec's DecodeError is one; a `$schema` that is no text has no `rstrip`.
            raise InvalidSchema(f"schema cannot be used: {_shortened(str(error))}", field="schema") from error

    def allows(self, data: bytes) -> bool:
        try:
            return self._validator.is_valid(msgspec.json.decode(data))
        except (ValueError, RecursionError):  # numbers past what a double can hold, or too deep to look into
            return False

    def allows_all(self, column: Iterable[bytes]) -> bool:
        return all(map(self.allows, column))

    def violation(self, data: bytes) -> Violation | None:
        """The first thing that is wrong, or None."""
        try:
            errors = self._validator.iter_errors(msgspec.json.decode(data))
            first = next(iter(errors), None)
        except (ValueError, RecursionError) as error:
            return Violation("data", f"cannot be checked: {_shortened(str(error))}")
        return None if first is None else Violation(_dotted("data", first.instance_path), _shortened(first.message))

    def error(self, data: bytes, index: int) -> EventError | None:
        """`violation`, as an error of the event with this index."""
        violation = self.violation(data)
        return None if violation is None else EventError(index, "SCHEMA_VIOLATION", violation.reason, violation.path)


@lru_cache(_KNOWN_MAX)
def compiled(text: bytes) -> Schema:
    """The schema that this is the text of. Raises InvalidSchema."""
    return Schema(text)


def _dotted(root: str, path: Sequence[str | int]) -> str:
    names = (str(name) for name in path)
    return ".".join([root, *(name if _PLAIN_NAME.fullmatch(name) else f'"{name}"' for name in names)])


def _shortened(reason: str) -> str:
    line = reason.strip().partition("\n")[0]
    return line if len(line) <= _REASON_CHARACTERS_MAX else f"{line[: _REASON_CHARACTERS_MAX - 1]}…"

"""What somebody wrote into the fields of a form, or into the metadata of an upload, as an order. Pure."""

import re
from collections.abc import Mapping
from enum import StrEnum

from mainstem.errors import Invalid
from mainstem.transcode.audio import Codec
from mainstem.transcode.model import Order, Profile
from mainstem.transcode.plan import BITRATES
from mainstem.work import Priority

TRACK_CHARACTERS_MAX = 255
LOUDNESS_LUFS = (-70.0, -5.0)

_SWITCHES = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_TRACK_MARKS = frozenset("-_. ")


def order_of(fields: Mapping[str, str]) -> Order:
    """The order in the fields `codec`, `bitrate`, `quality_profile`, `priority`, `track_id`, `ladder` and `loudness`.

    Any may be missing or empty; others are passed over. Raises Invalid, naming the field.
    """
    given = {name: text.strip() for name, text in fields.items() if text.strip()}
    codec = _choice("codec", Codec, given)
    return Order(
        codec=codec,
        bitrate=_bitrate(given.get("bitrate"), codec or Codec.AAC),
        profile=_choice("quality_profile", Profile, given) or Profile.HIGH,
        priority=_priority(given),
        track_id=_track(given.get("track_id")),
        ladder=_switch("ladder", given),
        loudness=_loudness(given.get("loudness")),
    )


def track_of(filename: str) -> str:
    """A track's name from that of its file: without folders and extension, with `_` for what no name may have; empty
    when nothing is left."""
    name = re.split(r"[/\\]", filename)[-1]
    stem, dot, _ = name.rpartition(".")
    text = "".join(character if _is_of_track(character) else "_" for character in (stem if dot else name))
    return re.sub(r"\.{2,}", ".", text).strip(". ")[:TRACK_CHARACTERS_MAX].rstrip()


def _choice[Choice: StrEnum](field: str, kind: type[Choice], given: Mapping[str, str]) -> Choice | None:
    text = given.get(field)
    if text is None:
        return None
    try:
        return kind(text.lower())
    except ValueError:
        known = ", ".join(kind)
        if kind is Codec:
            raise Invalid(f"Unsupported codec: {_shown(text)}; choose one of {known}.", field=field) from None
        raise Invalid(f"There is no {field} {_shown(text)!r}; choose one of {known}.", field=field) from None


def _priority(given: Mapping[str, str]) -> Priority:
    text = given.get("priority", Priority.NORMAL.name)
    try:
        return Priority[text.upper()]
    except KeyError:
        known = ", ".join(priority.name.lower() for priority in Priority)
        raise Invalid(f"There is no priority {_shown(text)!r}; choose one of {known}.", field="priority") from None


def _bitrate(text: str | None, codec: Codec) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise Invalid(f"The bitrate is a whole number of bits a second, not {_shown(text)!r}.", field="bitrate")
    bitrate = int(text)
    if codec is Codec.FLAC:
        return None  # it takes what it takes
    lowest, highest = BITRATES[codec]
    if not lowest <= bitrate <= highest:
        raise Invalid(
            f"Invalid bitrate: {bitrate} for codec: {codec}; it takes {lowest} to {highest}.", field="bitrate"
        )
    return bitrate


def _track(text: str | None) -> str | None:
    if text is None:
        return None
    if len(text) > TRACK_CHARACTERS_MAX or ".." in text or not all(map(_is_of_track, text)):
        raise Invalid(
            f"A track_id has 1 to {TRACK_CHARACTERS_MAX} letters, digits, `-`, `_`, `.` or spaces, and no `..`.",
            field="track_id",
        )
    return text


def _is_of_track(character: str) -> bool:
    return character.isalnum() or character in _TRACK_MARKS


def _switch(field: str, given: Mapping[str, str]) -> bool:
    text = given.get(field, "false")
    try:
        return _SWITCHES[text.lower()]
    except KeyError:
        raise Invalid(f"{field} is true or false, not {_shown(text)!r}.", field=field) from None


def _loudness(text: str | None) -> float | None:
    if text is None or text.lower() == "off":
        return None
    lowest, highest = LOUDNESS_LUFS
    try:
        target = float(text)
    except ValueError:
        target = 0.0
    if not lowest <= target <= highest:  # which nan is not, either
        raise Invalid(
            f"loudness is a target from {lowest:g} to {highest:g} LUFS, or off, not {_shown(text)!r}.", field="loudness"
        )
    return target


def _shown(text: str) -> str:
    return text if len(text) <= 50 else text[:50] + "…"

"""Every setting of the server: its name, default, unit and one sentence.

A setting comes from the environment (`MAINSTEM_` and the field's name in capitals), else from the TOML file that
`MAINSTEM_CONFIG` names (a key with the field's name), else it has its default. A name that nobody knows is refused,
because a misspelt limit that is silently ignored is worse than a server that does not start.

Some settings have an alias, a name by which another server knew the same thing: it is taken from the environment as it
is and with `MAINSTEM_` before it. The setting's own name wins, then the alias with the prefix, then the plain one.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta, inspect

from mainstem.errors import Invalid

PREFIX = "MAINSTEM_"
CONFIG_VARIABLE = "MAINSTEM_CONFIG"

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_SIZE = re.compile(r"(\d+)\s*(KiB|MiB|GiB)", re.IGNORECASE)
_SIZES = {"kib": _KIB, "mib": _MIB, "gib": _GIB}

_HIDDEN = ("admin_password", "api_key", "secret_key", "jwt_secret", "secret_key_base")
_SWITCH = {"on": "true", "off": "false", "yes": "true", "no": "false"}


def _text_like(pattern: str, wanted: str) -> Meta:
    """`wanted`: what the pattern says, for whoever got it wrong."""
    return Meta(pattern=pattern, extra={"wanted": wanted})


type _Email = Annotated[str, _text_like(r"^\S+@\S+$", "an email address")]
type _Password = Annotated[str, Meta(min_length=8)]
type _ApiKey = Annotated[
    str, _text_like(r"^ms_[A-Za-z0-9_-]{16,128}$", "`ms_` and 16 to 128 letters, digits, `-` or `_`")
]
type _Secret = Annotated[str, Meta(min_length=16)]
type _SigningSecret = Annotated[str, Meta(min_length=32)]
type _Origin = Annotated[
    str, _text_like(r"^(\*|[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s,]+)$", "an origin such as https://example.com, or `*`")
]
type _Network = Annotated[str, _text_like(r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$", "an address or a network")]


def _text(
    sentence: str,
    pattern: str | None = None,
    *,
    alias: Sequence[str] = (),
    spellings: Mapping[str, str] | None = None,
) -> Meta:
    """`spellings`: how else the environment may write a value, in lower case."""
    return Meta(description=sentence, pattern=pattern, extra={"alias": alias, "spellings": spellings or {}})


def _seconds(
    sentence: str, at_least: float = 0.001, at_most: float | None = None, *, alias: Sequence[str] = ()
) -> Meta:
    return Meta(description=sentence, ge=at_least, le=at_most, extra={"unit": "seconds", "alias": alias})


def _bytes(sentence: str, at_least: int = 1, *, alias: Sequence[str] = ()) -> Meta:
    return Meta(description=sentence, ge=at_least, extra={"unit": "bytes", "alias": alias})


def _count(
    sentence: str, unit: str, at_least: int = 1, at_most: int | None = None, *, alias: Sequence[str] = ()
) -> Meta:
    return Meta(description=sentence, ge=at_least, le=at_most, extra={"unit": unit, "alias": alias})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator chose. Bytes may also be written as `16MiB`; relative paths begin where the server starts."""

    # Where the server is

    host: Annotated[str, _text("The address to listen on; `0.0.0.0` is every IPv4 address of the machine.", r"\S")] = (
        "127.0.0.1"
    )
    port: Annotated[
        int,
        _count(
            "The TCP port to listen on; 0 takes any that is free.",
            "port",
            at_least=0,
            at_most=65_535,
            alias=["STREAM_SERVER_PORT"],
        ),
    ] = 8082
    data: Annotated[Path, _text("The folder that holds everything the server keeps.")] = Path("mainstem-data")

    # The first start

    admin_email: Annotated[
        _Email | None, _text("The administrator's email at the first start; `admin@localhost` if not given.")
    ] = None
    admin_password: Annotated[
        _Password | None, _text("The administrator's password at the first start; made and shown once if not given.")
    ] = None
    api_key: Annotated[
        _ApiKey | None,
        _text("The first API key (`ms_` and 16 to 128 letters, digits, `-` or `_`); made and shown once if not given."),
    ] = None

    # What is logged

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _text(
            "The least severity that is logged.",
            alias=["LOG_LEVEL"],
            spellings={"trace": "debug", "debug": "debug", "info": "info", "warn": "warning", "warning": "warning"},
        ),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "console"],
        _text(
            "How log lines look; `auto` is JSON unless a terminal reads them.",
            alias=["LOG_FORMAT"],
            spellings={"pretty": "console", "compact": "console"},
        ),
    ] = "auto"

    # What a client may send

    body_bytes_max: Annotated[
        int, _bytes("The largest request body, counted while it is read and after decompression.", 1_024)
    ] = 16 * _MIB
    event_bytes_max: Annotated[int, _bytes("The largest event, as JSON.", 64)] = _MIB
    batch_events_max: Annotated[int, _count("The most events in one request.", "events")] = 10_000
    trusted_proxies: Annotated[
        tuple[_Network, ...],
        _text("The proxies, as addresses or networks with commas between, whose X-Forwarded-For is believed."),
    ] = ()
    connections_max: Annotated[
        int, _count("The most connections at once; more are answered with 503 and closed.", "connections")
    ] = 4_096
    header_timeout_s: Annotated[
        float, _seconds("How long a client may take to send a request's headers before it is cut off.")
    ] = 10
    body_timeout_s: Annotated[
        float, _seconds("How long a client may pause while it sends a request's body before it is cut off.")
    ] = 30
    keep_alive_s: Annotated[float, _seconds("How long an idle connection is kept open for the next request.")] = 65
    shutdown_timeout_s: Annotated[
        float, _seconds("How long a stopping server waits for requests that are under way.")
    ] = 10
    token_lifetime_s: Annotated[
        int, _seconds("How long a token from signing in is good.", at_least=1, alias=["JWT_EXPIRATION"])
    ] = 3_600

    # How long events are kept

    retention_days: Annotated[
        int,
        _count(
            "How long events are kept, counted from their arrival, in streams that set nothing else.",
            "days",
            at_most=36_500,
        ),
    ] = 90
    dedupe_window_s: Annotated[
        int,
        _seconds(
            "How long an `event_id` is remembered to recognise a repeat, in streams that set nothing else.",
            at_least=0,
            at_most=604_800,
        ),
    ] = 86_400

    # Queries

    query_threads: Annotated[int, _count("How many threads a query may use.", "threads")] = 2
    query_memory_bytes: Annotated[
        int, _bytes("How much memory all queries together may take before they spill to disk.", 64 * _MIB)
    ] = 512 * _MIB
    query_timeout_s: Annotated[
        float, _seconds("How long a query may run before it is stopped and answered with 503.")
    ] = 30
    queries_max: Annotated[
        int, _count("The most queries that run or wait at once; more are answered with 429.", "queries")
    ] = 64

    # The log

    segment_events: Annotated[
        int, _count("How many events are live before they are sealed into a segment.", "events", at_least=16)
    ] = 131_072
    segment_bytes: Annotated[
        int, _bytes("How much event text is live before it is sealed into a segment.", 64 * _KIB)
    ] = 48 * _MIB
    seal_age_s: Annotated[
        float, _seconds("How old the oldest live event may get before it is sealed, however few there are.")
    ] = 900
    unsealed_events_max: Annotated[
        int, _count("How many events may wait for sealing before writers have to wait, too.", "events", at_least=32)
    ] = 600_000
    unsealed_bytes_max: Annotated[
        int, _bytes("How much event text may wait for sealing before writers have to wait, too.", 128 * _KIB)
    ] = 256 * _MIB
    disk_free_bytes_min: Annotated[
        int, _bytes("The free space below which writes are refused with 503, until there is room again.", 0)
    ] = 256 * _MIB
    row_group_cache_bytes: Annotated[
        int, _bytes("How much memory keeps pieces of segments that were read of late.", 0)
    ] = 64 * _MIB
    compaction_events: Annotated[
        int, _count("Segments are merged until they hold about so many events.", "events", at_least=16)
    ] = 1_048_576
    maintain_every_s: Annotated[
        float, _seconds("How often the log looks for events past retention and segments to merge.")
    ] = 30

    # Audio in, HLS out (stream-server)

    max_file_size: Annotated[
        int, _bytes("The largest audio file that may be uploaded, counted while it arrives.", alias=["MAX_FILE_SIZE"])
    ] = 100 * _MIB
    uploads_open_max: Annotated[
        int, _count("The most resumable uploads that are begun and not complete; more get 503.", "uploads")
    ] = 256
    upload_lifetime_s: Annotated[
        float, _seconds("How long a resumable upload is kept after the last bytes of it came.", 1)
    ] = 86_400
    compression_cleanup_after_days: Annotated[
        float,
        Meta(
            description="How long a job and what it made are kept after its end; 0: until somebody deletes them.",
            ge=0,
            extra={"unit": "days", "alias": ["COMPRESSION_CLEANUP_AFTER_DAYS"]},
        ),
    ] = 7
    allowed_origins: Annotated[
        tuple[_Origin, ...],
        _text(
            "The web pages that may use stream-server, as origins with commas between; `*` is every one.",
            alias=["ALLOWED_ORIGINS"],
        ),
    ] = ("http://localhost:5176", "http://localhost:3000")
    cors_max_age_s: Annotated[
        int,
        _seconds("How long a browser remembers what a page of those may do.", 0, 86_400, alias=["CORS_MAX_AGE"]),
    ] = 3_600
    stream_require_auth: Annotated[
        bool | None,
        _text(
            "Whether stream-server asks for a credential; if not given: yes, unless only this machine can reach it.",
            spellings=_SWITCH,
        ),
    ] = None
    jwt_secret: Annotated[
        _SigningSecret | None,
        _text("The secret that signs tokens of another issuer, which stream-server then takes.", alias=["JWT_SECRET"]),
    ] = None
    secret_key: Annotated[
        _Secret | None,
        _text("The secret that signs addresses for players; made and kept if not given.", alias=["SECRET_KEY"]),
    ] = None
    signature_tolerance_s: Annotated[
        float,
        _seconds(
            "How long after its time a signed address is still taken, for clocks that differ.",
            0,
            alias=["SIGNATURE_TOLERANCE"],
        ),
    ] = 60
    rate_limit: Annotated[
        bool | None,
        _text(
            "Whether uploads are counted by address; if not given: yes, unless only this machine can reach the server.",
            spellings=_SWITCH,
        ),
    ] = None
    rate_limit_rpm: Annotated[
        int, _count("How many uploads a minute an address may begin.", "requests a minute", alias=["RATE_LIMIT_RPM"])
    ] = 60
    rate_limit_burst: Annotated[
        int, _count("How many of them may come at once.", "requests", alias=["RATE_LIMIT_BURST"])
    ] = 10
    stream_dates: Annotated[
        Literal["rfc3339", "rust"],
        _text("How stream-server writes times: as RFC 3339, or as `SystemTime { … }` for who parses that."),
    ] = "rfc3339"
    transcode_jobs: Annotated[
        int,
        _count(
            "How many files are transcoded at once, in a process beside the server's; 0: none, and there is no such"
            " process.",
            "jobs",
            at_least=0,
            at_most=256,
            alias=["COMPRESSION_MAX_CONCURRENT_JOBS"],
        ),
    ] = 4
    transcode_waiting_max: Annotated[int, _count("The most jobs that wait or run; more uploads get 503.", "jobs")] = (
        1_000
    )
    transcode_timeout_s: Annotated[float, _seconds("How long an attempt at a job may take before it fails.", 1)] = 3_600
    transcode_duration_max_s: Annotated[float, _seconds("How much sound an uploaded file may hold.", 1)] = 43_200
    transcode_memory_bytes: Annotated[
        int, _bytes("How much address space the process of a job may have.", 512 * _MIB)
    ] = 2 * _GIB

    # A catalogue of live streams (StreamSource)

    check: Annotated[
        bool,
        _text(
            "Whether a process beside the server's looks who in the catalogue is live.",
            spellings=_SWITCH,
        ),
    ] = True
    check_live_seconds: Annotated[
        int, _seconds("How long after a check a listing that is live is checked again.", 1, 86_400)
    ] = 120
    check_idle_seconds: Annotated[
        int, _seconds("How long after a check a listing that is not live is checked again.", 1, 86_400)
    ] = 420
    check_timeout_seconds: Annotated[
        float, _seconds("How long the checker waits for an answer from elsewhere.", 0.1, 60)
    ] = 10
    check_allow_private: Annotated[
        bool,
        _text(
            "Whether links into private networks are checked, too: whoever may add listings could look around there.",
            spellings=_SWITCH,
        ),
    ] = False
    archive_after_minutes: Annotated[
        int,
        _count(
            "How long after it was last checked, or live, a listing that is not live goes into the archive; 0: never.",
            "minutes",
            at_least=0,
            at_most=525_600,
        ),
    ] = 30
    signup: Annotated[
        bool,
        _text("Whether strangers may make themselves an account, which may read and nothing else.", spellings=_SWITCH),
    ] = True
    signup_roles: Annotated[
        bool,
        _text(
            "Whether they may choose its role, too: for tests alone, since anybody is an administrator then.",
            spellings=_SWITCH,
        ),
    ] = False
    secret_key_base: Annotated[
        _SigningSecret | None,
        _text("The secret that signs StreamSource's tokens; the server's own if not given.", alias=["SECRET_KEY_BASE"]),
    ] = None
    rate_limit_loopback: Annotated[
        bool,
        _text("Whether StreamSource's limits count for this machine's own programs as well.", spellings=_SWITCH),
    ] = False
    public_feed: Annotated[
        bool,
        _text("Whether anybody may poll the feed of what is not archived, without a token.", spellings=_SWITCH),
    ] = False

    @property
    def is_local(self) -> bool:
        """Only programs of this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    def __repr__(self) -> str:
        """Everything but the secrets: settings end up in logs and tracebacks."""
        shown = [
            f"{name}={'<hidden>' if name in _HIDDEN and value is not None else repr(value)}"
            for name in self.__struct_fields__
            for value in [getattr(self, name)]
        ]
        return f"Settings({', '.join(shown)})"


class Description(NamedTuple):
    """One setting, as documentation shows it."""

    name: str
    variable: str
    default: object
    unit: str
    """What the number counts; empty for what is no number."""
    sentence: str
    aliases: Sequence[str] = ()
    """What else the environment may call it."""


def describe() -> list[Description]:
    """Every setting, in the order in which a reader wants them."""
    return [
        Description(
            field.name,
            PREFIX + field.name.upper(),
            field.default,
            str((_meta(field).extra or {}).get("unit", "")),
            _meta(field).description or "",
            _aliases(field),
        )
        for field in msgspec.structs.fields(Settings)
    ]


def load_settings(environ: Mapping[str, str] = os.environ, config_path: Path | None = None) -> Settings:
    """The settings from a TOML file and the environment, which wins.

    `config_path` is used instead of `MAINSTEM_CONFIG`. Raises Invalid, naming the variable or the key that is wrong.
    """
    path = config_path or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    chosen: dict[str, _Choice] = {}
    if path is not None:
        chosen |= _from_file(path)
    chosen |= _from_environment(environ)
    values = {name: _checked(name, choice) for name, choice in chosen.items()}
    return _consistent(Settings(**values))  # type: ignore[arg-type]  # each value was converted to its field's type


class _Choice(NamedTuple):
    source: str
    """What the operator wrote it under: the variable, or the key and its file."""
    value: object


def _from_file(path: Path) -> dict[str, _Choice]:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Invalid(f"The configuration file {path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"The configuration file {path} is not valid TOML: {error}.") from error
    known = Settings.__struct_fields__
    for key in table:
        if key not in known:
            raise Invalid(f"{path}: there is no setting `{key}`{_near(key, known)}", setting=key)
    return {key: _Choice(f"`{key}` in {path}", value) for key, value in table.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Choice]:
    names = {name: _variables(field) for name, field in _FIELDS.items()}
    known = [*chain.from_iterable(names.values()), CONFIG_VARIABLE]
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known:
            raise Invalid(f"There is no setting {variable}{_near(variable, known)}", setting=variable)
    # An empty variable is how shells and compose files say "not set".
    given = {name: [variable for variable in variables if environ.get(variable)] for name, variables in names.items()}
    return {name: _Choice(found[0], environ[found[0]]) for name, found in given.items() if found}


def _variables(field: msgspec.structs.FieldInfo) -> list[str]:
    """What the environment may call it, the name that wins first."""
    aliases = _aliases(field)
    prefixed = [PREFIX + name for name in (field.name.upper(), *aliases)]
    return list(dict.fromkeys([*prefixed, *aliases]))


def _aliases(field: msgspec.structs.FieldInfo) -> Sequence[str]:
    aliases: Sequence[str] = (_meta(field).extra or {}).get("alias", ())
    return aliases


def _near(name: str, known: Sequence[str]) -> str:
    matches = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]}?" if matches else "; `docs/reference/settings.md` lists them all."


def _checked(name: str, choice: _Choice) -> object:
    field = _FIELDS[name]
    value = choice.value
    extra = _meta(field).extra or {}
    if isinstance(value, str):
        if extra.get("unit") == "bytes":
            value = _size(value)
        elif isinstance(field.default, tuple):
            value = [part.strip() for part in value.split(",") if part.strip()]
        else:
            value = extra.get("spellings", {}).get(value.lower(), value)
    try:
        # The environment knows nothing but text, so text may stand for a number.
        return msgspec.convert(value, field.type, strict=not isinstance(choice.value, str), dec_hook=_path)
    except msgspec.ValidationError as error:
        given = "" if name in _HIDDEN else f" It is {choice.value!r}."
        raise Invalid(f"{choice.source} is wrong: it must be {_wanted(field)}.{given}", setting=name) from error


def _wanted(field: msgspec.structs.FieldInfo) -> str:
    """What a value must be, in words."""
    unit = str((_meta(field).extra or {}).get("unit", ""))
    if unit == "bytes":
        return f"a number of bytes, or a size such as 64KiB or 16MiB{_range(_meta(field), _as_size)}"
    return _in_words(inspect.type_info(field.type), "" if unit == "port" else unit)


def _in_words(kind: inspect.Type, unit: str) -> str:
    of_unit = f" of {unit}" if unit else ""
    match kind:
        case inspect.Metadata(type=inner, extra=extra):
            wanted: str | None = (extra or {}).get("wanted")
            return wanted or _in_words(inner, unit)
        case inspect.UnionType(types=(*_, inspect.NoneType())):  # only those that may be left to the server
            return _in_words(kind.types[0], unit)
        case inspect.VarTupleType(item_type=item):
            return f"{_in_words(item, unit)}, or several with commas between"
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number{of_unit}{_range(kind, str)}"
        case inspect.FloatType():
            return f"a number{of_unit}{_range(kind, str)}"
        case inspect.StrType(min_length=int(least)):
            return f"{least} characters or more"
        case inspect.CustomType():
            return "the path of a folder"
    return "text that is not empty"


def _range(limits: Meta | inspect.IntType | inspect.FloatType, write: Callable[[float], str]) -> str:
    if limits.ge is None:
        return ""
    least = write(limits.ge)
    return f", {least} or more" if limits.le is None else f", from {least} to {write(limits.le)}"


def _as_size(size: float) -> str:
    for name, unit in (("GiB", _GIB), ("MiB", _MIB), ("KiB", _KIB)):
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)


def _size(text: str) -> str | int:
    match = _SIZE.fullmatch(text.strip())
    return int(match[1]) * _SIZES[match[2].lower()] if match else text


def _path(kind: type, value: object) -> object:
    assert kind is Path
    if not isinstance(value, str) or not value:
        raise ValueError("Expected the path of a folder")
    return Path(value).expanduser()


def _consistent(settings: Settings) -> Settings:
    """Limits that only make sense together."""
    for smaller, larger in (
        ("event_bytes_max", "body_bytes_max"),
        ("segment_events", "unsealed_events_max"),
        ("segment_bytes", "unsealed_bytes_max"),
    ):
        if getattr(settings, smaller) > getattr(settings, larger):
            raise Invalid(
                f"`{smaller}` is {getattr(settings, smaller)}, more than `{larger}` allows"
                f" ({getattr(settings, larger)}): lower the first or raise the second.",
                setting=smaller,
            )
    for network in settings.trusted_proxies:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise Invalid(f"`trusted_proxies` is wrong: {error}.", setting="trusted_proxies") from error
    return settings


def _meta(field: msgspec.structs.FieldInfo) -> Meta:
    meta = field.type.__metadata__[0]
    assert isinstance(meta, Meta)
    return meta


_FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}

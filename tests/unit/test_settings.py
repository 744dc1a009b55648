"""Settings: where they come from, and what is refused."""

import re
from pathlib import Path

import pytest

from mainstem.errors import Invalid
from mainstem.settings import Settings, describe, load_settings


def toml(folder: Path, text: str) -> Path:
    path = folder / "mainstem.toml"
    path.write_text(text)
    return path


def test_without_anything_every_setting_has_its_default() -> None:
    assert load_settings({}) == Settings()
    assert (Settings().host, Settings().port, Settings().data) == ("127.0.0.1", 8082, Path("mainstem-data"))


def test_the_catalogues_settings_have_the_defaults_of_its_contract() -> None:
    """Section (d), 3, 8 and 11."""
    settings = Settings()
    assert (settings.archive_after_minutes, settings.check) == (30, True)
    assert (settings.check_live_seconds, settings.check_idle_seconds, settings.check_timeout_seconds) == (120, 420, 10)
    assert (settings.check_allow_private, settings.rate_limit_loopback, settings.public_feed) == (False, False, False)
    assert (settings.trusted_proxies, settings.signup_roles) == ((), False)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = toml(tmp_path, 'port = 9000\nhost = "0.0.0.0"\n')

    settings = load_settings({"MAINSTEM_CONFIG": str(path), "MAINSTEM_PORT": "9001"})

    assert (settings.host, settings.port) == ("0.0.0.0", 9001)


def test_a_path_that_is_given_wins_over_the_one_in_the_environment(tmp_path: Path) -> None:
    path = toml(tmp_path, "port = 9000")

    assert load_settings({"MAINSTEM_CONFIG": "/nowhere.toml"}, path).port == 9000


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    assert load_settings({"MAINSTEM_PORT": "", "MAINSTEM_CONFIG": ""}) == Settings()


def test_bytes_may_be_written_with_a_unit(tmp_path: Path) -> None:
    assert load_settings({"MAINSTEM_BODY_BYTES_MAX": "32 MiB"}).body_bytes_max == 32 << 20
    assert load_settings({}, toml(tmp_path, 'body_bytes_max = "2GiB"')).body_bytes_max == 2 << 30


def test_a_misspelt_variable_is_refused_with_the_name_it_resembles() -> None:
    with pytest.raises(Invalid, match=r"no setting MAINSTEM_PROT; did you mean MAINSTEM_PORT\?"):
        load_settings({"MAINSTEM_PROT": "9000"})


def test_a_misspelt_key_is_refused_with_the_name_it_resembles(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"no setting `retention_day`; did you mean retention_days\?"):
        load_settings({}, toml(tmp_path, "retention_day = 30"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MAINSTEM_PORT", "http"),
        ("MAINSTEM_PORT", "65536"),
        ("MAINSTEM_BODY_BYTES_MAX", "32 parsecs"),
        ("MAINSTEM_LOG_LEVEL", "loud"),
        ("MAINSTEM_ADMIN_EMAIL", "nobody"),
        ("MAINSTEM_API_KEY", "secret"),
        ("MAINSTEM_RETENTION_DAYS", "0"),
        ("MAINSTEM_DEDUPE_WINDOW_S", "604801"),
        ("MAINSTEM_QUERY_TIMEOUT_S", "nan"),
        ("MAINSTEM_TRUSTED_PROXIES", "proxy.example"),
        ("SECRET_KEY_BASE", "shorter than a digest"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_under_its_variable(variable: str, value: str) -> None:
    with pytest.raises(Invalid, match=f"^{variable} is wrong"):
        load_settings({variable: value})


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MAINSTEM_PORT", "http", "a whole number, from 0 to 65535. It is 'http'."),
        ("MAINSTEM_RETENTION_DAYS", "0", "a whole number of days, from 1 to 36500. It is '0'."),
        ("MAINSTEM_QUERY_TIMEOUT_S", "nan", "a number of seconds, 0.001 or more. It is 'nan'."),
        ("MAINSTEM_BODY_BYTES_MAX", "lots", "a number of bytes, or a size such as 64KiB or 16MiB, 1KiB or more."),
        ("MAINSTEM_LOG_LEVEL", "loud", "one of debug, error, info, warning. It is 'loud'."),
        ("MAINSTEM_RATE_LIMIT", "often", "true or false. It is 'often'."),
        ("MAINSTEM_ADMIN_EMAIL", "nobody", "an email address. It is 'nobody'."),
        ("MAINSTEM_ADMIN_PASSWORD", "short", "8 characters or more."),
        ("MAINSTEM_HOST", " ", "text that is not empty. It is ' '."),
        ("ALLOWED_ORIGINS", "a.example", "an origin such as https://example.com, or `*`, or several with commas"),
    ],
)
def test_what_a_value_must_be_is_said_in_words(variable: str, value: str, said: str) -> None:
    """In those of an operator, not of a programmer; what is secret is not repeated."""
    with pytest.raises(Invalid, match=re.escape(f"{variable} is wrong: it must be {said}")):
        load_settings({variable: value})


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({"STREAM_SERVER_PORT": "9001"}, 9001),
        ({"STREAM_SERVER_PORT": "9001", "MAINSTEM_STREAM_SERVER_PORT": "9002"}, 9002),
        ({"STREAM_SERVER_PORT": "9001", "MAINSTEM_STREAM_SERVER_PORT": "9002", "MAINSTEM_PORT": "9003"}, 9003),
        ({"PORT": "9001"}, 8082),
    ],
)
def test_an_alias_sets_it_unless_a_name_of_its_own_does(environ: dict[str, str], port: int) -> None:
    assert load_settings(environ).port == port


def test_an_alias_with_a_value_that_does_not_fit_is_refused_under_that_name() -> None:
    with pytest.raises(Invalid, match=r"^RATE_LIMIT_RPM is wrong"):
        load_settings({"RATE_LIMIT_RPM": "often"})


def test_several_values_come_with_commas_or_as_a_list(tmp_path: Path) -> None:
    origins = ("https://a.example", "http://localhost:3000")

    assert load_settings({"ALLOWED_ORIGINS": "https://a.example, http://localhost:3000"}).allowed_origins == origins
    assert load_settings({}, toml(tmp_path, f"allowed_origins = {list(origins)}")).allowed_origins == origins
    with pytest.raises(Invalid, match=r"^ALLOWED_ORIGINS is wrong"):
        load_settings({"ALLOWED_ORIGINS": "a.example"})


@pytest.mark.parametrize(("text", "value"), [("on", True), ("OFF", False), ("true", True), ("0", False), ("", None)])
def test_a_switch_may_be_on_or_off_or_left_to_the_server(text: str, value: bool | None) -> None:
    assert load_settings({"MAINSTEM_RATE_LIMIT": text}).rate_limit is value


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_a_server_on_a_loopback_address_is_local(host: str, is_local: bool) -> None:
    assert Settings(host=host).is_local is is_local


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(Invalid, match="`event_bytes_max` is 2097152, more than `body_bytes_max` allows"):
        load_settings({"MAINSTEM_EVENT_BYTES_MAX": "2MiB", "MAINSTEM_BODY_BYTES_MAX": "1MiB"})


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0", "::1/129"])
def test_a_network_that_is_none_is_refused(network: str) -> None:
    with pytest.raises(Invalid, match="`trusted_proxies` is wrong"):
        load_settings({"MAINSTEM_TRUSTED_PROXIES": f"192.0.2.0/24, {network}"})


@pytest.mark.parametrize("text", ["port = ", "[port]\nx = 1", "port = true", "port = 1.5", "data = 3", 'data = ""'])
def test_a_file_that_is_wrong_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(Invalid, match=re.escape("mainstem.toml")):
        load_settings({}, toml(tmp_path, text))


def test_a_file_that_is_missing_is_refused() -> None:
    with pytest.raises(Invalid, match="cannot be read: No such file"):
        load_settings({"MAINSTEM_CONFIG": "/nowhere/mainstem.toml"})


def test_no_secret_is_shown() -> None:
    secrets = {
        "MAINSTEM_ADMIN_PASSWORD": "correct horse",
        "MAINSTEM_API_KEY": "ms_0123456789abcdef",
        "SECRET_KEY_BASE": "a secret as long as a digest of SHA-256",
    }

    assert not any(secret in repr(load_settings(secrets)) for secret in secrets.values())
    with pytest.raises(Invalid) as refusal:
        load_settings({"MAINSTEM_ADMIN_PASSWORD": "2short"})
    assert "2short" not in str(refusal.value)


def test_every_setting_has_a_sentence_and_every_number_a_unit() -> None:
    for setting in describe():
        assert setting.sentence.endswith("."), setting.name
        assert bool(setting.unit) == (type(setting.default) in (int, float)), setting.name

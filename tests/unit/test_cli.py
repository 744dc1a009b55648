"""The command line: what an operator asks for, and what he is told."""

import asyncio
import io
import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from mainstem import __version__
from mainstem.cli import main
from mainstem.clock import FixedClock, rfc3339
from mainstem.identity import Scope
from mainstem.ids import TopicId
from mainstem.storage import Draft, Drafts, Layout, SqliteRecords
from mainstem.storage.embedded.log import EmbeddedLog, LogOptions
from mainstem.storage.opening import exclusive
from mainstem.work import Queue


class Shell:
    """Runs commands on one data folder and takes apart what they print."""

    def __init__(self, data: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.data = data
        self._capture = capture
        self.error = ""

    def run(self, *arguments: str) -> tuple[int, str]:
        status = main([*arguments, "--data", str(self.data)])
        printed = self._capture.readouterr()
        self.error = printed.err
        return status, printed.out

    def ask(self, *arguments: str) -> Any:
        """The JSON that a command answers, which must succeed."""
        status, printed = self.run(*arguments, "--json")
        assert status == 0, self.error
        return json.loads(printed)

    def examine(self) -> dict[str, tuple[str, str]]:
        """What doctor says of each subject, the last of each."""
        checks = json.loads(self.run("doctor", "--json")[1])["checks"]
        return {subject: (verdict, finding) for subject, verdict, finding in checks}


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("MAINSTEM_PORT", "0")
    return Shell(tmp_path / "data", capsys)


@pytest.fixture
def admin(shell: Shell) -> Any:
    return shell.ask("user", "add", "root", "--admin")


# Accounts


def test_adding_an_account_prints_its_number_and_name(shell: Shell) -> None:
    status, printed = shell.run("user", "add", "alice")
    assert (status, printed.split("\n")[0]) == (0, "8 alice")
    account = shell.ask("user", "add", "bob", "--email", "Bob@example.org", "--password", "correct horse")
    assert (account["id"], account["name"], account["email"], account["admin"]) == (9, "bob", "bob@example.org", False)


@pytest.mark.parametrize(
    ("options", "role"),
    [([], "editor"), (["--role", "default"], "default"), (["--role", "admin"], "admin"), (["--admin"], "admin")],
)
def test_an_account_is_an_editors_unless_something_else_is_said(shell: Shell, options: list[str], role: str) -> None:
    assert shell.ask("user", "add", "alice", *options)["role"] == role


def test_accounts_for_programs_come_with_passwords(shell: Shell) -> None:
    """Those that usually keep the catalogue, or others; each password is shown this once."""
    shell.run("user", "add", "root", "--admin")
    usual = shell.ask("user", "service")
    status, printed = shell.run("user", "service", "Wall@example.com")

    assert [one["email"].partition("@")[0] for one in usual] == ["livestream-monitor", "livesheet-updater"]
    assert {one["role"] for one in usual} == {"editor"}
    assert len({one["password"] for one in usual}) == 2
    assert (status, printed.splitlines()[1].split()[1]) == (0, "wall@example.com")
    assert shell.run("user", "service")[0] == 2
    assert "taken" in shell.error


def test_an_account_begins_with_a_user_key_and_may_get_others(shell: Shell) -> None:
    """Each is shown once, and ends by its name."""
    first = shell.ask("user", "add", "alice")["user_key"]
    second = shell.ask("user", "key", "alice", "--name", "second")
    assert (second["id"], second["name"], second["revoked"]) == (8, "second", False)
    assert len({first, second["user_key"]}) == 2
    assert {len(first), len(second["user_key"])} == {32}
    assert shell.run("user", "key", "alice", "--name", "second")[0] == 1
    assert shell.ask("user", "key", "8", "--name", "second", "--revoke")["revoked"] is True
    assert shell.run("user", "key", "alice", "--name", "second")[0] == 0
    assert shell.run("user", "key", "nobody")[0] == 1


def test_accounts_are_listed_oldest_first(shell: Shell, admin: Any) -> None:
    shell.run("user", "add", "alice")

    assert [account["name"] for account in shell.ask("user", "list")] == ["root", "alice"]
    assert [line.split()[:3] for line in shell.run("user", "list")[1].splitlines()[1:]] == [
        ["8", "root", "admin"],
        ["9", "alice", "editor"],
    ]


@pytest.mark.parametrize("address", ["192.0.2.1", "nowhere.invalid"])
def test_an_address_that_is_not_this_machines_is_told_from_a_port_that_is_taken(shell: Shell, address: str) -> None:
    """Each names the setting that helps, and nothing was made yet."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert shell.run("serve", "--port", str(port)) == (1, "")
    said = f"Cannot listen on 127.0.0.1 port {port}: Address already in use; choose another with MAINSTEM_PORT."
    assert shell.error == f"mainstem: {said}\n"

    assert shell.run("serve", "--host", address) == (1, "")
    assert shell.error.endswith("; choose another with MAINSTEM_HOST.\n")
    assert not shell.data.exists()


def test_a_password_may_come_from_a_pipe(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
    assert shell.run("user", "add", "alice", "--email", "a@example.org", "--password-stdin")[0] == 0

    monkeypatch.setattr("sys.stdin", io.StringIO("2short\n"))
    assert shell.run("user", "add", "bob", "--email", "b@example.org", "--password-stdin")[0] == 2


def test_keys_are_listed_with_the_names_of_their_accounts(shell: Shell, admin: Any) -> None:
    shell.run("key", "add", "--name", "rescue", "--scope", "all")

    heads, key = shell.run("key", "list")[1].splitlines()
    assert heads.split()[:5] == ["id", "name", "account", "tier", "scopes"]
    assert key.split()[1:] == ["rescue", "root", "standard", "all", "all", "never", "never"]


def test_what_is_not_there_is_named_in_the_words_of_an_operator(shell: Shell, admin: Any) -> None:
    """Not in those that a door has for its callers."""
    assert shell.run("grant", "sales", "root", "read") == (1, "")
    assert shell.error == "mainstem: There is no stream 'sales': its first event makes it.\n"

    assert shell.run("source", "delete", "root", "7") == (1, "")
    assert shell.error.startswith("mainstem: root has no source 7: `mainstem source list root`")


def test_a_name_that_is_taken_is_a_failure_with_one_sentence(shell: Shell, admin: Any) -> None:
    assert shell.run("user", "add", "root") == (1, "")
    assert shell.error == "mainstem: There is already an account with the name 'root' or its email.\n"


def test_with_json_a_failure_is_json_as_well(shell: Shell) -> None:
    assert shell.run("key", "revoke", "key_x", "--json") == (1, "")
    assert json.loads(shell.error) == {"error": {"message": "There is no key 'key_x'."}}


# Keys


def test_a_key_is_for_the_first_administrator_unless_an_account_is_named(shell: Shell, admin: Any) -> None:
    shell.run("user", "add", "alice")

    assert shell.ask("key", "add", "--name", "a")["account"] == admin["id"]
    assert shell.ask("key", "add", "--name", "b", "--account", "alice")["account"] == admin["id"] + 1


def test_a_key_has_what_was_asked_for(shell: Shell, admin: Any) -> None:
    options = ["--scope", "events:read", "--scope", "events:write", "--stream", "a", "--stream", "b", "--days", "1"]

    key = shell.ask("key", "add", "--name", "sensor", "--tier", "enterprise", *options)

    assert key["key"].startswith("ms_")
    assert (key["scopes"], key["streams"], key["tier"]) == (["events:read", "events:write"], ["a", "b"], "enterprise")
    assert key["expires_at"] > key["created_at"]


def test_all_scopes_are_asked_for_by_one_word(shell: Shell, admin: Any) -> None:
    assert shell.ask("key", "add", "--name", "a", "--scope", "all")["scopes"] == sorted(Scope)


def test_a_key_is_shown_once_and_listed_without_itself(shell: Shell, admin: Any) -> None:
    key = shell.ask("key", "add", "--name", "a")
    text = key.pop("key")

    assert shell.ask("key", "list") == [key]
    assert text not in shell.run("key", "list")[1]


def test_a_revoked_key_is_no_longer_listed(shell: Shell, admin: Any) -> None:
    key = shell.ask("key", "add", "--name", "a")

    assert shell.run("key", "revoke", key["id"]) == (0, f"{key['id']} is revoked.\n")
    assert shell.ask("key", "list") == []


def test_without_an_administrator_a_key_needs_an_account(shell: Shell) -> None:
    assert shell.run("key", "add", "--name", "a")[0] == 1
    assert "start the server once, or name an account" in shell.error


def test_accounts_and_keys_are_looked_after_while_the_server_runs(shell: Shell) -> None:
    layout = Layout(shell.data)
    layout.make()
    with exclusive(layout.lock):
        assert shell.run("user", "add", "root", "--admin")[0] == 0
        assert shell.run("key", "add", "--name", "a")[0] == 0
        assert shell.run("migrate")[0] == 0
        assert shell.run("doctor")[0] == 0


# Asked for wrongly


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["user"],
        ["user", "add"],
        ["key", "add"],
        ["key", "add", "--name", "a", "--scope", "fly"],
        ["key", "add", "--name", "a", "--tier", "gold"],
        ["key", "add", "--name", "a", "--days", "0"],
        ["key", "add", "--name", "a", "--days", "soon"],
        ["user", "add", "a", "--password", "x", "--password-stdin"],
    ],
)
def test_what_cannot_be_understood_is_status_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)

    assert end.value.code == 2
    assert "usage: mainstem" in capsys.readouterr().err


def test_a_setting_that_is_wrong_is_status_two(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINSTEM_PROT", "9000")

    assert shell.run("user", "list") == (2, "")
    assert shell.error == "mainstem: There is no setting MAINSTEM_PROT; did you mean MAINSTEM_PORT?\n"


def test_help_and_version_are_answered(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (["--help"], "doctor"), (["--version"], f"mainstem {__version__}\n"):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 0
        assert expected in capsys.readouterr().out


def test_a_configuration_file_may_be_named(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("prot = 1")

    assert shell.run("user", "list", "--config", str(tmp_path / "other.toml"))[0] == 2
    assert "no setting `prot`" in shell.error


# Parked tasks


def park(data: Path, key: str, error: str) -> int:
    """A task that failed for good; its number."""

    async def fail() -> int:
        async with SqliteRecords(Layout(data).records) as records:
            queue = Queue(records, FixedClock())
            async with queue.begin() as tx:
                task_id = await queue.put(tx, "bake", b"", key=key)
            (task,) = await queue.lease(["bake"], lease_s=60)
            async with queue.begin() as tx:
                await queue.park(tx, task, error)
            return task_id

    return asyncio.run(fail())


def test_parked_tasks_are_listed_with_why(shell: Shell, admin: Any) -> None:
    task_id = park(shell.data, "bread", "the oven was cold\nand the baker, too")

    (task,) = shell.ask("tasks", "list")
    assert (task["id"], task["kind"], task["key"], task["attempts"]) == (task_id, "bake", "bread", 1)
    assert task["error"] == "the oven was cold\nand the baker, too"
    assert task["parked_at"] == rfc3339(FixedClock()())
    assert shell.run("tasks", "list")[1].splitlines()[1].endswith("the oven was cold")
    assert shell.ask("tasks", "list", "--kind", "eat") == []


def test_a_parked_task_can_be_replayed_once(shell: Shell, admin: Any) -> None:
    task_id = park(shell.data, "bread", "the oven was cold")

    assert shell.run("tasks", "replay", str(task_id)) == (0, f"Task {task_id} waits to be done.\n")
    assert shell.ask("tasks", "list") == []
    assert shell.run("tasks", "replay", str(task_id))[0] == 1
    assert f"no parked task {task_id}" in shell.error


def test_doctor_speaks_of_parked_tasks(shell: Shell, admin: Any) -> None:
    assert shell.examine()["tasks"] == ("good", "No task has failed for good; 0 are to be done.")

    park(shell.data, "bread", "the oven was cold")

    verdict, finding = shell.examine()["tasks"]
    assert verdict == "note"
    assert "1 of bake" in finding
    assert "mainstem tasks list" in finding


def test_there_is_nothing_to_work_at_before_the_first_start(shell: Shell) -> None:
    assert shell.run("work")[0] == 1
    assert "There is no database" in shell.error


# Migrate and doctor


def test_migrating_names_the_steps_and_then_finds_nothing_to_do(shell: Shell) -> None:
    assert shell.ask("migrate")["steps"][:2] == ["0001", "0002"]
    assert shell.run("migrate") == (0, "The database is of this version already.\n")


def test_doctor_finds_nothing_wrong_where_nothing_is_yet(shell: Shell) -> None:
    status, printed = shell.run("doctor")

    assert status == 0
    assert not shell.data.exists()
    assert f"mainstem {__version__}" in printed


def test_doctor_finds_a_full_disk(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINSTEM_DISK_FREE_BYTES_MIN", "9000000GiB")

    assert shell.run("doctor")[0] == 1
    assert shell.examine()["disk"][0] == "problem"


def test_doctor_finds_a_port_that_another_program_has(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # It takes the connection and closes it: no server of ours.
        Thread(target=lambda: taken.accept()[0].close(), daemon=True).start()
        monkeypatch.setenv("MAINSTEM_PORT", str(taken.getsockname()[1]))

        verdict, finding = shell.examine()["port"]

    assert verdict == "problem"
    assert "Another program has" in finding


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b'{"status":"unhealthy","components":{}}')

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002  # the name is the base class's
        pass


@pytest.fixture
def answering_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_doctor_knows_its_own_server_even_when_that_is_unhealthy(
    shell: Shell, answering_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINSTEM_PORT", str(answering_port))

    assert shell.examine()["port"] == ("good", f"A mainstem server answers on 127.0.0.1:{answering_port}.")


def test_doctor_notes_that_others_may_look_into_the_data(shell: Shell) -> None:
    shell.run("migrate")
    shell.data.chmod(0o755)

    assert shell.examine()["data"][0] == "note"


def test_doctor_finds_a_database_of_another_version(shell: Shell) -> None:
    shell.run("migrate")
    with closing(sqlite3.connect(Layout(shell.data).records)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    assert shell.run("doctor")[0] == 1
    assert "newer version" in shell.examine()["records"][1]


async def seal_events(data: Path) -> Path:
    layout = Layout(data)
    layout.make()
    async with EmbeddedLog.open(layout.log, LogOptions(), FixedClock()) as log:
        await log.append(TopicId(1), Drafts.of([Draft(number, "test", b"{}") for number in range(100)]))
        await log.seal()
    return next((layout.log / "segments").rglob("*.parquet"))


async def test_doctor_finds_a_segment_whose_checksum_is_wrong(shell: Shell) -> None:
    segment = await seal_events(shell.data)
    flip_a_bit(segment)

    status, printed = await asyncio.to_thread(shell.run, "doctor")

    assert status == 1
    assert segment.name in printed
    assert "checksum does not match" in printed


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_only_a_damaged_segment_can_be_given_up(shell: Shell) -> None:
    shell.run("migrate")

    assert shell.run("doctor", "--accept-loss", "nothing.parquet") == (1, "")
    assert "nothing.parquet is not in quarantine" in shell.error


def test_times_are_written_with_microseconds_only_where_there_are_any() -> None:
    assert rfc3339(1_710_498_600_000_000) == "2024-03-15T10:30:00Z"
    assert rfc3339(1_710_498_600_000_001) == "2024-03-15T10:30:00.000001Z"
    assert rfc3339(-1_000_000) == "1969-12-31T23:59:59Z"


# Roles and features


def test_a_role_is_changed_and_shown(shell: Shell) -> None:
    """By name or email; an editor is what the operator makes when nothing is said."""
    shell.run("migrate")
    made = shell.ask("user", "add", "ada", "--email", "ada@example.com")
    assert made["role"] == "editor"
    assert shell.ask("user", "role", "ada@example.com", "default")["role"] == "default"
    assert [one["role"] for one in shell.ask("user", "list")] == ["default"]


def test_what_a_deleted_account_owned_goes_to_an_administrator(shell: Shell) -> None:
    """There is always one, so the last cannot be deleted."""
    shell.run("migrate")
    root = shell.ask("user", "add", "root", "--admin")
    ada = shell.ask("user", "add", "ada")
    assert shell.ask("user", "delete", "ada") == {"id": ada["id"], "deleted": True, "heir": root["id"]}
    assert [one["name"] for one in shell.ask("user", "list")] == ["root"]

    status, _ = shell.run("user", "delete", "root")
    assert status == 1
    assert "administrator" in shell.error


def test_features_are_switched_for_all_or_for_some(shell: Shell) -> None:
    """Each gate by itself; a wrong one is named."""
    shell.run("migrate")
    assert shell.ask("flag", "enable", "maintenance_mode")["state"] == "on"
    assert shell.ask("flag", "disable", "maintenance_mode")["state"] == "off"
    some = shell.ask("flag", "enable", "new_player", "--actor", "User:9", "--group", "editors")
    assert (some["state"], some["actors"], some["groups"]) == ("conditional", ["User:9"], ["editors"])
    assert "new_player" in shell.run("flag", "list")[1]

    assert shell.run("flag", "enable", "new_player", "--group", "friends")[0] == 2
    assert shell.error == "mainstem: Group is not included in the list\n"


# The catalogue


WALL = [
    {"link": "https://www.twitch.tv/ada", "source": "Ada", "status": "Live", "city": "Austin"},
    {"link": "not a link", "source": "Bob"},
    {"url": "https://www.tiktok.com/@eve/live", "title": "Eve"},
]


def test_a_streamwall_is_imported_once(shell: Shell, admin: Any, tmp_path: Path) -> None:
    """A dry run tells the same and writes nothing; a second import changes nothing."""
    wall = tmp_path / "wall.json"
    wall.write_text(json.dumps({"streams": WALL}))
    command = ("import", "streamwall", str(wall), "--as", "root")

    assert shell.ask(*command, "--dry-run")["created"] == 2
    assert shell.ask("listing", "list")["total"] == 0
    outcome = shell.ask(*command)
    assert (outcome["created"], [row["index"] for row in outcome["refused"]]) == (2, [1])
    assert shell.ask(*command)["unchanged"] == 2
    assert shell.ask(*command, "--offset", "2", "--limit", "1", "--skip-known")["skipped"] == 1
    assert [one["source"] for one in shell.ask("listing", "list")["listings"]] == ["Eve", "Ada"]


def test_an_import_goes_to_no_private_address(shell: Shell, admin: Any) -> None:
    """Unless the operator allows it: an address may come from somebody else."""
    status, _ = shell.run("import", "streamwall", "http://127.0.0.1:8099/wall.json", "--as", "root")
    assert status == 1
    assert shell.error.startswith("mainstem: http://127.0.0.1:8099/wall.json cannot be read: its address is private")


def test_listings_are_looked_after_by_number(shell: Shell, admin: Any, tmp_path: Path) -> None:
    """What administrators do by API the operator does here; a number that is none is named."""
    wall = tmp_path / "wall.json"
    wall.write_text(json.dumps(WALL))
    shell.run("import", "streamwall", str(wall), "--as", "root")
    for command in (("pin", "1"), ("archive", "2"), ("unpin", "1"), ("unarchive", "2")):
        shell.ask("listing", *command)
    shell.ask("listing", "archive", "2")
    assert [one["id"] for one in shell.ask("listing", "list")["listings"]] == [1]
    assert [one["id"] for one in shell.ask("listing", "list", "--archived")["listings"]] == [2]

    assert shell.run("listing", "delete", "1", "77")[0] == 1
    assert "77" in shell.error
    assert shell.ask("listing", "list", "--status", "live")["total"] == 0

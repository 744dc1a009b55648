"""The ActionCable protocol: frames that come in, and frames that go out."""

import json
from typing import Any

import pytest

from mainstem.faces.streamsource import actioncable
from mainstem.faces.streamsource.actioncable import BadData, NotACommand, Perform, Subscribe, Unsubscribe, read

IDENTIFIER = '{"channel":"CollaborativeStreamsChannel"}'


def frame(command: str, **rest: Any) -> str:
    return json.dumps({"command": command, "identifier": IDENTIFIER, **rest})


def test_a_frame_is_a_command() -> None:
    """As the reference client sends them: identifier and data are JSON inside of JSON."""
    assert read(frame("subscribe")) == Subscribe(IDENTIFIER, "CollaborativeStreamsChannel")
    assert read(frame("unsubscribe")) == Unsubscribe(IDENTIFIER)
    data = json.dumps({"cell_id": "stream_1_title", "action": "lock_cell"})
    assert read(frame("message", data=data)) == Perform(IDENTIFIER, "lock_cell", {"cell_id": "stream_1_title"})


@pytest.mark.parametrize("identifier", ["", "x", "[]", "{}", '{"channel":1}', "[" * 1_500, '{"channel":"\\ud800"}'])
def test_an_identifier_that_names_no_channel_is_of_none(identifier: str) -> None:
    """It can be refused as any unknown channel, under the identifier that came."""
    assert read(json.dumps({"command": "subscribe", "identifier": identifier})) == Subscribe(identifier, "")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "x",
        "[]",
        "{}",
        "null",
        b"{}",
        "[" * 30_000,
        frame("dance"),
        '{"command":"subscribe"}',
        '{"command":1,"identifier":"x"}',
        frame("message", data={"action": "x"}),
        json.dumps({"command": "subscribe", "identifier": "x" * 2_001}),
        '{"command":"subscribe","identifier":"\\ud800"}',
    ],
)
def test_what_is_no_command_is_told_as_such(content: str | bytes) -> None:
    """Whoever sends it does not speak the protocol, so there is nothing to answer it under."""
    with pytest.raises(NotACommand):
        read(content)


@pytest.mark.parametrize("data", ["", "x", "[]", "{}", '{"action":1}', "1", "[" * 30_000, '{"action":"\\ud800"}'])
def test_data_that_cannot_be_read_is_told_to_its_subscription(data: str) -> None:
    """The frame around it says which that is."""
    with pytest.raises(BadData) as raised:
        read(frame("message", data=data))

    assert raised.value.identifier == IDENTIFIER


def test_frames_that_go_out_are_as_clients_know_them() -> None:
    """To the letter of the protocol."""
    assert json.loads(actioncable.welcome()) == {"type": "welcome"}
    assert json.loads(actioncable.ping(1_700_000_000)) == {"type": "ping", "message": 1_700_000_000}
    assert json.loads(actioncable.confirm(IDENTIFIER)) == {"identifier": IDENTIFIER, "type": "confirm_subscription"}
    assert json.loads(actioncable.reject(IDENTIFIER)) == {"identifier": IDENTIFIER, "type": "reject_subscription"}
    assert json.loads(actioncable.push(IDENTIFIER, b'{"a":1}')) == {"identifier": IDENTIFIER, "message": {"a": 1}}
    assert json.loads(actioncable.disconnect("unauthorized", reconnect=False)) == {
        "type": "disconnect",
        "reason": "unauthorized",
        "reconnect": False,
    }

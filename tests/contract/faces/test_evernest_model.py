"""Whatever users do with sources, rights and pushes: a real server answers as a model of a page in length does."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from evernest import READING, RIGHTS, WRITING, Source, User, fresh
from serving import Server, serving

PASSWORD = "one for all of them"
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_EVENTS = st.integers(-12, 12)


class Evernest(RuleBasedStateMachine):
    """Rights as sets of letters, streams as lists of strings."""

    users = Bundle("users")
    streams = Bundle("streams")
    sources = Bundle("sources")

    server: Server  # one for all runs: each makes users of its own

    def __init__(self) -> None:
        super().__init__()
        self.client = self.server.client(None)
        self.messages: dict[int, list[tuple[str, int]]] = {}
        self.user_rights: dict[tuple[int, int], str] = {}
        self.source_rights: dict[tuple[int, int, int], str] = {}
        self.made: dict[int, list[str]] = {}

    def teardown(self) -> None:
        self.client.close()

    # What can be done

    @initialize(target=users)
    def two_users(self) -> Any:
        return multiple(self.new_user(), self.new_user())

    def new_user(self) -> User:
        name = fresh(f"model-{os.getpid()}")
        email = f"{name}@example.org"
        user = User(self.client, self.server.data, "--email", email, "--password", PASSWORD, name=name)
        self.made[user.id] = []
        return user

    @rule(target=streams, user=users)
    def make_stream(self, user: User) -> int:
        stream = user.stream()
        assert stream not in self.messages
        self.messages[stream] = []
        self.user_rights[user.id, stream] = "Admin"
        return stream

    @rule(target=sources, user=users)
    def make_source(self, user: User) -> Source:
        source = user.source()
        assert source.id == len(self.made[user.id])
        self.made[user.id].append(source.key)
        return source

    @rule(source=sources, stream=streams, right=st.sampled_from(RIGHTS))
    def give_to_source(self, source: Source, stream: int, right: str) -> None:
        source.allow(stream, right)
        self.source_rights[source.owner.id, source.id, stream] = right

    @rule(giver=users, taker=users, stream=streams, right=st.sampled_from(RIGHTS), knows=st.booleans())
    def give_to_user(self, giver: User, taker: User, stream: int, right: str, knows: bool) -> None:
        path = f"/UserRight/{taker.id}/{stream}/Set/{right}"
        password: dict[str, Any] = {"Password": PASSWORD if knows else "wrong"}
        if self.right_of(giver, stream) != "Admin":
            giver.refused(path, "Key", reason="AdminAccessDenied", status=403, **password)
        elif self.right_of(taker, stream) == "Admin":
            giver.refused(path, "UserId", reason="CannotDestituteAdmin", status=403, **password)
        elif right == "Admin" and not knows:
            giver.refused(path, "Password", reason="WrongPassword", **password)
        else:
            giver.ask(path, **password)
            self.user_rights[taker.id, stream] = right

    @rule(source=sources, stream=streams, text=_TEXTS)
    def push(self, source: Source, stream: int, text: str) -> None:
        if self.may(source, stream, WRITING):
            event = source.push(stream, text)["Event"]
            assert (event["Id"], event["Message"]) == (len(self.messages[stream]), text)
            self.messages[stream].append((text, source.owner.id))
        else:
            source.refused(f"/Stream/{stream}/Push", "Key", reason="WriteAccessDenied", status=403, Message=text)

    @rule(source=sources, stream=streams, event=_EVENTS)
    def pull(self, source: Source, stream: int, event: int) -> None:
        path = f"/Stream/{stream}/Pull/{event}"
        known = self.messages[stream]
        if not self.may(source, stream, READING):
            source.refused(path, "Key", reason="ReadAccessDenied", status=403)
        elif -len(known) <= event < len(known):
            pulled = source.ask(path)["Event"]
            assert (pulled["Message"], pulled["AuthorId"]) == known[event]
            assert pulled["Id"] == event % len(known)
        else:
            source.refused(path, "EventId", reason="InvalidEventId")

    @rule(source=sources, stream=streams, first=_EVENTS, last=_EVENTS)
    def pull_range(self, source: Source, stream: int, first: int, last: int) -> None:
        path = f"/Stream/{stream}/Pull/{first}/{last}"
        known = self.messages[stream]
        places = [place + len(known) if place < 0 else place for place in (first, last)]
        if not self.may(source, stream, READING):
            source.refused(path, "Key", reason="ReadAccessDenied", status=403)
        elif 0 <= places[0] <= places[1] < len(known):
            pulled = [(event["Message"], event["AuthorId"]) for event in source.ask(path)["Events"]]
            assert pulled == known[places[0] : places[1] + 1]
        else:
            source.refused(path, "FromEventId", "ToEventId", reason="InvalidEventId")

    @rule(source=sources, stream=streams)
    def look(self, source: Source, stream: int) -> None:
        own = self.source_rights.get((source.owner.id, source.id, stream), "NoRight")
        assert source.ask(f"/Right/{stream}") == {"Right": own}
        assert source.owner.ask(f"/Right/{source.id}/{stream}") == {"Right": own}
        if self.may(source, stream, READING):
            assert source.ask(f"/Stream/{stream}")["Stream"]["Count"] == len(self.messages[stream])
            if self.messages[stream]:
                event = source.ask(f"/Stream/{stream}/Pull/Random")["Event"]
                assert self.messages[stream][event["Id"]][0] == event["Message"]
        shown = source.ask("/Source")["Source"]
        assert shown["Key"] == self.made[source.owner.id][source.id]
        related = {other for account, other in self.related() if account == source.owner.id}
        related |= {
            other for account, number, other in self.given() if (account, number) == (source.owner.id, source.id)
        }
        assert [entry["Id"] for entry in shown["Streams"]] == sorted(related)

    @rule(user=users)
    def look_at_oneself(self, user: User) -> None:
        seen = user.ask("/User")["User"]
        assert [entry["Id"] for entry in seen["Sources"]] == list(range(len(self.made[user.id])))
        mine = sorted(stream for account, stream in self.related() if account == user.id)
        assert [entry["Id"] for entry in seen["Streams"]] == mine

    @invariant()
    def keys_are_all_different(self) -> None:
        keys = [key for made in self.made.values() for key in made]
        assert len(set(keys)) == len(keys)

    # What the model says

    def right_of(self, user: User, stream: int) -> str:
        return self.user_rights.get((user.id, stream), "NoRight")

    def may(self, source: Source, stream: int, words: set[str]) -> bool:
        own = self.source_rights.get((source.owner.id, source.id, stream), "NoRight")
        return own in words and self.right_of(source.owner, stream) in words

    def related(self) -> list[tuple[int, int]]:
        return [place for place, right in self.user_rights.items() if right != "NoRight"]

    def given(self) -> list[tuple[int, int, int]]:
        return [place for place, right in self.source_rights.items() if right != "NoRight"]


def test_the_server_answers_as_the_model_does() -> None:
    with TemporaryDirectory() as folder, serving(Path(folder) / "data") as server:
        Evernest.server = server
        case = Evernest.TestCase
        case.settings = settings(max_examples=10, stateful_step_count=40, suppress_health_check=list(HealthCheck))
        case().runTest()

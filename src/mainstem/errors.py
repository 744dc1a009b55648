"""Seven kinds of error, by what the caller can do about it.

A capability may refine one by a subclass; each face maps the kinds (and the refinements it knows) to its own status
and body. The message names the thing and the next step, and is meant to be shown.
"""

from collections.abc import Sequence


class MainstemError(Exception):
    """Base of all errors that a caller may meet. `details` are facts a program can read; they hold no secrets."""

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class NotFound(MainstemError):
    """No such thing, or none that the caller may know of: look elsewhere."""


class Denied(MainstemError):
    """The caller is known and may know of the thing, but not do this to it: ask for the right."""


class Unauthenticated(MainstemError):
    """No credential, or one that proves nothing: sign in."""


class Invalid(MainstemError):
    """The request is wrong whatever the state of the server: mend it."""


class InvalidFields(Invalid):
    """Fields are wrong: all of them are told at once, each with what is wrong with it, in the order in which to tell.

    What is wrong with no field in particular stands under `base` and is a sentence of its own.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        assert problems
        self.problems = tuple(problems)
        super().__init__(", ".join(self.sentences))

    @property
    def sentences(self) -> list[str]:
        """`Posted by can't be blank`: the field's name in words, and what is wrong with it."""
        return [
            said if field == "base" else f"{field.replace('_', ' ').capitalize()} {said}"
            for field, said in self.problems
        ]

    @property
    def by_field(self) -> dict[str, list[str]]:
        """What is wrong with each field."""
        found: dict[str, list[str]] = {}
        for field, said in self.problems:
            found.setdefault(field, []).append(said)
        return found


class Conflict(MainstemError):
    """The request does not fit the present state: look, then decide."""


class Exhausted(MainstemError):
    """A limit or quota is reached: send less, or later. `retry_after_s` in the details says when, if known."""


class Unavailable(MainstemError):
    """The server cannot do it now, and nothing was done: try again later."""

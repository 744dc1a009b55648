"""What a check does to the status of a listing."""

import random

import pytest

from mainstem.catalogue.liveness.verdict import Reason, Result, Standing, Verdict, decide, live, offline, unknown

LIVE, OFFLINE, UNKNOWN = Result.LIVE, Result.OFFLINE, Result.UNKNOWN

QUIET = offline(Reason.STANDS_STILL)
ENDED = offline(Reason.ENDED, explicit=True)
SEEN = live(Reason.ADVANCES)
TROUBLE = unknown(Reason.CHALLENGE)


def after(status: Result, *verdicts: Verdict) -> Result:
    standing = Standing(status, 0)
    for verdict in verdicts:
        standing = decide(standing, verdict)
    return standing.status


@pytest.mark.parametrize(
    ("status", "verdicts", "believed"),
    [
        (UNKNOWN, [SEEN], LIVE),
        (OFFLINE, [SEEN], LIVE),
        (LIVE, [QUIET], LIVE),
        (LIVE, [QUIET, QUIET], OFFLINE),
        (LIVE, [QUIET, SEEN, QUIET], LIVE),
        (LIVE, [QUIET, TROUBLE, QUIET], OFFLINE),
        (LIVE, [ENDED], OFFLINE),
        (UNKNOWN, [QUIET], UNKNOWN),
        (UNKNOWN, [QUIET, QUIET], OFFLINE),
        (UNKNOWN, [ENDED], OFFLINE),
        (OFFLINE, [QUIET], OFFLINE),
    ],
)
def test_two_offlines_or_an_explicit_one_are_believed(
    status: Result, verdicts: list[Verdict], believed: Result
) -> None:
    assert after(status, *verdicts) is believed


@pytest.mark.parametrize("status", list(Result))
@pytest.mark.parametrize("reason", list(Reason))
def test_what_could_not_tell_changes_nothing(status: Result, reason: Reason) -> None:
    """Whatever the reason, and however often."""
    assert after(status, *[unknown(reason)] * 50) is status


def test_no_row_of_troubles_flips_a_live_listing() -> None:
    """Ten thousand checks that could not tell, with a Live now and then and never two Offlines between."""
    chance = random.Random(6)
    standing = Standing(LIVE, 0)
    for _ in range(10_000):
        verdict = chance.choices([TROUBLE, SEEN, QUIET if standing.offline_streak == 0 else TROUBLE], [8, 1, 1])[0]
        standing = decide(standing, verdict)
        assert standing.status is LIVE

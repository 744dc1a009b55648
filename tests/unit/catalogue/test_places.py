"""Places: by which name they are found, and which a listing means."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as some
from sqlalchemy import func, select

from mainstem.catalogue import Flags, PlaceChanges, PlaceDraft, Places
from mainstem.catalogue.places import normalized_name
from mainstem.catalogue.tables import locations
from mainstem.clock import FixedClock
from mainstem.errors import Denied, InvalidFields
from mainstem.identity import OPERATOR, Principal
from mainstem.storage import Records

PARTS = some.none() | some.text(max_size=8)


@pytest.fixture
def places(records: Records, clock: FixedClock, flags: Flags) -> Places:
    return Places(records, clock, flags)


@given(city=PARTS, state=PARTS, country=PARTS)
def test_a_name_does_not_depend_on_case_or_space(city: str | None, state: str | None, country: str | None) -> None:
    """Nor does normalising it twice change it."""
    name = normalized_name(city, state, country)
    spaced = [f" {part}\t" if part is not None else None for part in (city, state, country)]

    assert normalized_name(*spaced) == name
    assert normalized_name(name, None, None) == name.strip()
    assert normalized_name(city, state, None) == normalized_name(city, state, " ")


async def test_a_hundred_listings_at_once_make_one_place(records: Records, places: Places) -> None:
    """Whoever comes second finds what the first has made."""

    async def resolve(count: int) -> int | None:
        async with records.begin() as tx:
            return await places.resolve(tx, PlaceDraft(city=("Austin", "AUSTIN ")[count % 2], state_province="TX"))

    found = await asyncio.gather(*(resolve(count) for count in range(100)))
    async with records.read() as rows:
        assert await rows.scalar(select(func.count()).select_from(locations)) == 1
    assert len(set(found)) == 1


async def test_a_place_that_cannot_be_is_a_listings_mistake(records: Records, places: Places) -> None:
    """One sentence, which says what is wrong with it."""
    with pytest.raises(InvalidFields, match=r"^Location validation failed: Latitude must be from -90 to 90$"):
        async with records.begin() as tx:
            await places.resolve(tx, PlaceDraft(city="Austin", latitude=91))


@pytest.mark.parametrize(
    ("city", "state", "is_known"),
    [
        ("austin", "tx", True),
        ("Austin", "CA", False),
        ("Austin", None, False),
        ("Aust", "TX", False),
        ("Austin, TX", None, True),
        ("springfield", "IL", True),
        ("Springfield", None, True),
    ],
)
async def test_known_cities_are_found_by_city_and_state(
    records: Records, places: Places, flags: Flags, city: str, state: str | None, is_known: bool
) -> None:
    """Or by the city alone where it is known without a state."""
    known = PlaceChanges(city="Austin", state_province="TX", is_known_city=True)
    anywhere = PlaceChanges(city="Springfield", is_known_city=True)
    ids = {place.id for place in [await places.create(OPERATOR, one) for one in (known, anywhere)]}
    await flags.enable(OPERATOR, "location_validation")
    async with records.begin() as tx:
        found = places.resolve(tx, PlaceDraft(city=city, state_province=state))
        if is_known:
            assert await found in ids
        else:
            with pytest.raises(InvalidFields, match="is not a recognized city"):
                await found


async def test_readers_and_limited_keys_do_not_write(places: Places, reader: Principal) -> None:
    """And a key for some topics does not even read."""
    with pytest.raises(Denied):
        await places.create(reader, PlaceChanges(city="Austin"))
    assert (await places.page(reader)).total == 0

"""How the catalogue is kept as rows. Ids are never used again, times are microseconds since 1970 UTC.

Triggers that the migration makes, and nobody else, write `listing_counts`, `listing_epoch` and `listings_text`. The
latter is FTS5 over the texts of listings, by trigrams; it is no table that could be declared here. PostgreSQL would
have the same triggers, and pg_trgm.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

streamers = Table(
    "streamers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_folded", Text, nullable=False, unique=True),  # names differ in more than case
    Column("notes", Text),
    Column("posted_by", Text),
    Column("owner", Integer, nullable=False),  # an account
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Index("streamers_by_owner", "owner"),
    sqlite_autoincrement=True,
)

streamer_accounts = Table(
    "streamer_accounts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("streamer", Integer, ForeignKey("streamers.id"), nullable=False),
    Column("platform", Text, nullable=False),
    Column("username", Text, nullable=False),  # in lower case
    Column("profile_url", Text),
    Column("is_active", Boolean, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    UniqueConstraint("streamer", "platform", "username"),
    Index("streamer_accounts_by_username", "platform", "username"),
    sqlite_autoincrement=True,
)

locations = Table(
    "locations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("city", Text, nullable=False),
    Column("state_province", Text),
    Column("region", Text),
    Column("country", Text),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("normalized_name", Text, nullable=False, unique=True),
    Column("is_known_city", Boolean, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Index("locations_by_city", "city", "state_province", "id"),
    sqlite_autoincrement=True,
)

listings = Table(
    "listings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", Text, nullable=False),
    Column("source_folded", Text, nullable=False),  # what lists by name are sorted by
    Column("link", Text, nullable=False),
    Column("link_normal", Text, nullable=False),  # what imports recognise a link by
    Column("status", Text, nullable=False),
    Column("platform", Text),
    Column("platform_detected", Boolean, nullable=False),  # from the link, and it follows the link
    Column("orientation", Text),
    Column("kind", Text, nullable=False),
    Column("title", Text),
    Column("notes", Text),
    Column("city", Text),
    Column("state", Text),
    Column("posted_by", Text),
    Column("is_pinned", Boolean, nullable=False),
    Column("is_archived", Boolean, nullable=False),
    Column("started_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("last_checked_us", BigInteger),
    Column("last_live_us", BigInteger),
    Column("left_live_us", BigInteger),  # when it was last seen to stop being live
    Column("unarchived_us", BigInteger),  # when somebody took it out of the archive
    Column("check_result", Text),  # of the last check: live, offline or unknown; null before the first
    Column("check_reason", Text),
    Column("checked_us", BigInteger),  # when that was; unlike last_checked_us also of checks that could not tell
    Column("next_check_us", BigInteger, nullable=False, server_default="0"),  # new listings are due at once
    Column("check_lease", Text),  # which checker has it in hand, until next_check_us
    Column("check_trace", Text),  # where the medium stood
    Column("offline_streak", Integer, nullable=False, server_default="0"),
    Column("owner", Integer, nullable=False),  # an account
    Column("streamer", Integer, ForeignKey("streamers.id")),
    Column("location", Integer, ForeignKey("locations.id")),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

FILTERED = ("is_archived", "is_pinned", "status", "platform", "orientation", "kind")
"""What `listing_counts` counts by."""


def _covering(name: str, *ordered: str) -> Index:
    """An index in whose order a list is read; it holds all that lists are filtered by, so no row is read in vain."""
    rest = [
        column
        for column in ("is_pinned", "status", "platform", "orientation", "kind", "owner", "streamer", "location")
        if column not in ordered
    ]
    return Index(name, *(listings.c[column] for column in ("is_archived", *ordered, "id", *rest)))


_covering("listings_by_default", "is_pinned", "created_us")
_covering("listings_by_name", "source_folded")
_covering("listings_by_created", "created_us")
_covering("listings_by_updated", "updated_us")
_covering("listings_by_checked", "last_checked_us")


def _of_one(name: str, column: str) -> Index:
    """The listings of one owner, streamer or place, in the default order, and what they are filtered by."""
    rest = [other for other in ("owner", "streamer", "location") if other != column]
    filtered = ("status", "platform", "orientation", "kind", *rest)
    columns = (column, "is_archived", "is_pinned", "created_us", "id", *filtered)
    return Index(name, *(listings.c[one] for one in columns))


_of_one("listings_by_owner", "owner")
_of_one("listings_by_streamer", "streamer")
_of_one("listings_by_location", "location")

Index("listings_by_link", listings.c.link)
Index("listings_by_normal_link", listings.c.link_normal)
Index(
    "listings_to_archive",
    listings.c.last_checked_us,
    sqlite_where=text("is_archived IS 0 AND is_pinned IS 0 AND status <> 'live'"),
)

Index(
    "listings_gone",
    listings.c.last_live_us,
    sqlite_where=text("is_archived IS 0 AND is_pinned IS 0 AND status = 'offline'"),
)

Index("listings_to_check", listings.c.next_check_us, sqlite_where=text("is_archived IS 0"))

listing_counts = Table(
    "listing_counts",
    metadata,
    *(Column(name, Boolean, primary_key=True) for name in FILTERED[:2]),
    *(Column(name, Text, primary_key=True) for name in FILTERED[2:]),  # "" where the listing has none
    Column("count", BigInteger, nullable=False),
)

listing_epoch = Table("listing_epoch", metadata, Column("epoch", BigInteger, primary_key=True))
"""One row. It counts what changes lists, but for the status and the times: a check changes those of thousands."""

features = Table(
    "features",
    metadata,
    Column("name", Text, primary_key=True),
    Column("created_us", BigInteger, nullable=False),
)

feature_gates = Table(
    "feature_gates",
    metadata,
    Column("feature", Text, ForeignKey("features.name"), primary_key=True),
    Column("kind", Text, primary_key=True),  # boolean, actor, group, percentage_of_actors, percentage_of_time
    Column("value", Text, primary_key=True),
)

ignore_lists = Table(
    "ignore_lists",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("list_type", Text, nullable=False),
    Column("value", Text, nullable=False),  # as its type writes it
    Column("notes", Text),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    UniqueConstraint("list_type", "value"),
    sqlite_autoincrement=True,
)

timestamps = Table(
    "timestamps",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("title", Text, nullable=False),
    Column("description", Text),
    Column("event_us", BigInteger, nullable=False),
    Column("owner", Integer, nullable=False),  # an account
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Index("timestamps_by_event", "event_us", "id"),
    Index("timestamps_by_owner", "owner"),
    sqlite_autoincrement=True,
)

timestamp_listings = Table(
    "timestamp_listings",
    metadata,
    Column("timestamp", Integer, ForeignKey("timestamps.id", ondelete="CASCADE"), primary_key=True),
    Column("listing", Integer, ForeignKey("listings.id", ondelete="CASCADE"), primary_key=True),
    Column("seconds", BigInteger),  # into the stream; null: nobody knows
    Column("added_by", Integer, nullable=False),  # an account
    Column("created_us", BigInteger, nullable=False),
    Index("timestamp_listings_by_listing", "listing"),
    Index("timestamp_listings_by_adder", "added_by"),
)

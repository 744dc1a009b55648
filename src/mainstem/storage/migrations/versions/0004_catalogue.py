"""The catalogue: listings, streamers, places, and what keeps lists of them quick."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_FILTERED = ("is_archived", "is_pinned", "status", "platform", "orientation", "kind")
_TEXTS = ("source", "link", "title", "city", "state", "notes", "posted_by")


def upgrade() -> None:
    _accounts()
    _features()
    _streamers_and_places()
    _listings()
    _counts()
    _epoch()
    _texts()
    _ignore_lists_and_timestamps()


def _accounts() -> None:
    """Roles, service accounts, and tokens that somebody signed out of. Whoever had an account may go on as before."""
    op.add_column("accounts", sa.Column("is_editor", sa.Boolean, nullable=False, server_default=sa.text("1")))
    op.add_column("accounts", sa.Column("is_service", sa.Boolean, nullable=False, server_default=sa.text("0")))
    op.add_column("accounts", sa.Column("updated_us", sa.BigInteger))
    op.add_column("accounts", sa.Column("deleted_us", sa.BigInteger))
    op.create_table(
        "ended_tokens",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("expires_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ended_tokens_by_expiry", "ended_tokens", ["expires_us"])
    op.execute("INSERT INTO identity_changes (kind, count) VALUES ('tokens', 0)")


def _features() -> None:
    """Feature flags, and which are on for whom from the start."""
    op.create_table(
        "features",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "feature_gates",
        sa.Column("feature", sa.Text, sa.ForeignKey("features.name"), primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, primary_key=True),
    )
    op.execute(
        "INSERT INTO features (name, created_us) VALUES ('stream_analytics', 0), ('stream_export', 0),"
        " ('advanced_search', 0), ('stream_bulk_import', 0), ('stream_tags', 0), ('maintenance_mode', 0),"
        " ('location_validation', 0)"
    )
    op.execute(
        "INSERT INTO feature_gates (feature, kind, value) VALUES ('stream_analytics', 'boolean', 'true'),"
        " ('stream_export', 'boolean', 'true'), ('advanced_search', 'boolean', 'true'),"
        " ('stream_bulk_import', 'group', 'editors'), ('stream_bulk_import', 'group', 'admins'),"
        " ('stream_tags', 'group', 'admins')"
    )


def _streamers_and_places() -> None:
    op.create_table(
        "streamers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("name_folded", sa.Text, nullable=False, unique=True),
        sa.Column("notes", sa.Text),
        sa.Column("posted_by", sa.Text),
        sa.Column("owner", sa.Integer, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("streamers_by_owner", "streamers", ["owner"])
    op.create_table(
        "streamer_accounts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("streamer", sa.Integer, sa.ForeignKey("streamers.id"), nullable=False),
        sa.Column("platform", sa.Text, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("profile_url", sa.Text),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("streamer", "platform", "username"),
        sqlite_autoincrement=True,
    )
    op.create_index("streamer_accounts_by_username", "streamer_accounts", ["platform", "username"])
    op.create_table(
        "locations",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("city", sa.Text, nullable=False),
        sa.Column("state_province", sa.Text),
        sa.Column("region", sa.Text),
        sa.Column("country", sa.Text),
        sa.Column("latitude", sa.Float),
        sa.Column("longitude", sa.Float),
        sa.Column("normalized_name", sa.Text, nullable=False, unique=True),
        sa.Column("is_known_city", sa.Boolean, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("locations_by_city", "locations", ["city", "state_province", "id"])


def _listings() -> None:
    op.create_table(
        "listings",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("source_folded", sa.Text, nullable=False),
        sa.Column("link", sa.Text, nullable=False),
        sa.Column("link_normal", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("platform", sa.Text),
        sa.Column("platform_detected", sa.Boolean, nullable=False),
        sa.Column("orientation", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("notes", sa.Text),
        sa.Column("city", sa.Text),
        sa.Column("state", sa.Text),
        sa.Column("posted_by", sa.Text),
        sa.Column("is_pinned", sa.Boolean, nullable=False),
        sa.Column("is_archived", sa.Boolean, nullable=False),
        sa.Column("started_us", sa.BigInteger),
        sa.Column("ended_us", sa.BigInteger),
        sa.Column("last_checked_us", sa.BigInteger),
        sa.Column("last_live_us", sa.BigInteger),
        sa.Column("left_live_us", sa.BigInteger),
        sa.Column("unarchived_us", sa.BigInteger),
        sa.Column("check_result", sa.Text),
        sa.Column("check_reason", sa.Text),
        sa.Column("checked_us", sa.BigInteger),
        sa.Column("next_check_us", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("check_lease", sa.Text),
        sa.Column("check_trace", sa.Text),
        sa.Column("offline_streak", sa.Integer, nullable=False, server_default="0"),
        sa.Column("owner", sa.Integer, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("streamer", sa.Integer, sa.ForeignKey("streamers.id")),
        sa.Column("location", sa.Integer, sa.ForeignKey("locations.id")),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    of_one = ["is_archived", "is_pinned", "created_us", "id", "status", "platform", "orientation", "kind"]
    rest = ["status", "platform", "orientation", "kind", "owner", "streamer", "location"]
    indexes = {
        "listings_by_default": ["is_archived", "is_pinned", "created_us", "id", *rest],
        "listings_by_name": ["is_archived", "source_folded", "id", "is_pinned", *rest],
        "listings_by_created": ["is_archived", "created_us", "id", "is_pinned", *rest],
        "listings_by_updated": ["is_archived", "updated_us", "id", "is_pinned", *rest],
        "listings_by_checked": ["is_archived", "last_checked_us", "id", "is_pinned", *rest],
        "listings_by_owner": ["owner", *of_one, "streamer", "location"],
        "listings_by_streamer": ["streamer", *of_one, "owner", "location"],
        "listings_by_location": ["location", *of_one, "owner", "streamer"],
        "listings_by_link": ["link"],
        "listings_by_normal_link": ["link_normal"],
    }
    for name, columns in indexes.items():
        op.create_index(name, "listings", columns)
    op.create_index(
        "listings_to_archive",
        "listings",
        ["last_checked_us"],
        sqlite_where=sa.text("is_archived IS 0 AND is_pinned IS 0 AND status <> 'live'"),
    )
    op.create_index(
        "listings_gone",
        "listings",
        ["last_live_us"],
        sqlite_where=sa.text("is_archived IS 0 AND is_pinned IS 0 AND status = 'offline'"),
    )
    op.create_index("listings_to_check", "listings", ["next_check_us"], sqlite_where=sa.text("is_archived IS 0"))
    # What was found at one address says nothing of another.
    op.execute(
        "CREATE TRIGGER listings_to_check_anew AFTER UPDATE OF link ON listings WHEN new.link IS NOT old.link"
        " BEGIN UPDATE listings SET check_result = NULL, check_reason = NULL, checked_us = NULL, next_check_us = 0,"
        " check_lease = NULL, check_trace = NULL, offline_streak = 0 WHERE id = new.id; END"
    )


def _ignore_lists_and_timestamps() -> None:
    op.create_table(
        "ignore_lists",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("list_type", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("notes", sa.Text),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("list_type", "value"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "timestamps",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("event_us", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Integer, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("timestamps_by_event", "timestamps", ["event_us", "id"])
    op.create_index("timestamps_by_owner", "timestamps", ["owner"])
    op.create_table(
        "timestamp_listings",
        sa.Column("timestamp", sa.Integer, sa.ForeignKey("timestamps.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("listing", sa.Integer, sa.ForeignKey("listings.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("seconds", sa.BigInteger),
        sa.Column("added_by", sa.Integer, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_index("timestamp_listings_by_listing", "timestamp_listings", ["listing"])
    op.create_index("timestamp_listings_by_adder", "timestamp_listings", ["added_by"])


def _counts() -> None:
    """How many listings have each combination of what lists are filtered by: a total costs a few hundred cells."""
    op.create_table(
        "listing_counts",
        *(sa.Column(name, sa.Boolean, primary_key=True) for name in _FILTERED[:2]),
        *(sa.Column(name, sa.Text, primary_key=True) for name in _FILTERED[2:]),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
    columns = ", ".join(_FILTERED)

    def count(row: str, step: str) -> str:
        values = ", ".join(f"coalesce({row}.{column}, '')" for column in _FILTERED)
        return (
            f"INSERT INTO listing_counts ({columns}, count) VALUES ({values}, {step})"
            f" ON CONFLICT ({columns}) DO UPDATE SET count = count + {step};"
        )

    changed = " OR ".join(f"new.{column} IS NOT old.{column}" for column in _FILTERED)
    op.execute(f"CREATE TRIGGER listings_counted AFTER INSERT ON listings BEGIN {count('new', '1')} END")
    op.execute(f"CREATE TRIGGER listings_discounted AFTER DELETE ON listings BEGIN {count('old', '-1')} END")
    op.execute(
        f"CREATE TRIGGER listings_recounted AFTER UPDATE OF {columns} ON listings WHEN {changed}"
        f" BEGIN {count('old', '-1')} {count('new', '1')} END"
    )


def _epoch() -> None:
    """What a search found stays found, in its order, as long as the epoch does."""
    epoch = op.create_table("listing_epoch", sa.Column("epoch", sa.BigInteger, primary_key=True))
    op.bulk_insert(epoch, [{"epoch": 0}])
    others = ["source_folded", *(name for name in _FILTERED if name != "status"), "owner", "streamer", "location"]
    columns = [*_TEXTS, *others, "created_us"]
    changed = " OR ".join(f"new.{column} IS NOT old.{column}" for column in columns)
    step = "BEGIN UPDATE listing_epoch SET epoch = epoch + 1; END"
    op.execute(f"CREATE TRIGGER listings_added_to AFTER INSERT ON listings {step}")
    op.execute(f"CREATE TRIGGER listings_taken_from AFTER DELETE ON listings {step}")
    op.execute(
        f"CREATE TRIGGER listings_altered AFTER UPDATE OF {', '.join(columns)} ON listings WHEN {changed} {step}"
    )


def _texts() -> None:
    """Whatever a search may find, by three letters at a time."""
    columns = ", ".join(_TEXTS)
    op.execute(
        f"CREATE VIRTUAL TABLE listings_text USING fts5"
        f" ({columns}, content='listings', content_rowid='id', tokenize='trigram')"
    )

    def index(row: str) -> str:
        values = ", ".join(f"{row}.{column}" for column in _TEXTS)
        return f"INSERT INTO listings_text (rowid, {columns}) VALUES ({row}.id, {values});"

    def forget(row: str) -> str:
        values = ", ".join(f"{row}.{column}" for column in _TEXTS)
        return f"INSERT INTO listings_text (listings_text, rowid, {columns}) VALUES ('delete', {row}.id, {values});"

    changed = " OR ".join(f"new.{column} IS NOT old.{column}" for column in _TEXTS)
    op.execute(f"CREATE TRIGGER listings_indexed AFTER INSERT ON listings BEGIN {index('new')} END")
    op.execute(f"CREATE TRIGGER listings_forgotten AFTER DELETE ON listings BEGIN {forget('old')} END")
    op.execute(
        f"CREATE TRIGGER listings_reindexed AFTER UPDATE OF {columns} ON listings WHEN {changed}"
        f" BEGIN {forget('old')} {index('new')} END"
    )

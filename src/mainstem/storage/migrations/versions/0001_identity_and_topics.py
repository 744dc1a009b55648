"""Accounts, their keys and sources, grants and topics."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("email", sa.Text, unique=True),
        sa.Column("password_hash", sa.Text),
        sa.Column("is_admin", sa.Boolean, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("next_source", sa.Integer, nullable=False, server_default="0"),
        sqlite_autoincrement=True,
    )
    # Ids below 8 are the system's own.
    op.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('accounts', 7)")
    op.create_table(
        "api_keys",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("account", sa.Integer, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("tier", sa.Text, nullable=False),
        sa.Column("topics", sa.Text),
        sa.Column("expires_us", sa.BigInteger),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("last_used_us", sa.BigInteger),
        sa.Column("revoked_us", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("api_keys_by_account", "api_keys", ["account"])
    op.create_table(
        "user_keys",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("account", sa.Integer, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("account", "name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "sources",
        sa.Column("account", sa.Integer, sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("account", "name"),
    )
    op.create_table(
        "topics",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("schema", sa.LargeBinary),
        sa.Column("retention_days", sa.Integer),
        sa.Column("retention_bytes", sa.BigInteger),
        sa.Column("dedupe_window_s", sa.Integer, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Integer, sa.ForeignKey("accounts.id"), nullable=False),
        sqlite_autoincrement=True,
    )
    op.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('topics', 7)")
    op.create_table(
        "grants",
        sa.Column("account", sa.Integer, sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("topic", sa.Integer, primary_key=True),
        sa.Column("right", sa.Integer, nullable=False),
    )
    op.create_index("grants_by_topic", "grants", ["topic"])
    op.create_table(
        "source_grants",
        sa.Column("account", sa.Integer, primary_key=True),
        sa.Column("source", sa.Integer, primary_key=True),
        sa.Column("topic", sa.Integer, primary_key=True),
        sa.Column("right", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["account", "source"], ["sources.account", "sources.id"]),
    )
    op.create_index("source_grants_by_topic", "source_grants", ["topic"])
    op.create_table(
        "identity_changes",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO identity_changes (kind, count) VALUES ('credentials', 0), ('grants', 0)")

"""How accounts, keys and grants are kept as rows. Ids are never used again."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

accounts = Table(
    "accounts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("email", Text, unique=True),  # case-folded
    Column("password_hash", Text),
    Column("is_admin", Boolean, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("next_source", Integer, nullable=False, server_default="0"),  # the id of the next source it makes
    sqlite_autoincrement=True,
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("number", Integer, primary_key=True),  # the order in which they were made
    Column("id", Text, nullable=False, unique=True),
    Column("digest", LargeBinary, nullable=False, unique=True),  # SHA-256 of the key, which itself is kept nowhere
    Column("account", Integer, ForeignKey("accounts.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),  # separated by spaces
    Column("tier", Text, nullable=False),
    Column("topics", Text),  # a JSON array of names; null: all
    Column("expires_us", BigInteger),
    Column("created_us", BigInteger, nullable=False),
    Column("last_used_us", BigInteger),
    Column("revoked_us", BigInteger),
    Index("api_keys_by_account", "account"),
    sqlite_autoincrement=True,
)

user_keys = Table(
    "user_keys",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("account", Integer, ForeignKey("accounts.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),  # SHA-256 of the key
    Column("sealed", LargeBinary, nullable=False),  # the key, encrypted
    Column("created_us", BigInteger, nullable=False),
    UniqueConstraint("account", "name"),
    sqlite_autoincrement=True,
)

sources = Table(
    "sources",
    metadata,
    Column("account", Integer, ForeignKey("accounts.id"), primary_key=True),
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),  # SHA-256 of the key
    Column("sealed", LargeBinary, nullable=False),  # the key, encrypted
    Column("created_us", BigInteger, nullable=False),
    UniqueConstraint("account", "name"),
)

grants = Table(
    "grants",
    metadata,
    Column("account", Integer, ForeignKey("accounts.id"), primary_key=True),
    Column("topic", Integer, primary_key=True),
    Column("right", Integer, nullable=False),
    Index("grants_by_topic", "topic"),
)

source_grants = Table(
    "source_grants",
    metadata,
    Column("account", Integer, primary_key=True),
    Column("source", Integer, primary_key=True),
    Column("topic", Integer, primary_key=True),
    Column("right", Integer, nullable=False),
    ForeignKeyConstraint(["account", "source"], ["sources.account", "sources.id"]),
    Index("source_grants_by_topic", "topic"),
)

changes = Table(
    "identity_changes",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
)
"""Two rows that count what was changed, `credentials` (accounts and keys) and `grants`, so that caches know whether a
commit concerned them."""

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
    false,
    true,
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
    Column("is_editor", Boolean, nullable=False, server_default=true()),  # an administrator is one whatever this says
    Column("is_service", Boolean, nullable=False, server_default=false()),
    Column("updated_us", BigInteger),  # null: not since it was made
    Column("deleted_us", BigInteger),  # the row stays, without name and credentials, for what points to it
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

ended_tokens = Table(
    "ended_tokens",
    metadata,
    Column("id", Text, primary_key=True),  # the token's `jti`
    Column("expires_us", BigInteger, nullable=False),  # the row may go then, since the token itself is good no more
    Index("ended_tokens_by_expiry", "expires_us"),
)

changes = Table(
    "identity_changes",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
)
"""Three rows that count what was changed, `credentials` (accounts and keys), `grants` and `tokens` (those that were
ended), so that caches know whether a commit concerned them."""

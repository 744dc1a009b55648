"""How topics are kept as rows. Names are unique; ids are never used again."""

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, MetaData, Table, Text

metadata = MetaData()

topics = Table(
    "topics",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("schema", LargeBinary),
    Column("retention_days", Integer),
    Column("retention_bytes", BigInteger),
    Column("dedupe_window_s", Integer, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("owner", Integer, nullable=False),
    sqlite_autoincrement=True,
)

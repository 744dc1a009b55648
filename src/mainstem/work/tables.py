"""How tasks are kept as rows."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text, UniqueConstraint, text

metadata = MetaData()

tasks = Table(
    "tasks",
    metadata,
    Column("id", Integer, primary_key=True),  # the order in which they were put
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("due_us", BigInteger, nullable=False),  # the order in which they are leased, which is how they age
    Column("held_until_us", BigInteger),  # nobody may have it before: it is leased, or delayed; null: waiting
    Column("lease", Text),  # null: nobody has it
    Column("attempt", Integer, nullable=False),  # how many have begun
    Column("attempts_max", Integer, nullable=False),
    Column("error", Text),  # of the attempt before
    Column("parked_us", BigInteger),  # null: not parked
    UniqueConstraint("kind", "key"),
    Index("tasks_waiting", "kind", "due_us", "id", sqlite_where=text("held_until_us IS NULL AND parked_us IS NULL")),
    Index("tasks_held", "kind", "held_until_us", sqlite_where=text("held_until_us IS NOT NULL")),
    Index("tasks_parked", "parked_us", sqlite_where=text("parked_us IS NOT NULL")),
    sqlite_autoincrement=True,
)

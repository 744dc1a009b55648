"""Tasks that wait for somebody to do them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("due_us", sa.BigInteger, nullable=False),
        sa.Column("held_until_us", sa.BigInteger),
        sa.Column("lease", sa.Text),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("attempts_max", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("parked_us", sa.BigInteger),
        sa.UniqueConstraint("kind", "key"),
        sqlite_autoincrement=True,
    )
    waiting = sa.text("held_until_us IS NULL AND parked_us IS NULL")
    op.create_index("tasks_waiting", "tasks", ["kind", "due_us", "id"], sqlite_where=waiting)
    held = sa.text("held_until_us IS NOT NULL")
    op.create_index("tasks_held", "tasks", ["kind", "held_until_us"], sqlite_where=held)
    op.create_index("tasks_parked", "tasks", ["parked_us"], sqlite_where=sa.text("parked_us IS NOT NULL"))

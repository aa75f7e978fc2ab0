"""Keys, and what was done by whom: a chain of events that can only grow."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_APPEND_ONLY = """
CREATE TRIGGER audit_events_no_{verb} BEFORE {verb} ON audit_events
BEGIN SELECT RAISE(ABORT, 'audit events are never changed'); END
"""


# INSERT OR REPLACE takes a row away without a DELETE's trigger.
_AT_THE_END = """
CREATE TRIGGER audit_events_at_the_end BEFORE INSERT ON audit_events
WHEN NEW.sequence <> (SELECT coalesce(max(sequence), 0) + 1 FROM audit_events)
BEGIN SELECT RAISE(ABORT, 'audit events are only added at the end'); END
"""


def upgrade() -> None:
    """Nothing is known of what was done before."""
    op.create_table(
        "access_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("banks", sa.JSON, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("certificate", sa.Text),
        sa.Column("calls_per_second", sa.REAL),
        sa.Column("concurrent_calls", sa.Integer),
        sa.Column("create_time", sa.Integer, nullable=False),
        sa.Column("expire_time", sa.Integer),
        sa.Column("revoke_time", sa.Integer),
    )
    op.create_table(
        "audit_events",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time", sa.Integer, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("after", sa.Text, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_index("audit_events_by_resource", "audit_events", ["resource", "sequence"])
    for verb in ("UPDATE", "DELETE"):
        op.execute(_APPEND_ONLY.format(verb=verb))
    op.execute(_AT_THE_END)


def downgrade() -> None:
    """Keys and the record of what was done are lost."""
    op.drop_table("audit_events")
    op.drop_table("access_keys")

"""What people steer: banks of a part of the pictures, what was found of matches, quarantine, notes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Banks that are there say something of all pictures, as before."""
    op.add_column("banks", sa.Column("enabled_ratio", sa.REAL, nullable=False, server_default=sa.text("1")))
    for name, default in (("quarantine_false_positives", "3"), ("quarantine_flood", "100")):
        op.add_column("banks", sa.Column(name, sa.Integer, nullable=False, server_default=sa.text(default)))
    op.add_column("entries", sa.Column("note", sa.Text, nullable=False, server_default=sa.text("''")))
    op.add_column("entries", sa.Column("quarantine_reason", sa.String(16)))
    op.add_column("entries", sa.Column("quarantine_message", sa.Text))
    op.add_column("entries", sa.Column("quarantine_time", sa.Integer))
    op.add_column("entries", sa.Column("forgiven", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.create_index(
        "entries_by_quarantine", "entries", ["bank_key", "key"], sqlite_where=sa.text("quarantine_reason IS NOT NULL")
    )
    op.create_table(
        "match_reports",
        sa.Column("key", sa.Integer, primary_key=True),
        sa.Column("entry_key", sa.Integer, sa.ForeignKey("entries.key", ondelete="CASCADE"), nullable=False),
        sa.Column("bank_key", sa.Integer, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("reporter", sa.Text, nullable=False),
        sa.Column("opinion", sa.String(16), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("time", sa.Integer, nullable=False),
    )
    op.create_index("match_reports_by_place", "match_reports", ["entry_key", "sha256", "reporter"], unique=True)
    op.create_index("match_reports_by_bank", "match_reports", ["bank_key", "opinion"])


def downgrade() -> None:
    """What was set and reported since is lost."""
    op.drop_table("match_reports")
    op.drop_index("entries_by_quarantine", "entries")
    for name in ("note", "quarantine_reason", "quarantine_message", "quarantine_time", "forgiven"):
        op.drop_column("entries", name)
    op.drop_column("banks", "quarantine_false_positives")
    op.drop_column("banks", "quarantine_flood")
    op.drop_column("banks", "enabled_ratio")

"""Reports are counted by picture: what one picture was reported by several people for is one."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What was forgiven in reports is not more than there are pictures now: else more would go unseen than was."""
    op.drop_index("match_reports_by_bank", "match_reports")
    op.create_index("match_reports_by_bank", "match_reports", ["bank_key", "opinion", "entry_key", "sha256"])
    op.execute(
        "UPDATE entries SET forgiven = min(forgiven, (SELECT count(DISTINCT sha256) FROM match_reports "
        "WHERE entry_key = entries.key AND opinion = 'false_positive')) WHERE forgiven > 0"
    )


def downgrade() -> None:
    """What was forgiven stays as it is."""
    op.drop_index("match_reports_by_bank", "match_reports")
    op.create_index("match_reports_by_bank", "match_reports", ["bank_key", "opinion"])

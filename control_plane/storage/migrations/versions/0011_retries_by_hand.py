"""How often a run was retried by hand before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("retries_by_hand", sa.BigInteger(), nullable=False, server_default="0"))

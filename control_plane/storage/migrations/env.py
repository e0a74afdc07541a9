"""Run by Alembic: takes the open connection from the configuration's attributes, so that there is no second one."""

from __future__ import annotations

from alembic import context

from control_plane.storage.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    # A migration is all or nothing, inside the transaction of whoever opened the connection.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()

"""Runs migrations on the connection that the catalogue opened."""

from alembic import context

from imagewarden_server.catalog.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()

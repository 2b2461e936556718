"""What Alembic runs: the steps, on the connection that `Database.open` has already begun."""

from __future__ import annotations

from aftermap.cluster.catalog.tables import Table
from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,  # SQLite changes a column by making the table again
)
context.run_migrations()

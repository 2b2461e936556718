"""Tags in the formats of others, out of the catalog and into it."""

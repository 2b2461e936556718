"""A region: many scenes as one run, from finding the images to one table, mosaics and a report."""

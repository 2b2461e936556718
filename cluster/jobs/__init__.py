"""Batch systems: what is asked of them, the script that asks it, and workers that are their jobs."""

"""Folders of photos: scored, sorted, and shown with maps."""

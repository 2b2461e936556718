"""The tagging and review app."""

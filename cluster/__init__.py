"""Processes and the run itself: connecting to a cluster, and assessing a pair into a run folder."""

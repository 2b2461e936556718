"""Studies of papers: what all of them share, and a module for each paper."""

"""One window's work, and joining windows: kernels, apply, stitching, tally."""

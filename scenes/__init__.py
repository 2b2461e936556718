"""Pixels and polygons on the earth: reading, grids, plans, stores, rasters, vectors, synthetic scenes."""

"""Training chips: before, after and damage codes, from folders, data sets and synthetic scenes."""

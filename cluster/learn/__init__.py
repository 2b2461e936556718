"""Learning from tags: a model from what people said, and the squares that they should look at next."""

"""aftermap: from gigapixel before/after images of a disaster to a damage map."""

__version__ = "0.1.0"

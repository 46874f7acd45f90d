"""judo-edge: from a JUDO checkpoint to a verdict on the line."""

__version__ = "0.1.0"

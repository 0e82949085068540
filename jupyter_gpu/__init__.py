"""Run notebook cells on a GPU elsewhere."""

__version__ = "0.1.0"

"""The search for weight formats: ``lutloom search``."""

from lutloom.search.run import search

__all__ = ["search"]

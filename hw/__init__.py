"""Amaranth components, one unit a file."""

"""Passes over graphs and networks, one a file."""

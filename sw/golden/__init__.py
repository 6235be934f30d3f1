"""Exact integer arithmetic in numpy: the functions that hardware must equal."""

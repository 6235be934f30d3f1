"""Boards, one a file: data on top of amaranth-boards."""

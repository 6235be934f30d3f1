"""Yosys, nextpnr, packers, and the exchange of memory contents in placed designs."""

"""Benches: cocotb on the emitted Verilog, and the compiled simulation of whole data sets."""

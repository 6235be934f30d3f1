"""cocotb: a unit of fixed latency on its emitted Verilog, a vector a cycle; started by ``lutloom.sim.runner``."""

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, Timer

from lutloom.sim.job import Job


@cocotb.test()
async def compare(dut):
    """Vectors in, one a cycle, and each output compared ``delay`` cycles later."""
    job = Job.of_environment()
    options = job.options
    inputs = [(getattr(dut, port), job.integers(port)) for port in options["inputs"]]
    outputs = [(getattr(dut, port), port, job.integers(port)) for port in options["outputs"]]
    delay, vectors = options["delay"], options["vectors"]
    clocked = hasattr(dut, "clk")
    for handle, values in inputs:
        handle.value = values[0]
    if clocked:
        if hasattr(dut, "rst"):
            dut.rst.value = 1
        Clock(dut.clk, 10, unit="ns").start()
        for _ in range(4):
            await RisingEdge(dut.clk)
        if hasattr(dut, "rst"):
            dut.rst.value = 0
    differences = []
    for cycle in range(vectors + delay):
        for handle, values in inputs:
            handle.value = values[min(cycle, vectors - 1)]
        await (FallingEdge(dut.clk) if clocked else Timer(5, "ns"))
        vector = cycle - delay
        if vector >= 0:
            for handle, port, values in outputs:
                if values[vector] is not None and int(handle.value) != values[vector]:
                    differences.append((port, vector, int(handle.value), values[vector], cycle))
        await (RisingEdge(dut.clk) if clocked else Timer(5, "ns"))
    job.finish({"cycles": vectors + delay, "faults": [], "differences": differences, "lasts": [], "transfers": {}})

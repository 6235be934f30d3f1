"""A small design with memories of all kinds, as `implement` takes it."""

import random

from lutloom.hw.memory import MemorySpec
from lutloom.hw.shell import SelfTest, Shell, shell_verilog

SHAPES = {  # (kind, width, depth, latency, place)
    "ice40": [
        ("rom", 16, 256, 1, "ebr"), ("rom", 5, 700, 1, "ebr"), ("rom", 3, 2000, 2, "ebr"), ("rom", 20, 768, 1, "ebr"),
        ("rom", 6, 16, 1, "lut"), ("ram", 7, 300, 2, "ebr"),
    ],
    "ecp5": [
        ("rom", 40, 300, 2, "ebr"), ("rom", 18, 1024, 1, "ebr"), ("rom", 20, 1500, 2, "ebr"),
        ("rom", 4, 4000, 1, "ebr"), ("rom", 6, 16, 1, "lut"), ("ram", 36, 300, 1, "ebr"), ("ram", 5, 16, 1, "lut"),
    ],
}


def images_of(specs, seed):
    """Random words for every ROM; those in logic are the same whatever the seed."""
    images = {}
    for spec in specs:
        if spec.kind == "rom":
            rng = random.Random(f"{spec.name} {seed if spec.place == 'ebr' else 0}")
            images[spec.name] = [rng.getrandbits(spec.width) for _ in range(spec.depth)]
    return images


def toy(board, clock_mhz):
    """Verilog and memories of a core that folds all its memories into its output, in the shell of a board.

    Returns
    -------
    dict
        Keyword arguments of `implement`, images aside.
    """
    specs = [MemorySpec(f"m{i}", *fields) for i, fields in enumerate(SHAPES[board.family])]
    lines, terms = [], []
    for spec in specs:
        lines.append(f"wire [{spec.width - 1}:0] {spec.name};")
        ports = f".clk(clk), .i_addr(n[{spec.addr_bits - 1}:0]), .o_data({spec.name})"
        if spec.kind == "ram":
            data = f"{{{-(-spec.width // 8)}{{s_axis_tdata}}}}"
            lines.append(f"wire [{spec.width - 1}:0] {spec.name}_w = {data};")
            ports += f", .i_write_en(s_axis_tvalid), .i_write_addr(n[{spec.addr_bits}:1]), .i_write_data({spec.name}_w)"
        lines.append(f"{spec.module} {spec.name}_i ({ports}); reg p_{spec.name};")
        lines.append(f"always @(posedge clk) p_{spec.name} <= ^{spec.name};")
        terms.append(f"p_{spec.name}")
    core = f"""
module lutloom_core(input clk, input rst, input clear, input [7:0] s_axis_tdata, input s_axis_tvalid,
    output s_axis_tready, input s_axis_tlast, output reg [7:0] m_axis_tdata, output reg m_axis_tvalid,
    input m_axis_tready, output m_axis_tlast, output reg frame_error);
  reg [13:0] n;
  assign s_axis_tready = 1, m_axis_tlast = 1;
  always @(posedge clk) begin
    n <= rst ? 0 : n + 1; frame_error <= 0;
    m_axis_tvalid <= s_axis_tvalid & s_axis_tlast;
    m_axis_tdata <= {{{", ".join(terms)}}} ^ s_axis_tdata;
  end
  {chr(10).join(lines)}
endmodule
"""
    test = SelfTest(tuple(range(40)), (1,))
    ports = {"tdata_bits": 8, "beats": 40}, {"tdata_bits": 8, "beats": 1}
    shell = Shell(board, clock_mhz, input=ports[0], output=ports[1], selftest=test)
    text, target = shell_verilog(shell, board.family)
    return {"core_verilog": core, "shell_verilog": text, "specs": [*specs, *target.specs.values()], "board": board,
            "clock_mhz": float(shell.clock_mhz)}

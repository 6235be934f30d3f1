"""The text form of a design packed into a bitstream."""

from lutloom.toolchain import tools

SUFFIX = {"ice40": ".bin", "ecp5": ".bit"}


def pack(folder, text, bitstream, family, *, toolchain="yowasp", log_dir=None):
    """Pack a design.

    Parameters
    ----------
    folder : Path
        Where both files lie.
    text, bitstream : str
        Their names.
    family : "ice40" or "ecp5"
    toolchain : "yowasp" or "native"
    log_dir : Path
        Where ``pack.log`` goes; the folder by default.

    Returns
    -------
    tools.Run
    """
    if family == "ice40":
        name, arguments = "icepack", [text, bitstream]
    else:
        name, arguments = "ecppack", ["--compress", "--input", text, "--bit", bitstream]
    tool = tools.find(name, toolchain)
    return tools.run(tool, arguments, folder=folder, log=(log_dir or folder) / "pack.log", what="packing")

"""Integer-only against simulated inference: the golden model beside the quantised graph computed in floats."""

# Ref: 004 of the sources (integer-only and simulated quantisation)

from dataclasses import replace

import numpy as np

from lutloom.passes.rewire import CLOSINGS


def without_closings(graph):
    """(graph up to what it closes with, the graph of that alone): softmax, argmax and top-k compute nothing exact."""
    name, ends = graph.output, []
    while (node := graph.producer(name)) is not None and node.op in CLOSINGS:
        ends.insert(0, node)
        name = node.inputs[0]
    nodes = tuple(node for node in graph.nodes if node not in ends)
    return replace(graph, nodes=nodes, output=name), replace(graph, nodes=tuple(ends), input=name)


def difference(network, codes, reals, golden, simulated):
    """How far the golden model is from floats.

    Parameters
    ----------
    network : Network
        Without a closing TopK.
    codes : array (frames, ...)
        Of its output.
    reals : float array (frames, ...)
        What the quantised graph gives there in floats.
    golden, simulated : integer arrays (frames,)
        Classes that both find.

    Returns
    -------
    dict
        ``frames`` whose class differs; ``largest`` and ``mean`` distance of outputs, in steps of the output's scale
        (``scale``).
    """
    tensor = network.tensors[network.output]
    exact = (tensor.format.values(codes).astype(np.float64) - float(tensor.zero_point)) * float(tensor.scale)
    steps = np.abs(exact.reshape(len(exact), -1) - reals.reshape(len(reals), -1)) / float(tensor.scale)
    return {"frames": int(np.count_nonzero(golden != simulated)), "largest": float(steps.max()),
            "mean": float(steps.mean()), "scale": float(tensor.scale)}


def sentence(found):
    """The difference for people."""
    frames = "no frame" if not found["frames"] else "1 frame" if found["frames"] == 1 else f"{found['frames']:,} frames"
    return (f"simulated and golden give {frames} another class; their outputs differ by at most {found['largest']:.3g} "
            f"steps of {found['scale']:.4g}, {found['mean']:.3g} on average")

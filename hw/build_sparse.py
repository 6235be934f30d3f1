"""From a stage of the plan that skips zeros to its hardware."""

from lutloom.hw.geometry import Geometry
from lutloom.hw.matvec import MatVec
from lutloom.hw.memory import Rom
from lutloom.hw.sparse import Groups, SparseStage, SparseWindow
from lutloom.hw.unfold import Unfold
from lutloom.network import Conv, Dense
from lutloom.plan import window_of
from lutloom.sparse import Coding, entries_of_layer, lengths_in_logic, matrix_of, sparse_words


def skips_zeros(group):
    """Whether a stage that skips zeros can compute a group: one of dot products, with a zero among its weights.

    Depthwise there is next to nothing to skip, and padded bipolar values have no code that a window could hold.
    """
    main = group.main
    if not isinstance(main, Conv | Dense) or group.depthwise or not main.weights.sparse or (
            main.weights.format.group > 1):
        return False
    padded = isinstance(main, Conv) and any(main.pads)
    return 0 in main.weights.format.levels and not (padded and group.input.format.kind == "bipolar")


def zero_of(group):
    """Code of a weight of zero."""
    return int(group.main.weights.format.encode([0])[0])


def windows_of(group, width):
    """Geometry of the windows that become vectors one after the other; a dense layer's is one pixel."""
    words = -(-group.image[2] // width)
    return Geometry(1, 1, words) if isinstance(group.main, Dense) else Geometry(words=words, **window_of(group))


def is_unfolded(where):
    """Whether the windows, one after the other, are something else than the feature map as it comes."""
    single = where.out_height * where.out_width == 1 and where.kernel == (where.height, where.width)
    each_pixel = where.kernel == where.stride == (1, 1)
    return any(where.pads) or not (single or each_pixel)


def stored_bits(group, stage):
    """Bits of a stage's weights as it stores them, with the steps over zeros where it skips them."""
    weights = group.main.weights
    if not stage.run_bits:
        return weights.stored_bits
    entries, _ = entries_of_layer(group.main, group.image[2], stage.width, stage.run_bits)
    folds = int(coding_of(group, stage).lengths(entries).sum())
    return folds * stage.units * stage.width * (weights.format.bits + stage.run_bits)


def coding_of(group, stage):
    """How a stage's weights are stored."""
    floor = max(2, -(-stage.units // stage.out_width) * stage.steps)
    return Coding(stage.width, stage.units, stage.run_bits, floor)


def unfold(plan, group, stage):
    """The unit in front of a stage that makes vectors of windows; None where there is nothing to do."""
    if not stage.run_bits:
        return None
    where = windows_of(group, stage.width)
    if not is_unfolded(where):
        return None
    return Unfold(name=f"{stage.name}_unfold", geometry=where, bits=group.input.format.bits, width=stage.width,
                  pad_code=int(group.input.zero_point), latency=plan.memory_latency)


def sparse_stage(plan, group, stage, shape, requantise):
    """The component of a stage that skips zeros.

    Parameters
    ----------
    plan : Plan
    group : lutloom.plan.Group
    stage : StagePlan
        Its ``run_bits`` are not 0.
    shape : Shape
        Of the accumulators.
    requantise : component or None
    """
    weights, source, latency = group.main.weights, group.input.format, plan.memory_latency
    where, coding, fill = windows_of(group, stage.width), coding_of(group, stage), zero_of(group)
    matrix = matrix_of(group.main, group.image[2], stage.width, fill)
    words, lengths = sparse_words(matrix, fill, coding, weights.format.bits)
    rom = Rom(
        name=f"{stage.name}_weights", width=stage.units * stage.width * (weights.format.bits + stage.run_bits),
        depth=len(words), init=words, latency=latency if latency == 1 else latency + 1, place=stage.weights_place,
    )
    window = SparseWindow(
        name=stage.name, geometry=Groups(where.out_height * where.out_width, matrix.shape[1] // stage.width, lengths),
        weights=rom, code_bits=weights.format.bits, bits=source.bits, width=stage.width, units=stage.units,
        latency=latency, place=stage.rows_place, lengths_place="lut" if lengths_in_logic(lengths) else "ebr",
    )
    work = MatVec(
        lanes=stage.width, units=stage.units, x_format=source, w_format=weights.format, acc_shape=shape, dsp=stage.dsp,
        lut_units=stage.lut_units, channels=stage.units, paired=plan.paired,
    )
    return SparseStage(
        name=stage.name, window=window, work=work, weights=None, shape=shape, units=stage.units,
        out_width=stage.out_width, channels=group.channels_out, requantise=requantise,
        out_bits=group.output.format.bits, credits=stage.credits, masked=False,
    )

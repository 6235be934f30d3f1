"""A search's result as text."""

from collections import Counter

from lutloom.passes.compensate import PAYS_FRAMES
from lutloom.search.choice import is_good
from lutloom.terminal import table

MOST_FORMATS = 3  # of each layer that are shown where all have as many bits; else the best of each number of bits
MOST_FRONT = 20
MOST_NAMES = 5  # layers whose formats fit in a line
FAR = 0.1  # of accuracy: what of the front lies further below the float model is not shown


def text(result):
    """What ``lutloom search`` prints; its last line is the ``--weights`` that was chosen."""
    trials, unquantised = result["trials"], result["float"]
    what = "accuracy" if result["labels"] else "agreement with the float model"
    head = table([
        ["float", f"{unquantised['accuracy']:.2%} of {result['frames']:,} frames of {result['data']}"],
        ["chosen by", f"{what} on {result['calibration_frames']:,} frames of {result['calibration']}, float "
                      f"{unquantised['calibration']:.2%}"],
        ["trials", f"{trials['alone']:,} of formats in one layer, {trials['combinations']:,} of combinations, "
                   f"{trials['golden']} golden; {trials['known']:,} results were known before"],
        ["LUTs", f"of the products alone, roughly, at {result['pace_cycles']:,} cycles a frame; cycles where products "
                 f"take half of what {result['board']} may be filled with"],
        ["seconds", f"{result['seconds']:.1f}"],
    ])
    rows = [[name if place == 0 else "", len(ones) if place == 0 else None, one["format"], _share(one["accuracy"]),
             one["error"], one["weight_bits"], round(one["luts"])]
            for name, ones in result["layers"].items() for place, one in enumerate(_shown(ones))]
    for row in rows:
        row[1] = "" if row[1] is None else f"{row[1]:,}"
    alone = table(rows, ["layer", "tried", "best of as many bits", what.split()[0], "change", "weight bits", "LUTs"])
    chosen = next(row for row in result["finals"] if row["chosen"])
    last = "golden" if chosen["golden"] is not None else "simulated"
    near = [row for row in result["front"] if row["accuracy"] >= unquantised["calibration"] - FAR]
    points = {_key(row): row for row in [*near, *result["finals"]]}
    shown = sorted(points.values(), key=lambda row: (row["weight_bits"], row["luts"], -row["accuracy"]))
    if len(shown) > MOST_FRONT:
        shown = [row for place, row in enumerate(shown) if place % -(-len(shown) // MOST_FRONT) == 0 or "golden" in row]
    on_front = {_key(row) for row in result["front"]}
    names = list(result["layers"])
    lines = [[("*" if row.get("chosen") else "") + ("+" if _key(row) in on_front else ""), row["weight_bits"],
              row["luts"], row["cycles"], *(_share(row.get(key)) for key in ("accuracy", "calibration", last)),
              _formats(row["formats"])] for row in shown]
    front = table(lines, ["", "weight bits", "LUTs", "cycles", what.split()[0], last, last + ", test data",
                          "formats of " + (" ".join(names) if len(names) <= MOST_NAMES else "layers")])
    end = [f"* chosen{' for ' + result['budget'] if result['budget'] else ''}, + on the front"]
    if left := len(result["front"]) - len(near):
        end[0] += f" ({left} more of it lose over {FAR:.0%}: see search.json)"
    if result["drop"] is not None and not is_good(chosen["calibration"], unquantised["calibration"], result["drop"]):
        end.append(f"None of these loses at most {result['drop']:g} points on the calibration data: the best is "
                   "chosen.")
    if result["calibration_frames"] < 2 * PAYS_FRAMES and result["rounding"] in (None, "auto"):
        end.append(f"Of fewer than {2 * PAYS_FRAMES} calibration frames a half is too small to compensate on: all but "
                   "the accuracy on test data is of weights rounded to the nearest.")
    end.append(f"written: {result['folder']}/trials.jsonl, search.json" + (", pareto.png" if result["picture"] else ""))
    if not result["picture"]:
        end.append("There is no plot: it needs matplotlib (pip install 'lutloom[plots]').")
    rounding = f" --rounding {result['rounding']}" if result["rounding"] and (
        result["rounding"] != "mask" or "bitmask" in result["weights"]) else ""
    end.append(f"--weights '{result['weights']}'{rounding}")
    return "\n\n".join([head, alone, front, "\n".join(end)])


def _formats(formats):
    """Formats in the order of the layers; of many layers, how many have which."""
    if len(formats) <= MOST_NAMES:
        return " ".join(formats.values())
    return ", ".join(f"{count} {text}" for text, count in Counter(formats.values()).most_common())


def _shown(ones):
    """The best few of a layer's formats, which come best first."""
    bits = sorted({one["weight_bits"] for one in ones}, reverse=True)
    if len(bits) == 1:
        return ones[:MOST_FORMATS]
    return [next(one for one in ones if one["weight_bits"] == each) for each in bits]


def _key(row):
    return tuple(row["formats"].items())


def _share(value):
    return "-" if value is None else f"{value:.2%}"

"""Transposes of any number of sides as such of three, which is what the Graph has."""

from math import prod


def three_sides(shape, order):
    """(sides, order) of the transpose of three sides that moves the same numbers; None where there is none.

    Sides of 1 do not count, and those that stay beside each other are one: the order is (0, 1, 2) where nothing moves.
    """
    moved = [axis for axis in order if shape[axis] != 1]
    behind = dict(zip(sorted(moved), sorted(moved)[1:], strict=False))
    runs = []
    for axis in moved:
        if runs and behind.get(runs[-1][-1]) == axis:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    if len(runs) > 3:
        return None
    runs = [[]] * (3 - len(runs)) + runs
    places = sorted(runs)
    return tuple(prod(shape[axis] for axis in run) for run in places), tuple(
        index if not run else places.index(run) for index, run in enumerate(runs))

"""What a search chooses among the combinations that it tried: the front, the best for a budget, the few to score."""

from dataclasses import dataclass, replace

from lutloom.errors import FitError
from lutloom.search.cost import BUDGETS, Costs


@dataclass(frozen=True)
class Point:
    """A combination that was tried.

    Parameters
    ----------
    formats : dict of str to str
        Of the searched layers.
    costs : Costs
    accuracy, score, error : float
        On the calibration data. The score is the accuracy, or the float model's where that is less: more is luck. The
        error is the mean square change of outputs, over their variance.
    """

    formats: dict
    costs: Costs
    accuracy: float
    score: float
    error: float

    def with_accuracy(self, accuracy, most):
        """The point with an accuracy that was found otherwise; ``most`` is the float model's."""
        return replace(self, accuracy=accuracy, score=min(accuracy, most))

    @property
    def rank(self):
        """Sorts the best first."""
        return -self.score, self.error, self.costs.bits, self.costs.luts


def front(points):
    """Points that no other beats in accuracy at as few bits, or at as few LUTs; cheapest first."""
    kept = {}
    for cost in ("bits", "luts"):
        highest = -1.0
        for point in sorted(points, key=lambda point: (getattr(point.costs, cost), point.rank)):
            if point.score > highest:
                highest = point.score
                kept[id(point)] = point
    return sorted(kept.values(), key=lambda point: (point.costs.bits, point.costs.luts))


def choose(points, budget, unquantised, drop):
    """The best that meets the budget; without one, the fewest bits that lose at most ``drop`` points.

    Raises
    ------
    FitError
        If none meets the budget; the closest is named.
    """
    if budget is not None:
        meeting = [point for point in points if budget.excess(point.costs) <= 0]
        if not meeting:
            refuse(budget, min(points, key=lambda point: budget.excess(point.costs)))
        return min(meeting, key=lambda point: point.rank)
    good = [point for point in points if is_good(point.score, unquantised, drop)]
    if not good:
        return min(points, key=lambda point: point.rank)
    return min(good, key=lambda point: (point.costs.bits, point.costs.luts, point.rank))


def is_good(accuracy, unquantised, drop):
    """Whether an accuracy is at most ``drop`` points below the float model's."""
    return accuracy >= unquantised - drop / 100 - 1e-9


def refuse(budget, closest):
    """FitError that names the point that comes closest to a budget."""
    formats = ", ".join(f"{name} {text}" for name, text in closest.formats.items())
    raise FitError(f"no formats meet --budget {budget}: the closest take {getattr(closest.costs, budget.of):,} "
                   f"{BUDGETS[budget.of]} ({formats}); give more with --budget, or smaller formats with --formats")


def finalists(points, chosen, count, budget=None):
    """The few that the golden model scores: the chosen one, then the best of the front, then those that change least;
    of a budget, of those that meet it."""
    points = [point for point in points if budget is None or budget.excess(point.costs) <= 0]
    few = [chosen]
    for point in [*sorted(front(points), key=lambda point: point.rank), *faithful(points)]:
        if len(few) >= count:
            break
        if all(point is not other for other in few):
            few.append(point)
    return sorted(few, key=lambda point: (point.costs.bits, point.costs.luts, point.rank))


def faithful(points):
    """Points, those that change the outputs least first."""
    return sorted(points, key=lambda point: (point.error, point.rank))

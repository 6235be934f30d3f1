"""Outputs of a layer that share their inputs: what they should give on real data, and how near codes come to it."""

# Ref: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", 2023 (the
# order of columns, the Cholesky form).

from functools import cached_property

import numpy as np

from lutloom.passes.compensate_groups import choose_groups

DAMPING = 0.01
"""Of the mean power of the inputs, added to each: keeps directions that the data do not show from growing."""

MOST_WORK = 1e12
"""Steps of solving for the weights that are left of a pruned layer, at most."""

STEP = 2048
"""Rows that are multiplied at once."""

BLOCK = 64
"""Inputs whose errors are held back before they reach the inputs behind."""


class Outputs:
    """The outputs of one group.

    Parameters
    ----------
    mine : slice
        Of the layer's outputs.
    was, now : float array (rows, inputs)
        What they are sums of, in the model as it is and behind quantised layers; one array where both are the same.
        Only second moments about the means are kept: a bias sees to the means.
    real : float64 array (N, inputs)
        Weights of the model as it is.
    kept : bool array (N, inputs), optional
        Weights that are not pruned.

    Attributes
    ----------
    power : float64 array (inputs, inputs)
        Second moments of ``now``, damped: the Hessian.
    target : float64 array (N, inputs)
        Weights of real numbers for ``now`` that give most nearly what ``real`` gives for ``was``.
    """

    def __init__(self, mine, was, now, real, kept=None):
        same = was is now
        self.mine, self._kept = mine, kept
        before, after = (x.mean(axis=0, dtype=np.float64) for x in (was, now))
        self._after, self._wanted = after, real @ before
        power = _moments(now, now, after, after)
        self._product = real @ (power if same else _moments(was, now, before, after))
        square = self._product if same else real @ _moments(was, was, before, before)
        self._variance = (square * real).sum()
        self.damping = DAMPING * np.diag(power).mean() or 1.0
        self.power = power
        self.power[np.diag_indices_from(power)] += self.damping
        # Damped towards the weights themselves.
        self.target = real if same else np.linalg.solve(self.power, (self._product + self.damping * real).T).T
        if kept is not None:
            self.target = self._supported()

    def moments(self, integers):
        """Σ target·integer and Σ integer² in the metric of the data, a row each."""
        weighted = integers @ self.power
        return (weighted * self.target).sum(axis=1), (weighted * integers).sum(axis=1)

    def error(self, quantised):
        """Variance of what the outputs differ by, summed over the outputs."""
        power = ((quantised @ self.power) * quantised).sum() - self.damping * np.square(quantised).sum()
        return self._variance - 2 * (self._product * quantised).sum() + power

    def shift(self, quantised):
        """What the outputs are too small by on average."""
        return self._wanted - quantised @ self._after

    def choose(self, format, scale, shape=None):
        """Codes (N, inputs), one input after the other; zero where a weight is not ``kept``; groups, in codes of a
        ``shape``, as a whole."""
        target, kept = self.target, self._kept
        if format.group > 1:
            return choose_groups(self.power, target, format, scale, shape or target.shape)
        order, upper = self._elimination
        free, codes = np.ascontiguousarray(target.T[order]), np.zeros(target.shape[::-1], np.uint16)  # inputs first
        zero = None if kept is None else format.encode(np.zeros(1, int))[0]
        for begin in range(0, len(order), BLOCK):
            end = min(begin + BLOCK, len(order))
            errors = np.zeros((end - begin, len(target)))
            for at in range(begin, end):
                row = format.quantise(free[at], scale)
                if kept is not None:
                    row = np.where(kept[:, order[at]], row, zero)
                codes[order[at]] = row
                error = (free[at] - format.decode(row) * scale) / upper[at, at]
                errors[at - begin] = error
                free[at + 1:end] -= np.outer(upper[at, at + 1:end], error)
            free[end:] -= upper[begin:end, end:].T @ errors
        return np.ascontiguousarray(codes.T)

    @property
    def nbytes(self):
        """What is held, about: the Hessian and its factor, and of the weights three."""
        return 2 * self.power.nbytes + 3 * self.target.nbytes

    @cached_property
    def _elimination(self):
        """(order of inputs by falling power, Cholesky factor of the inverse in that order)."""
        order = np.argsort(-np.diag(self.power), kind="stable")
        inverse = np.linalg.inv(self.power[np.ix_(order, order)])
        return order, np.linalg.cholesky((inverse + inverse.T) / 2).T

    def _supported(self):
        """Weights that are zero where they are not ``kept`` and give most nearly what ``target`` gives."""
        kept, target = self._kept, self.target
        if (kept.sum(axis=1, dtype=np.float64) ** 3).sum() > MOST_WORK:
            return target  # what is chosen one after the other makes up for a part of it
        wanted, found = target @ self.power, np.zeros_like(target)
        for row, mine in enumerate(kept):
            places = np.flatnonzero(mine)
            if len(places):
                found[row, places] = np.linalg.solve(self.power[np.ix_(places, places)], wanted[row, places])
        return found


def _moments(a, b, a_mean, b_mean):
    """Mean of the products of two arrays (rows, inputs) about their means.

    In float64, which numbers of threads and orders of sums change so little that codes stay the same.
    """
    total = np.zeros((a.shape[1], b.shape[1]))
    for at in range(0, len(a), STEP):
        left = a[at:at + STEP] - a_mean
        total += left.T @ (left if a is b else b[at:at + STEP] - b_mean)
    return total / len(a)

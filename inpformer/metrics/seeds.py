"""What other seeds would give: how far the mean over a few trainings lies from the mean over all that there could be.

A method is judged by several trainings that differ in their seed alone. The mean over S of them lies about the true one
as Student's t with S - 1 degrees of freedom has it, times the deviation of the S over the root of S. Each replicate of
the test images gets such a step of its own, so that bounds hold for other images and other seeds at once. Of two
methods each has its steps: that is the solution of Behrens and Fisher, which errs on the safe side (Robinson,
"Properties of Student's t and of the Behrens-Fisher solution to the two means problem", 1976).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from inpformer.metrics.paired import Paired

STEPS_SEED = 1908  # of the order in which a method's steps are met


def over_seeds(paired: Paired, values: Sequence[float], number: int) -> Paired:
    """`paired` with the spread of `values`, one a seed, which it is the mean of. `number` is the method's: those of two
    that are compared must differ. Of one seed nothing is known, and nothing is added.
    """
    if len(values) < 2 or not (deviation := float(np.std(values, ddof=1))):
        return paired
    steps = _steps(paired.replicates.size, len(values) - 1, number) * deviation / sqrt(len(values))
    return replace(paired, replicates=paired.replicates + steps)


@cache
def _steps(size: int, freedom: int, number: int) -> NDArray[np.float64]:
    """Student's t, met evenly, in an order of each method's own: [size]."""
    places = np.random.default_rng((STEPS_SEED, number)).permutation(size)
    return np.asarray(stats.t.ppf((places + 0.5) / size, freedom))

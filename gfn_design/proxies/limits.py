"""Learning from numbers of which some are limits, as ``>10000``."""

import math

import numpy as np
from numpy.typing import NDArray

from gfn_design.proxies.inputs import Inputs
from gfn_design.proxies.models import Floats, Model

ROUNDS = 2  # in which the numbers behind limits are guessed anew


def fit_with_limits(model: Model, inputs: Inputs, values: Floats, limits: NDArray[np.int8]) -> None:
    """Fit a model where the truth of some objects is only known to lie below or above a number.

    In turns, the model is fitted, and each such number replaced by what is to be expected of it:
    the mean of a normal distribution about what the model says, beyond the limit (Buckley and James
    1979 for censored data; the normal one is Tobin's 1958), half as wide as the exact numbers.

    Args:
        model: Is fitted in place.
        inputs: The objects.
        values: Numbers or limits, ``float64[n]``.
        limits: -1 where the truth is below the number, 1 where above, else 0.
    """
    model.fit(inputs, values)
    beyond = np.flatnonzero(limits)
    if not len(beyond) or len(beyond) == len(values):
        return
    some, guessed = inputs.take(beyond), values.copy()
    width = float(values[limits == 0].std()) / 2 or 1.0
    for _ in range(ROUNDS):
        mean = model.predict(some).mean
        guessed[beyond] = expected_beyond(mean, width, values[beyond], limits[beyond])
        model.fit(inputs, guessed)


def expected_beyond(mean: Floats, width: float, limit: Floats, side: NDArray[np.int8]) -> Floats:
    """Means of normal distributions cut off at limits: below them where side is -1, else above."""
    z = side * (limit - mean) / width
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    beyond = 0.5 * np.array([math.erfc(x / math.sqrt(2)) for x in z])
    far = z + 1 / np.maximum(z, 1.0)  # of the ratio where both vanish
    ratio = np.where(beyond > 1e-12, density / np.maximum(beyond, 1e-12), far)
    return mean + side * width * ratio


def errors(guess: Floats, values: Floats, limits: NDArray[np.int8]) -> Floats:
    """Guess minus number; of limits only what is on the wrong side of them counts."""
    off = guess - values
    return np.where(limits < 0, off.clip(min=0), np.where(limits > 0, off.clip(max=0), off))

"""How desirable the value of a property is, from 0 to 1, as a short text says in its units."""

import math
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from gfn_design.errors import InputError

Desirability = Callable[[Tensor], Tensor]

FALL_OFF = 0.25  # of a range or a bound: how far outside counts one half, if nothing else is said
_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_WITHIN = rf"(?: +within +{_NUMBER})?"
_FORMS = {
    "range": rf"{_NUMBER} *\.\. *{_NUMBER}{_WITHIN}",
    "least": rf">= *{_NUMBER}{_WITHIN}",
    "most": rf"<= *{_NUMBER}{_WITHIN}",
    "maximise": rf"maximi[sz]e +{_NUMBER} *\.\. *{_NUMBER}",
    "minimise": rf"minimi[sz]e +{_NUMBER} *\.\. *{_NUMBER}",
    "share": rf"/ *{_NUMBER}",
}


def desirability(want: str) -> Desirability:
    """What a text asks for, as a function of values ``float64[n]`` to ``float64[n]``.

    - ``2..4``, ``>= 0.6``, ``<= 3``: 1 inside. At a distance x outside 2^-(x/w)^2, that is one half
      at the distance w, which ``within w`` states; else a quarter of the range or of the bound.
    - ``maximise 4..8``: rises in a straight line from 0 at 4 to 1 at 8; ``minimise -12..-6`` falls
      from 1 at -12 to 0 at -6.
    - ``/ 8``: the value itself in units of 8, at least 0; the one form that may exceed 1.

    Raises:
        InputError: The text says no such thing.
    """
    text = want.strip().replace("≥", ">=").replace("≤", "<=")
    for form, pattern in _FORMS.items():
        if match := re.fullmatch(pattern, text):
            return _build(form, [None if x is None else float(x) for x in match.groups()], text)
    raise InputError(
        f"'{want}' does not say what is wanted; write a range as in '2..4', a bound as in '>= 0.6' "
        "or '<= 3' (each may go on, as in '<= 3 within 0.5'), 'maximise 4..8', 'minimise -12..-6', "
        "or '/ 8' for the value itself in units of 8"
    )


def limits(want: str) -> tuple[float, float]:
    """Between which values a text is wholly content, both among them.

    Of ``/ 8`` there are none that would do; it is content with anything.
    """
    text = want.strip().replace("≥", ">=").replace("≤", "<=")
    for form, pattern in _FORMS.items():
        if match := re.fullmatch(pattern, text):
            both = form in ("range", "maximise", "minimise")
            first, second = float(match[1]), float(match[2]) if both else 0.0
            return {
                "range": (first, second),
                "least": (first, math.inf),
                "most": (-math.inf, first),
                "maximise": (second, math.inf),
                "minimise": (-math.inf, first),
                "share": (-math.inf, math.inf),
            }[form]
    desirability(want)  # says what is wrong
    return -math.inf, math.inf


def has_bounds(want: str) -> bool:
    """Whether a text asks for a range or a bound, and not only for more or less of something."""
    text = want.strip().replace("≥", ">=").replace("≤", "<=")
    return any(re.fullmatch(_FORMS[form], text) for form in ("range", "least", "most"))


def loosened(want: str, amount: float) -> str:
    """The same wish, but content with more: its bounds moved by so many times what counts half.

    Of ``maximise 4..8`` the bound moves by so many quarters of the way back to 4.
    """
    text = want.strip().replace("≥", ">=").replace("≤", "<=")
    for form, pattern in _FORMS.items():
        match = re.fullmatch(pattern, text)
        if match is None or form == "share":
            continue
        if form in ("maximise", "minimise"):
            low, high = float(match[1]), float(match[2])
            step = min(amount * FALL_OFF, 0.99) * (high - low)
            low, high = (low, high - step) if form == "maximise" else (low + step, high)
            return f"{form} {low:.6g}..{high:.6g}"
        first, second = float(match[1]), float(match[2]) if form == "range" else None
        given = match[match.lastindex or 1] if " within" in text else None
        usual = abs(first) if second is None else second - first
        width = usual * FALL_OFF if given is None else float(given)
        first += width * amount * (1 if form == "most" else -1)
        within = f" within {width:.6g}"
        if second is not None:
            return f"{first:.6g}..{second + width * amount:.6g}{within}"
        return f"{'<=' if form == 'most' else '>='} {first:.6g}{within}"
    return want


def _build(form: str, numbers: list[float | None], text: str) -> Desirability:
    first = numbers[0]
    assert first is not None  # every form has a number
    if form == "share":
        if not first > 0:
            raise InputError(f"'{text}': the unit must be positive")
        return lambda values: (values / first).clamp(min=0)
    if form in ("least", "most"):
        low, high = (first, math.inf) if form == "least" else (-math.inf, first)
        return _band(low, high, numbers[1], abs(first) * FALL_OFF, text)
    second = numbers[1]
    assert second is not None
    if second < first or (second == first and form != "range"):
        raise InputError(f"'{text}': the first number must be the smaller one")
    if form == "range":
        return _band(first, second, numbers[2], (second - first) * FALL_OFF, text)
    zero, one = (first, second) if form == "maximise" else (second, first)
    return lambda values: ((values - zero) / (one - zero)).clamp(0, 1)


def _band(low: float, high: float, within: float | None, usual: float, text: str) -> Desirability:
    width = usual if within is None else within
    if not width > 0:
        bare = text.partition(" within")[0]
        raise InputError(
            f"'{text}': say how far outside a value counts half, by a positive number, as in "
            f"'{bare} within 1'"
        )

    def band(values: Tensor) -> Tensor:
        outside = (low - values).clamp(min=0) + (values - high).clamp(min=0)
        return torch.exp2(-(outside / width).square())

    return band


def multiplied(weights: Tensor, titles: Sequence[str], times: Mapping[str, Tensor]) -> Tensor:
    """Weights of terms for each object, ``float64[n, terms]``.

    Args:
        weights: ``float64[terms]``.
        titles: Of the terms.
        times: By what to multiply, by title, ``float[n]`` each.

    Raises:
        InputError: There is no term of such a title.
    """
    if unknown := [name for name in times if name not in titles]:
        raise InputError(
            f"conditions.weights: there is no term '{unknown[0]}'; there are {', '.join(titles)}"
        )
    n = len(next(iter(times.values())))
    found = weights.expand(n, -1).clone()
    for name, factor in times.items():
        found[:, titles.index(name)] *= factor.to(found)
    return found


def combined(desirabilities: Tensor, weights: Tensor, how: str) -> Tensor:
    """Weighted geometric mean (``product``) or arithmetic mean (``sum``) over the terms.

    Args:
        desirabilities: ``float64[n, terms]``.
        weights: ``float64[terms]``, positive, or ``float64[n, terms]``, of each its own.
        how: ``product`` or ``sum``.

    Returns:
        ``float64[n]``.
    """
    shares = weights / weights.sum(-1, keepdim=True)
    if how == "sum":
        return (desirabilities * shares).sum(1)
    return (desirabilities**shares).prod(1)

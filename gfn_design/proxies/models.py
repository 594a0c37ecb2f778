"""What can learn from measurements, the simplest first; each says how sure it is."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gfn_design.errors import InputError
from gfn_design.proxies.gaussian_process import GaussianProcess
from gfn_design.proxies.inputs import Inputs, Reference

Floats = NDArray[np.float64]
State = dict[str, NDArray[Any]]
NEAREST = 5  # neighbours that are asked
TREES = 100
ROUNDS = 100  # of boosting
RARE = 3  # a part that fewer objects have is not learned from by trees
NETWORKS = "neural networks"  # which are compared if asked for
AT_ONCE = 1024  # rows whose similarities are found at once


class Guess(NamedTuple):
    """What a model says of objects.

    Attributes:
        mean: ``float64[n]``.
        spread: How unsure it is, in the quantity's units before any calibration, ``float64[n]``.
    """

    mean: Floats
    spread: Floats


class Model(Protocol):
    """Learns from objects and numbers.

    Attributes:
        name: In a word or two.
    """

    name: str

    def fit(self, inputs: Inputs, values: Floats) -> None:
        """Learn from ``float64[n]``, a number for each object."""

    def predict(self, inputs: Inputs) -> Guess:
        """What it says of others."""

    def state(self) -> State:
        """What it has learned, as arrays."""

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what another has learned."""


class Mean:
    """The mean of all numbers, whatever the object: what a model must beat."""

    name = "mean"

    def __init__(self) -> None:
        self.mean, self.deviation = 0.0, 1.0

    def fit(self, inputs: Inputs, values: Floats) -> None:
        self.mean, self.deviation = float(values.mean()), float(values.std()) or 1.0

    def predict(self, inputs: Inputs) -> Guess:
        n = len(inputs)
        return Guess(np.full(n, self.mean), np.full(n, self.deviation))

    def state(self) -> State:
        return {"moments": np.array([self.mean, self.deviation])}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.mean, self.deviation = map(float, state["moments"])


class Nearest:
    """The mean of the most similar measured objects, weighted by their similarity squared."""

    name = "nearest neighbours"

    def __init__(self) -> None:
        self.reference = Reference(np.zeros((0, 0), np.uint8))
        self.values: Floats = np.zeros(0)

    def fit(self, inputs: Inputs, values: Floats) -> None:
        self.reference, self.values = Reference(inputs.counts), values

    def predict(self, inputs: Inputs) -> Guess:
        means, spreads = [], []
        for start in range(0, len(inputs), AT_ONCE):
            alike = self.reference.similarity(inputs.counts[start : start + AT_ONCE])
            k = min(NEAREST, alike.shape[1])
            near = np.argpartition(-alike, k - 1, 1)[:, :k]
            weights = np.take_along_axis(alike, near, 1).astype(np.float64) ** 2 + 1e-6
            means.append((self.values[near] * weights).sum(1) / weights.sum(1))
            spreads.append(1 - alike.max(1).astype(np.float64))
        return Guess(np.concatenate(means), np.concatenate(spreads))

    def state(self) -> State:
        return {"counts": self.reference.counts, "values": self.values}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.reference, self.values = Reference(state["counts"]), state["values"]


class Gaussian:
    """An exact Gaussian process with Tanimoto's kernel on counts (see `GaussianProcess`)."""

    name = "Gaussian process"

    def __init__(self) -> None:
        self.process = GaussianProcess()

    def fit(self, inputs: Inputs, values: Floats) -> None:
        self.process.fit(inputs.counts, values)

    def predict(self, inputs: Inputs) -> Guess:
        parts = [
            self.process.predict(inputs.counts[start : start + AT_ONCE])
            for start in range(0, len(inputs), AT_ONCE)
        ]
        mean, spread = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Guess(mean, spread)

    def state(self) -> State:
        it = self.process
        moments = np.array([it.mean, it.signal, it.noise])
        return {
            "counts": it.reference.counts,
            "moments": moments,
            "weights": it.weights,
            "lower": it.lower.astype(np.float32),
        }

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        it = self.process
        it.mean, it.signal, it.noise = map(float, state["moments"])
        it.reference, it.weights = Reference(state["counts"]), state["weights"]
        it.lower = state["lower"].astype(np.float64)


class Estimator:
    """A regressor with scikit-learn's methods `fit` and `predict`, on counts.

    How unsure it is follows from the trees of a forest, and of others from how similar the nearest
    measured object is.

    Args:
        name: In a word or two.
        make: Gives a new one.
    """

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self.name, self.make = name, make
        self.estimator: Any = None
        self.used: NDArray[np.bool_] = np.zeros(0, bool)
        self.reference = Reference(np.zeros((0, 0), np.uint8))

    def fit(self, inputs: Inputs, values: Floats) -> None:
        self.used = (inputs.counts > 0).sum(0) >= RARE
        self.estimator = self.make().fit(inputs.counts[:, self.used], values)
        self.reference = Reference(inputs.counts[:0] if self._votes else inputs.counts)

    @property
    def _votes(self) -> bool:
        """Whether it is the mean of its trees."""
        from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

        return isinstance(self.estimator, ExtraTreesRegressor | RandomForestRegressor)

    def predict(self, inputs: Inputs) -> Guess:
        rows = inputs.counts[:, self.used]
        if self._votes:
            rows = rows.astype(np.float32)
            votes = np.stack([tree.predict(rows) for tree in self.estimator.estimators_])
            return Guess(votes.mean(0), votes.std(0))
        mean = np.asarray(self.estimator.predict(rows), dtype=np.float64).reshape(-1)
        near = [
            self.reference.similarity(inputs.counts[start : start + AT_ONCE]).max(1)
            for start in range(0, len(inputs), AT_ONCE)
        ]
        return Guess(mean, 1 - np.concatenate(near).astype(np.float64))

    def state(self) -> State:
        import skops.io

        written = np.frombuffer(skops.io.dumps(self.estimator), dtype=np.uint8)
        return {"estimator": written, "used": self.used, "counts": self.reference.counts}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        import skops.io

        written = state["estimator"].tobytes()
        unknown = skops.io.get_untrusted_types(data=written)
        if strange := [name for name in unknown if not name.startswith("sklearn.")]:
            raise InputError(
                f"holds a {strange[0]}, which is not of scikit-learn; only models of it are read"
            )
        self.estimator = skops.io.loads(written, trusted=unknown)
        self.used, self.reference = state["used"].astype(bool), Reference(state["counts"])


def forest() -> Any:
    """A random forest, each split from the square root of all features."""
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(TREES, max_features="sqrt", random_state=0)


def boosting() -> Any:
    """Gradient boosting of histograms."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(max_iter=ROUNDS, random_state=0)


def own(name: str, make: Callable[[], Any]) -> Callable[[], Model]:
    """A model of somebody's own: any regressor of scikit-learn, or made like one.

    Args:
        name: In a word or two.
        make: Gives a new estimator, which is not fitted.

    Raises:
        InputError: It has no methods `fit` and `predict`.
    """
    made = make()
    if not (callable(getattr(made, "fit", None)) and callable(getattr(made, "predict", None))):
        raise InputError(
            f"{name} must return a regressor with fit and predict, such as "
            f"sklearn.linear_model.Ridge(), got a {type(made).__name__}"
        )
    return lambda: Estimator(name, make)


MODELS: dict[str, Callable[[], Model]] = {  # the simplest first
    Mean.name: Mean,
    Nearest.name: Nearest,
    Gaussian.name: Gaussian,
    "random forest": lambda: Estimator("random forest", forest),
    "gradient boosting": lambda: Estimator("gradient boosting", boosting),
}

"""A model of measurements that says how sure it is, where it may be asked, and what is near."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from gfn_design.errors import InputError
from gfn_design.files.measured import Kind
from gfn_design.files.whole import whole_files
from gfn_design.proxies.calibration import Calibration
from gfn_design.proxies.inputs import Inputs, Reference
from gfn_design.proxies.models import MODELS, NETWORKS, Estimator, Floats, Model

FORMAT = "gfn-design proxy 1"


class Prediction(NamedTuple):
    """What a proxy says of objects, an entry for each.

    Attributes:
        mean: Expected of a measurement.
        low: Of the interval that holds 80 of 100 measurements, as held-out groups had it.
        high: Of the same.
        similarity: To the nearest measured object, from 0 to 1.
        nearest: Its place among the measured ones, ``int64[n]``.
    """

    mean: Floats
    low: Floats
    high: Floats
    similarity: Floats
    nearest: NDArray[np.int64]


class About(NamedTuple):
    """What is known of a proxy besides its model.

    Attributes:
        kind: Of the objects.
        quantity: What the numbers are called.
        strands: ``both`` or ``given``, of DNA.
        source: The file it was learned from.
        sha256: Of that file's content.
        model: The name of the first model.
        second: The name of the second.
        figures: By name, such as ``r2`` and ``coverage`` on held-out groups.
        calibration: See `Calibration`.
        texts: The measured objects.
        names: Theirs.
        values: What was measured.
        limits: -1, 0 or 1 for each.
    """

    kind: Kind
    quantity: str
    strands: str
    source: str
    sha256: str
    model: str
    second: str
    figures: dict[str, float]
    calibration: dict[str, float]
    texts: list[str]
    names: list[str]
    values: list[float]
    limits: list[int]


class Proxy:
    """Predicts a measured quantity of objects that were not measured.

    Args:
        about: What is known of it.
        model: The first model.
        second: Another one, which reads other things; it judges what the first one led to.
    """

    def __init__(self, about: About, model: Model, second: Model) -> None:
        self.about, self.model, self.second = about, model, second
        self.calibration = Calibration(**about.calibration)
        self._reference = Reference(self._inputs(about.texts).counts)

    def _inputs(self, texts: Sequence[str], second: bool = False) -> Inputs:
        return Inputs(self.about.kind, texts, self.about.strands, second)

    def predict(self, texts: Sequence[str]) -> Prediction:
        """What a measurement of each would give, and how near the measured ones are.

        Raises:
            InputError: A text is no such object.
        """
        inputs = self._inputs(texts)
        mean, spread = self.model.predict(inputs)
        half = self.calibration.half_width(spread)
        alike = self._reference.similarity(inputs.counts)
        near = alike.max(1).astype(np.float64)
        return Prediction(mean, mean - half, mean + half, near, alike.argmax(1))

    def second_opinion(self, texts: Sequence[str]) -> Floats:
        """What the second model expects of a measurement of each."""
        return self.second.predict(self._inputs(texts, second=True)).mean

    @property
    def edge(self) -> float:
        """The similarity below which an object is outside the domain."""
        return self.calibration.edge

    def save(self, path: Path) -> None:
        """Write one file of tensors and JSON, which runs nothing when it is read.

        Raises:
            InputError: It cannot be written.
        """
        from safetensors.numpy import save_file

        tensors = {
            f"{name}.{key}": np.ascontiguousarray(array)
            for name, model in (("model", self.model), ("second", self.second))
            for key, array in model.state().items()
        }
        about = {"format": FORMAT, "about": json.dumps(self.about._asdict())}
        with whole_files(path.parent) as part:
            save_file(tensors, part / path.name, about)


def load_proxy(path: Path) -> Proxy:
    """Read what `Proxy.save` wrote.

    Raises:
        InputError: It is no such file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(
            f"{path}: no such file; `gfn-design proxy` writes one (if it was moved, "
            "put it back, or mend its path in the configuration)"
        )
    try:
        with safe_open(path, framework="np") as file:
            about, tensors = (
                file.metadata() or {},
                {k: file.get_tensor(k) for k in list(file.keys())},
            )
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: is no proxy, or is torn; `gfn-design proxy` writes one"
        ) from error
    if about.get("format") != FORMAT:
        raise InputError(f"{path}: is no proxy; `gfn-design proxy` writes one")
    known = About(**cast(dict[str, Any], json.loads(about["about"])))
    models = []
    for name, which in (("model", known.model), ("second", known.second)):
        prefix = f"{name}."
        if which not in (*MODELS, NETWORKS) and f"{prefix}estimator" not in tensors:
            raise InputError(f"{path}: holds a model of an unknown kind, '{which}'")
        model = _new(which)
        try:
            model.load({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: its {which} is not whole ({error})") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        models.append(model)
    return Proxy(known, *models)


def _new(name: str) -> Model:
    """A model that has learned nothing."""
    if name == NETWORKS:
        from gfn_design.proxies.networks import Networks  # late: it brings Lightning

        return Networks()
    return MODELS[name]() if name in MODELS else Estimator(name, lambda: None)

"""What became of what was drawn: how many there were, were distinct, as wanted, picked."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gfn_design.errors import InputError
from gfn_design.results.candidates import Draw, texts_of

if TYPE_CHECKING:
    from gfn_design.designer import Designer

FILE = "drawn.json"


class Funnel(NamedTuple):
    """From draws to what was picked.

    Attributes:
        draws: How many objects were drawn, in all.
        valid: How many of these the environment does not reject.
        distinct: How many of them were kept as distinct.
        in_domain: Of the distinct ones, similar enough to measured ones for a proxy; None without
            one.
        as_wanted: Of the distinct ones, as wanted in all terms; None if nothing says what is.
        picked: How many were written.
        seed: Of the draws.
        scores: Of all distinct ones, best first.
        texts: The same objects, as proxies read them.
    """

    draws: int
    valid: int
    distinct: int
    in_domain: int | None
    as_wanted: int | None
    picked: int
    seed: int
    scores: list[float]
    texts: list[str]

    @classmethod
    def of(
        cls,
        drawn: Draw,
        module: "Designer",
        picked: int,
        seed: int,
    ) -> "Funnel":
        """By what was drawn.

        Args:
            drawn: All distinct ones.
            module: That drew them.
            picked: How many of them are kept.
            seed: Of the draws.
        """
        environment, data = module.environment, module.data
        candidates, draws, rejected = drawn
        texts = texts_of(candidates)
        inside = wanted = None
        if candidates:
            objects = environment.encode([c.text for c in candidates]).to(module.device)
            good = data.as_wanted(environment, objects)
            wanted = None if good is None else int(good.sum())
        predictors = getattr(data, "predictors", [])
        if predictors and texts:
            proxy = predictors[0].proxy
            inside = int((proxy.predict(texts).similarity >= proxy.edge).sum())
        scores = [c.score for c in candidates]
        return cls(
            draws, draws - rejected, len(candidates), inside, wanted, picked, seed, scores, texts
        )

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(self._asdict()), encoding="utf-8")


def read_funnel(folder: Path) -> Funnel | None:
    """What a folder of candidates says; None if it does not.

    Raises:
        InputError: What it says cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return Funnel(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); draw again") from error

"""One thing that is wanted of molecules: a property, a function, a program, a proxy."""

import math
from collections.abc import Callable
from collections.abc import Sequence as Numbers
from dataclasses import dataclass

from gfn_design.errors import InputError
from gfn_design.rewards.desirability import Desirability, desirability
from gfn_design.rewards.properties import property_name, usual_want
from gfn_design.rewards.proxy_values import Use, column_of, quantity_of, use_of
from gfn_design.rewards.sources import name_of


@dataclass(frozen=True)
class Term:
    """One thing that is wanted: a property, a function of one's own, or a program, and its ramp.

    Args:
        property: Such as QED, SA, logP, TPSA, PAINS, BRENK, similarity, seh, any RDKit descriptor.
        want: Such as ``2..4``, ``>= 0.6``, ``<= 3 within 0.5``, ``maximise 4..8``, ``/ 8``; QED,
            similarity, seh and alerts need none.
        weight: In the mean over all terms.
        reference: SMILES of the molecule that similarity compares with.
        function: Instead of a property: from a list of SMILES to one number each.
        command: Instead of a property: a program that reads SMILES, one a line, and writes numbers.
        proxy: Instead of a property: the file of a model of measurements, which `gfn-design proxy`
            wrote.
        use: Of a proxy: ``bound``, the cautious end of the interval that holds 80 of 100
            measurements; its ``low``, ``mean`` or ``high``; or ``similarity`` to the nearest
            measured molecule.
        domain: Of a proxy: also want molecules similar enough to measured ones for it to be asked.
        name: Of the term in files; None takes that of the property, the function, ...
    """

    property: str | None = None
    want: str | None = None
    weight: float = 1.0
    reference: str | None = None
    function: Callable[[list[str]], Numbers[float]] | None = None
    command: str | None = None
    proxy: str | None = None
    use: Use = "bound"
    domain: bool = True
    name: str | None = None

    def __post_init__(self) -> None:
        kinds = (self.property, self.function, self.command, self.proxy)
        if sum(x is not None for x in kinds) != 1:
            raise InputError("a term needs one of property, function, command and proxy")
        if self.proxy is None and (self.use, self.domain) != ("bound", True):
            raise InputError("'use' and 'domain' go with a proxy")
        title = self.title()
        if self.reference is not None and (self.property or "").lower() != "similarity":
            raise InputError(f"a reference goes with similarity, not with {title}")
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise InputError(f"the weight of {title} must be positive, got {self.weight}")
        self.desirability()

    def title(self) -> str:
        """What the term is called."""
        if self.name is not None:
            return self.name
        if self.property is not None:
            return property_name(self.property)
        if self.function is not None:
            return name_of(self.function).rpartition(":")[2]
        if self.proxy is not None:
            return column_of(quantity_of(self.proxy), use_of(self.use, self.want or ">= 0"))
        return str(self.command).split()[0]

    def wanted(self) -> str:
        """What is wanted, in words, if only by the property's name.

        Raises:
            InputError: Nothing is.
        """
        usual = usual_want(property_name(self.property)) if self.property is not None else None
        if (want := self.want or usual) is None:
            raise InputError(
                f"say what is wanted of {self.title()}, as in want: '2..4', '>= 0.6' or "
                "'maximise 4..8'"
            )
        return want

    def desirability(self) -> Desirability:
        """From values of the term to numbers that rise with how good they are.

        Raises:
            InputError: Nothing is said of what is wanted, or nothing that is understood.
        """
        want = self.wanted()
        try:
            return desirability(want)
        except InputError as error:
            raise InputError(f"want of {self.title()}: {error}") from error

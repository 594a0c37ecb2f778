"""Properties of molecules by name: RDKit's descriptors, alerts, similarity, the sEH proxy."""

import difflib
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from gfn_design.errors import InputError
from gfn_design.rewards.answers import ScoringError

if TYPE_CHECKING:
    from rdkit.Chem import Mol
    from rdkit.Chem.FilterCatalog import FilterCatalog

    from gfn_design.rewards.seh import SEHProxy

# The usual names of chemists, and RDKit's.
SYNONYMS = {
    "logP": "MolLogP",
    "MW": "MolWt",
    "rings": "RingCount",
    "aromatic_rings": "NumAromaticRings",
    "rotatable_bonds": "NumRotatableBonds",
    "heavy_atoms": "HeavyAtomCount",
    "HBD": "NumHDonors",
    "HBA": "NumHAcceptors",
    "Fsp3": "FractionCSP3",
}
PROXIES = {"seh": False, "seh_transposed": True}  # whether the root matrix is transposed
REPORTED = ("PAINS", "BRENK")  # catalogues that reports name the alerts of
USUAL = {"QED": "/ 1", "similarity": "/ 1"} | dict.fromkeys(PROXIES, "/ 8")
NO_ALERTS = "<= 0 within 1"


class Property(NamedTuple):
    """What is computed of a molecule.

    Attributes:
        name: As `property_name` gives it.
        reference: SMILES of the molecule that ``similarity`` compares with; else empty.
    """

    name: str
    reference: str = ""


@cache
def known() -> tuple[str, ...]:
    """The names of all properties: ours, those of alert catalogues, and RDKit's descriptors."""
    from rdkit.Chem import Descriptors

    descriptors = [name for name, _ in Descriptors.descList if name != "qed"]
    return ("QED", "SA", "similarity", *PROXIES, *catalogues(), *SYNONYMS, *descriptors)


@cache
def catalogues() -> tuple[str, ...]:
    """The alert catalogues that RDKit has."""
    from rdkit.Chem.FilterCatalog import FilterCatalogParams

    return tuple(FilterCatalogParams.FilterCatalogs.names)


def property_name(name: str) -> str:
    """The name as we write it, whatever its case.

    Raises:
        InputError: There is no such property.
    """
    names = {x.lower(): x for x in known()}
    if name.lower() not in names:
        near = difflib.get_close_matches(name.lower(), names, n=3)
        hint = f"; did you mean {' or '.join(names[x] for x in near)}?" if near else ";"
        raise InputError(
            f"there is no property '{name}'{hint} There are {', '.join(known()[:5])}, the alert "
            f"catalogues (PAINS, BRENK, ...), {', '.join(SYNONYMS)}, and RDKit's descriptors"
        )
    return names[name.lower()]


def usual_want(name: str) -> str | None:
    """What is wanted of a property if nothing is said, where that is clear."""
    return NO_ALERTS if name in catalogues() else USUAL.get(name)


class PropertyValues:
    """The values of several properties, of SMILES.

    Units are RDKit's: Da (MW), A^2 (TPSA), counts; QED is 0 to 1, SA 1 (easy to make) to 10, a
    similarity 0 to 1 (Tanimoto, Morgan fingerprints of radius 2 with 2,048 bits), a catalogue the
    number of alerts hit. SA is RDKit's own script, and its numbers may change with RDKit.

    Args:
        properties: A `Property` each, or a pair of its name and reference.

    Raises:
        InputError: A property is unknown, or a reference no molecule.
    """

    def __init__(self, properties: Sequence[Sequence[str]]) -> None:
        self.properties = [Property(property_name(name), *rest) for name, *rest in properties]
        self._functions = [None if p.name in PROXIES else _function(p) for p in self.properties]
        self._proxies: dict[str, SEHProxy] = {}

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """One number for each property, of each of `texts`."""
        molecules = [molecule(text) for text in texts]
        columns: list[list[float]] = []
        for (name, _), function in zip(self.properties, self._functions, strict=True):
            if function is None:
                columns.append(self._proxy(name)(molecules).tolist())
            else:
                columns.append([_value(name, function, x) for x in molecules])
        return [list(row) for row in zip(*columns, strict=True)]

    def _proxy(self, name: str) -> "SEHProxy":
        if name not in self._proxies:
            from gfn_design.rewards.seh import SEHProxy

            self._proxies[name] = SEHProxy(transposed=PROXIES[name])
        return self._proxies[name]


def _value(name: str, function: Callable[["Mol"], float], given: "Mol") -> float:
    try:
        return float(function(given))
    except Exception as error:  # RDKit raises what it likes
        raise ScoringError(f"cannot compute {name} ({type(error).__name__}: {error})") from error


def molecule(smiles: str) -> "Mol":
    """What RDKit reads in a SMILES.

    Raises:
        ScoringError: Nothing.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        found = Chem.MolFromSmiles(smiles)
    if found is None:
        raise ScoringError("reads no molecule")
    return found


def _function(wanted: Property) -> Callable[["Mol"], float]:
    from rdkit.Chem import Descriptors

    name = wanted.name
    if name == "SA":
        from rdkit.Contrib.SA_Score import sascorer

        return sascorer.calculateScore
    if name == "similarity":
        return _similarity(wanted.reference)
    if name in catalogues():
        catalogue = _catalogue(name)
        return lambda x: len(catalogue.GetMatches(x))
    descriptors = dict(Descriptors.descList)
    return descriptors["qed" if name == "QED" else SYNONYMS.get(name, name)]


def _similarity(reference: str) -> Callable[["Mol"], float]:
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator
    from rdkit.DataStructs import TanimotoSimilarity

    if not reference:
        raise InputError("similarity needs a reference, the SMILES of a molecule to compare with")
    generator = GetMorganGenerator(radius=2, fpSize=2048)
    try:
        print_of = generator.GetFingerprint(molecule(reference))
    except ScoringError as error:
        raise InputError(
            f"RDKit {error} in the reference '{reference}'; mend the SMILES"
        ) from error
    return lambda x: TanimotoSimilarity(generator.GetFingerprint(x), print_of)


@cache
def _catalogue(name: str) -> "FilterCatalog":
    from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

    parameters = FilterCatalogParams()
    parameters.AddCatalog(FilterCatalogParams.FilterCatalogs.names[name])
    return FilterCatalog(parameters)


def alerts(smiles: str, names: Sequence[str] = REPORTED) -> list[str]:
    """The alerts that a molecule hits, as in ``PAINS: quinone_A(370)``."""
    given = molecule(smiles)
    return [
        f"{name}: {hit.GetDescription()}"
        for name in names
        for hit in _catalogue(name).GetMatches(given)
    ]

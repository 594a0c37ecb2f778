"""Which ends of fragments chemistry joins: the link types of BRICS."""

from functools import cache

Links = frozenset[int]  # types that an end may have; empty fits everything


@cache
def fitting() -> frozenset[tuple[int, int]]:
    """Pairs of BRICS types between which there are rules (Degen et al. 2008), as RDKit has them.

    7 and 7 is a double bond, which fragments are not joined by.
    """
    from rdkit.Chem import BRICS

    pairs = {
        (int("".join(filter(str.isdigit, one))), int("".join(filter(str.isdigit, other))))
        for rules in BRICS.reactionDefs
        for one, other, _ in rules
    }
    return frozenset({*pairs, *((b, a) for a, b in pairs)} - {(7, 7)})


def fit(one: Links, other: Links) -> bool:
    """Whether two ends may be joined."""
    if not one or not other:
        return True
    return any((a, b) in fitting() for a in one for b in other)


def written(links: tuple[Links, ...]) -> str:
    """Link types as a text: of each point those of its atom, such as ``5 8+16``."""
    return " ".join("+".join(map(str, sorted(types))) or "0" for types in links)


def read(text: str) -> tuple[Links, ...]:
    """What `written` wrote.

    Raises:
        ValueError: It is no such text.
    """
    found = [frozenset(int(x) for x in word.split("+") if int(x)) for word in text.split()]
    if any(not 0 < x <= 16 for types in found for x in types):
        raise ValueError("link types are numbers from 1 to 16, 0 for any")
    return tuple(found)

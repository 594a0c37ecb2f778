"""Candidates in files that other tools open."""

from pathlib import Path
from typing import TYPE_CHECKING

from gfn_design.environments.base import Environment
from gfn_design.errors import InputError
from gfn_design.files.objects import read_molecules, write_aside
from gfn_design.files.seals import write_seal
from gfn_design.files.tables import write_table
from gfn_design.files.whole import whole_files

if TYPE_CHECKING:
    from gfn_design.designer import Designer
from gfn_design.results.candidates import Candidate, smiles_of
from gfn_design.results.changes import change_of_molecules, change_of_sequences
from gfn_design.results.drawn import FILE, Funnel

PICTURED = 24  # molecules in a picture, at most
CAPTIONED = 2  # terms below each, at most
CHANGES = 100  # designs of which it is told what they change, at most; each takes a second


def write_candidates(
    candidates: list[Candidate],
    module: "Designer",
    folder: Path,
    reference: Path | None = None,
    column: str | None = None,
    funnel: Funnel | None = None,
) -> list[Path]:
    """Write ``candidates.csv``, and what else such objects are usually kept in.

    Sequences of letters go to ``candidates.fasta``; molecules to ``candidates.smi``,
    ``candidates.sdf`` (with all columns as properties) and a picture of the first, and have columns
    that describe them (see `gfn_design.results.molecules`). The data may have columns of its own.
    All files take their places together, when all are on the disk.

    Args:
        candidates: In the order in which they are written.
        module: That drew them.
        folder: Made if missing.
        reference: A file of known molecules, of which the nearest is told.
        column: Of the reference, that of SMILES; None finds it.
        funnel: What they were chosen from, for ``drawn.json``.

    Returns:
        The files.

    Raises:
        InputError: They cannot be written; or the reference cannot be read, or is given where
            objects are no molecules.
    """
    with whole_files(folder) as part:
        files = write_into(part, candidates, module, reference, column)
        if funnel is not None:
            files.append(part / FILE)
            funnel.write(files[-1])
            if getattr(module.data, "predictors", []):
                files.append(write_seal(part))
    return [folder / file.name for file in files]


def write_into(
    folder: Path,
    candidates: list[Candidate],
    module: "Designer",
    reference: Path | None = None,
    column: str | None = None,
) -> list[Path]:
    """What `write_candidates` writes, into a folder that is there."""
    environment, texts = module.environment, [c.text for c in candidates]
    more, smiles = module.data.columns(environment, texts), smiles_of(candidates, module)
    terms = [name for name in more if name != "smiles"][:CAPTIONED]
    if reference is not None and smiles is None:
        raise InputError(f"{reference}: a reference is for molecules, which these are not")
    if smiles is not None:
        from gfn_design.results.molecules import describe

        known = None if reference is None else read_molecules(reference, column)
        more = {"smiles": smiles} | more | describe(smiles, known and known.rows)
    if len(candidates) <= CHANGES:
        more |= changes(module, [text or "" for text in smiles] if smiles else texts)
    if environment.molecules:
        more["path"] = [c.path or "" for c in candidates]
    names = {"rank": [str(c.rank) for c in candidates]}
    if not (environment.molecules and type(environment).smiles is Environment.smiles):
        names["sequence" if environment.symbols else "object"] = texts
    table = names | environment.columns(texts) | more | _numbers(candidates)
    files = [folder / "candidates.csv"]
    write_table(files[0], table)
    if smiles is not None and known is not None and known.aside:
        files.append(folder / "reference_set_aside.csv")
        write_aside(known.aside, files[-1])
    if environment.lettered:
        files.append(folder / "candidates.fasta")
        lines = (f">candidate_{c.rank} reward={c.reward:.6g}\n{c.text}\n" for c in candidates)
        files[-1].write_text("".join(lines))
    if smiles:
        files += _write_molecules(folder, candidates, smiles, table, terms)
    return files


def changes(module: "Designer", texts: list[str]) -> dict[str, list[str]]:
    """What designs have in place of what the measured object nearest to them has, as columns."""
    found: dict[str, list[str]] = {}
    for proxy, _, name, _ in getattr(module.data, "predictors", []):
        nearest = proxy.predict(texts).nearest.tolist() if texts else []
        others = [proxy.about.texts[i] for i in nearest]
        column = f"{name}_change"
        if proxy.about.kind == "molecules":
            from rdkit.Chem import MolFromSmiles

            pairs = [
                (MolFromSmiles(a), MolFromSmiles(b)) for a, b in zip(texts, others, strict=True)
            ]
            found[column] = [change_of_molecules(*pair).words for pair in pairs]
        else:
            pairs_of_texts = zip(texts, others, strict=True)
            found[column] = [change_of_sequences(*pair) for pair in pairs_of_texts]
    return found


def _write_molecules(
    folder: Path,
    candidates: list[Candidate],
    smiles: list[str],
    table: dict[str, list[str]],
    terms: list[str],
) -> list[Path]:
    from gfn_design.results.molecules import draw_grid, write_sdf

    smi, sdf, png = (folder / f"candidates.{kind}" for kind in ("smi", "sdf", "png"))
    lines = (f"{text} candidate_{c.rank}\n" for text, c in zip(smiles, candidates, strict=True))
    smi.write_text("".join(lines))
    write_sdf(sdf, smiles, table)
    legends = [
        ", ".join(
            [
                f"{c.rank}: score {c.score:.3g}",
                *(f"{name} {_short(table[name][i])}" for name in terms),
            ]
        )
        for i, c in enumerate(candidates[:PICTURED])
    ]
    png.write_bytes(draw_grid(smiles[:PICTURED], legends))
    return [smi, sdf, png]


def _numbers(candidates: list[Candidate]) -> dict[str, list[str]]:
    """The columns that every candidate has."""
    table = {
        name: [f"{getattr(c, name):.6g}" for c in candidates]
        for name in ("score", "reward", "log_reward", "log_probability")
    }
    return table | {"draws": [str(c.draws) for c in candidates]}


def _short(number: str) -> str:
    """A number as it fits below a picture."""
    try:
        return f"{float(number):.3g}"
    except ValueError:
        return number

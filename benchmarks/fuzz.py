"""Give the package broken input of every kind, and see that each is answered by one sentence.

Usage: python benchmarks/fuzz.py [N] [--seed S] [--kind KIND]   (default: 5000 inputs of all kinds)

Configurations, options, tables, SMILES, fragment files, checkpoints and motif files are made from
good ones by small and by gross changes. An input may turn out to be good; one that is not must
raise `InputError` with a message of one line, or make the command end with exit code 2 and such a
line.
What else happens is printed with the input, and the exit code is 1.
"""

import argparse
import contextlib
import io
import json
import random
import string
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

from gfn_design.__main__ import main as command
from gfn_design.environments.molecules.atoms import Atoms
from gfn_design.environments.molecules.fragments import Fragments
from gfn_design.environments.molecules.mining import mine_file
from gfn_design.environments.molecules.selfies import Selfies
from gfn_design.environments.molecules.vocabulary import read_vocabulary
from gfn_design.errors import InputError
from gfn_design.files.checkpoints import load_checkpoint
from gfn_design.files.kmer_tables import kmer_scores
from gfn_design.files.objects import read_molecules, read_texts
from gfn_design.rewards.jaspar import jaspar_motif, read_motif
from gfn_design.runs import train

LONGEST = 1500  # letters of a message
CONFIG = {
    "model": {
        "environment": {"class_path": "Sequence", "init_args": {"alphabet": "DNA", "length": 3}},
        "objective": {"class_path": "TrajectoryBalance", "init_args": {"log_z": 0.0}},
        "networks": {"network": {"class_path": "MLP", "init_args": {"width": 8, "depth": 1}}},
        "batches": {"size": 4, "replay": {"class_path": "Replay", "init_args": {"size": 4}}},
    },
    "data": {"class_path": "MotifData", "init_args": {"factor": "FOXA1", "exponent": 0.75}},
    "candidates": 5,
    "trainer": {"max_steps": 2, "accelerator": "cpu", "callbacks": None},
}
ODD = [
    "2024-01-01", "!!python/object/apply:os.system [ls]", "!!binary aGk=", "!!set {a, b}", ".nan",
    ".inf", "-1", "0", "1e400", "9" * 400, "'a\nb'", "[]", "{}", "null", "true", "[[[]]]",
    "&a [*a]", "!!timestamp x", "\x00", "'\u202e'", "é" * 300, "0x1F",
    "{class_path: os.system}", "[1, 2",
    "{class_path: Sequence, init_args: 3}", "'" + "x" * 5000 + "'", "!x y", "? a", "- - - -",
    "{a: {b: {c: {d: {}}}}}", "{class_path: 7}", "nowhere.py:Thing", "gfn_design.nothing.At",
]  # fmt: skip
SMILES = [
    "CC(=O)Nc1ccc(O)cc1", "C1CC1", "[*]c1ccccc1", "C[N+](C)(C)C", "c1ccc2[nH]ccc2c1", "OC(=O)C#N",
    "[Na+].[Cl-]", "F/C=C/F", "[13CH4]", "C1CCC2(CC1)OCCO2",
]  # fmt: skip
TABLE = "name,smiles,IC50 (nM)\n" + "".join(f"m{i},{s},{i}\n" for i, s in enumerate(SMILES))
KMERS = "sequence,score\n" + "".join(
    f"{a}{b},{i}\n" for i, (a, b) in enumerate((a, b) for a in "ACGT" for b in "ACGT")
)
FRAGMENTS = "smiles,points,entry,links\nc1ccccc1,0 3,,16 16\nCN,1,,5\nCC=O,1,1,\n"
MOTIF = ">MA1 OWN\nA [ 1 2 3 ]\nC [ 4 5 6 ]\nG [ 7 8 9 ]\nT [ 1 1 1 ]\n"


def garbled(text: str, random_: random.Random) -> str:
    """A text with some letters changed, lost, doubled, or with something odd in it."""
    letters = list(text)
    for _ in range(random_.randint(1, 4)):
        place = random_.randrange(len(letters) + 1)
        what = random_.randrange(6)
        if what == 0 and letters:
            del letters[place : place + random_.randint(1, 30)]
        elif what == 1:
            letters.insert(place, random_.choice(string.printable))
        elif what == 2:
            letters.insert(place, random_.choice(ODD))
        elif what == 3 and letters:
            letters[place : place + 1] = random_.choice("()[]{}:,;'\"\\#@=+-\n\t\x00é\ufeff")
        elif what == 4:
            letters = letters[:place]
        else:
            letters += letters[place:]
    return "".join(letters)


def broken_bytes(content: bytes, random_: random.Random) -> bytes:
    """Bytes with some changed, or cut."""
    changed = bytearray(content)
    for _ in range(random_.randint(0, 6)):
        if changed:
            changed[random_.randrange(len(changed))] = random_.randrange(256)
    return bytes(changed[: random_.randint(0, len(changed))] if random_.random() < 0.5 else changed)


def places(section: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path] if path else []
    if isinstance(section, dict):
        for name, item in section.items():
            found += places(item, (*path, str(name)))
    return found


class Fuzz:
    """Makes inputs of each kind, and gives them to what reads them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.refused = 0  # commands that ended with exit code 2
        config = folder / "good.yaml"
        config.write_text(yaml.safe_dump(CONFIG))
        with contextlib.redirect_stdout(io.StringIO()):
            assert command(["fit", "--config", str(config), "--output", str(folder / "good")]) == 0
        self.checkpoint = (folder / "good" / "checkpoints" / "last.ckpt").read_bytes()
        self.environments = [
            Fragments(max_blocks=3), Selfies(max_length=6), Atoms(max_atoms=4)
        ]  # fmt: skip

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.unlink(missing_ok=True)
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogatepass")
        path.write_bytes(content)
        return path

    def configuration(self) -> str:
        text = yaml.safe_dump(CONFIG)
        if self.random.random() < 0.5:
            text = garbled(text, self.random)
        else:
            place = self.random.choice(places(CONFIG))
            nested = yaml.safe_load(text)
            inner = nested
            for name in place[:-1]:
                inner = inner[name]
            inner[place[-1]] = "PLACE"
            text = yaml.safe_dump(nested).replace("PLACE", self.random.choice(ODD))
        if self.random.random() < 0.02:
            text = "[" * self.random.randint(100, 5000) + text
        path = self.file("c.yaml", text)
        self.called("fit", "--config", str(path), "--output", str(self.folder / "out"))
        return text

    def option(self) -> str:
        flags = []
        for _ in range(self.random.randint(1, 3)):
            name = ".".join(self.random.choice(places(CONFIG)))
            name = garbled(name, self.random) if self.random.random() < 0.3 else name
            flags += [f"--{name}", self.random.choice([*ODD, "3", "x", ""])]
        given = ["fit", "--config", str(self.folder / "good.yaml"), "--output", "out", *flags]
        if self.random.random() < 0.2:
            self.random.shuffle(given)
        self.called(*given)
        return repr(given)

    def called(self, *arguments: str) -> None:
        """A command that builds everything and trains nothing."""
        said = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            code = command([*arguments])
        self.refused += code == 2
        lines = [line for line in said.getvalue().splitlines() if line.startswith("gfn-design:")]
        if code not in (0, 2) or (code == 2 and (len(lines) != 1 or len(lines[0]) > LONGEST)):
            raise AssertionError(f"exit code {code}, said: {said.getvalue()[-2000:]}")
        if code == 2 and said.getvalue().rstrip().splitlines()[-1] != lines[0]:
            raise AssertionError(f"more than one line: {said.getvalue()[-2000:]}")

    def table(self) -> str:
        text = garbled(self.random.choice([TABLE, KMERS]), self.random)
        encoding = self.random.choice(["utf-8", "utf-16", "cp1252", "utf-16-le"])
        content = text.encode(encoding, "replace")
        if self.random.random() < 0.2:
            content = broken_bytes(content, self.random)
        path = self.file(self.random.choice(["t.csv", "t.tsv", "t.smi", "t.csv.gz"]), content)
        self.random.choice([read_molecules, read_texts, kmer_scores, mine_file])(path)
        return repr(content)

    def smiles(self) -> str:
        text = garbled(self.random.choice(SMILES), self.random)
        if self.random.random() < 0.3:
            Fragments([text, "[*]C"], max_blocks=2)
        elif self.random.random() < 0.3:
            Fragments(max_blocks=2, core=text)
        elif self.random.random() < 0.3:
            Fragments(max_blocks=2, forbidden=[text])
        else:
            self.random.choice(self.environments).encode([text])
        return text

    def fragments(self) -> str:
        text = garbled(FRAGMENTS, self.random)
        if self.random.random() < 0.4:
            entries = [{"smiles": "c1ccccc1", "points": [0, 3]}, {"smiles": "CN", "points": [1]}]
            text = garbled(json.dumps(entries), self.random)
        path = self.file(self.random.choice(["f.csv", "f.json", "f.smi"]), text)
        Fragments(read_vocabulary(path), max_blocks=2)
        return text

    def checkpoint_file(self) -> str:
        content = broken_bytes(self.checkpoint, self.random)
        path = self.file("good/checkpoints/last.ckpt", content)
        try:
            load_checkpoint(path)
            self.called("evaluate", str(self.folder / "good"))
        finally:
            path.write_bytes(self.checkpoint)
        return f"{len(content)} bytes"

    def motif(self) -> str:
        text = garbled(MOTIF, self.random)
        if self.random.random() < 0.5:
            jaspar_motif(garbled("FOXA1", self.random))
        else:
            read_motif(self.file("m.jaspar", text))
        return text


KINDS: dict[str, Callable[[Fuzz], str]] = {
    "configuration": Fuzz.configuration,
    "option": Fuzz.option,
    "table": Fuzz.table,
    "SMILES": Fuzz.smiles,
    "fragment file": Fuzz.fragments,
    "checkpoint": Fuzz.checkpoint_file,
    "motif": Fuzz.motif,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("n", nargs="?", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    done, refused, failed = Counter[str](), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(Path(folder), options.seed)
        train.fit = lambda config, to: train.prepare(config, Path(to)) and sys.exit(99)  # type: ignore
        kinds = [options.kind] if options.kind else list(KINDS)
        for i in range(options.n):
            kind = kinds[i % len(kinds)]
            done[kind] += 1
            before = fuzz.refused
            try:
                KINDS[kind](fuzz)
            except InputError as error:
                refused[kind] += 1
                if "\n" in str(error) or len(str(error)) > LONGEST:
                    failed[kind] += 1
                    print(f"--- {kind} {i}: not one line: {str(error)[:500]!r}")
            except SystemExit as stopped:
                if stopped.code != 99:  # it was good, and would have been trained
                    failed[kind] += 1
                    print(f"--- {kind} {i}: ended with {stopped.code}")
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                failed[kind] += 1
                print(f"--- {kind} {i}: {type(error).__name__}: {str(error)[:300]}")
                traceback.print_exc(limit=-3)
            refused[kind] += fuzz.refused - before
    print("| kind | inputs | refused by a sentence | failed |\n|---|---|---|---|")
    for kind in done:
        print(f"| {kind} | {done[kind]:,} | {refused[kind]:,} | {failed[kind]} |")
    return 1 if failed.total() else 0


if __name__ == "__main__":
    sys.exit(main())

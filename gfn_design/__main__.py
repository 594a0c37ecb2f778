"""The command ``gfn-design``: a thin front that checks everything before torch is imported."""

import argparse
import errno
import os
import sys
import time
import warnings
from pathlib import Path
from typing import NoReturn

from gfn_design.errors import InputError

EPILOG = """\
examples:
  gfn-design demo
  gfn-design demo molecules
  gfn-design fit --config configs/six6/rl_u.yaml --output runs/six6
  gfn-design fit --config configs/six6/rl_u.yaml --trainer.max_steps 500 --model.batch_size=64
  gfn-design finetune runs/six6 --data.table pax6
  gfn-design sample runs/six6 -n 1000
  gfn-design evaluate runs/six6
  gfn-design compare --config configs/compare/demo.yaml
"""


OF_THE_MACHINE = {  # what a person mends outside of this program
    getattr(errno, name)
    for name in (
        "ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "ENAMETOOLONG", "EFBIG", "EMFILE", "ENFILE",
        "EIO", "ENOTDIR", "EISDIR", "ELOOP", "ESTALE", "ENODEV", "ENXIO", "EBUSY", "ENOMEM",
    )
    if hasattr(errno, name)
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """An argument parser that answers a mistake with one sentence."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def parser() -> Parser:
    """Every command and its options."""
    top = Parser(
        prog="gfn-design",
        description="Design molecules and biological sequences with GFlowNets.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, **options: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=text,
            description=text,
            allow_abbrev=False,
            **options,  # type: ignore[arg-type]
        )

    fit = add("fit", "train a GFlowNet into a folder; on the same folder, go on")
    fit.add_argument(
        "--config",
        type=Path,
        action="append",
        metavar="FILE",
        help="configuration; of several, later ones win",
    )
    fit.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="the run's folder (default: runs/<name of the configuration>)",
    )
    fit.add_argument("--seed", type=int, help="of networks and draws (default: the config's, or 0)")
    fit.add_argument("--checkpoint_every", type=int, metavar="N", help="batches (default: 500)")
    fit.add_argument("--keys", action="store_true", help="list the configuration's keys and stop")
    fit.epilog = "any key of the configuration can be given too, as in --trainer.max_steps 100"

    finetune = add("finetune", "train the policy of a run on a new reward, into a new folder")
    finetune.add_argument("run", type=Path, metavar="RUN", help="a folder that fit wrote")
    finetune.add_argument(
        "--config",
        type=Path,
        action="append",
        metavar="FILE",
        help="with a data section, say; what it leaves out is as in RUN",
    )
    finetune.add_argument(
        "--way",
        choices=("all", "last", "anchored"),
        default="all",
        help="train all layers, the last ones, or all towards prior times reward (default: all)",
    )
    finetune.add_argument(
        "--known",
        type=Path,
        metavar="FILE",
        help="good objects to learn from: CSV, SMI, FASTA, text",
    )
    finetune.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="of the new run (default: runs/<RUN>-finetuned-<task>); on the same folder, go on",
    )
    finetune.add_argument("--seed", type=int, help="of networks and draws (default: RUN's)")
    finetune.add_argument(
        "--checkpoint_every", type=int, metavar="N", help="batches (default: 500)"
    )
    finetune.epilog = (
        "the new reward is given as --data KmerData --data.table pax6, and any other key but "
        "environment and networks can be given too, as in --model.lr 3e-4"
    )

    sample = add("sample", "draw distinct candidates from a run, best first")
    sample.add_argument("run", type=Path, metavar="RUN", help="a folder that fit wrote")
    sample.add_argument("-n", type=int, default=1000, help="distinct candidates (default: 1000)")
    sample.add_argument("--seed", type=int, default=0, help="another one draws others")
    sample.add_argument(
        "--output", type=Path, metavar="FOLDER", help="default: the next RUN/sample-<number>"
    )
    sample.add_argument(
        "--overwrite", action="store_true", help="replace the candidates that are in FOLDER"
    )
    sample.add_argument(
        "--pick", type=int, metavar="N", help="keep N good ones that are far from each other"
    )
    sample.add_argument(
        "--pick_from",
        metavar="FLOOR",
        help="pick among designs whose score (or a term: QED>=0.7) is at least so much, or top:50 "
        "of them (default: the best tenth, at least 4 N)",
    )
    sample.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="known molecules (a table with a column of SMILES, or SMI): tell the nearest of them",
    )
    sample.add_argument("--column", metavar="NAME", help="of --reference: its column of SMILES")

    evaluate = add("evaluate", "compare what a run samples with what it should sample")
    evaluate.add_argument("run", type=Path, metavar="RUN", help="a folder that fit wrote")

    compare = add("compare", "run a grid of problems, methods and seeds; say which is better")
    compare.add_argument("--config", type=Path, required=True, metavar="FILE", help="the grid")
    compare.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="of all runs and tables (default: runs/<name of the file>); on the same folder, go on",
    )
    compare.add_argument(
        "--jobs", type=int, metavar="N", help="runs at a time (default: one per core)"
    )

    mine = add("mine", "find the fragments that molecules of yours are made of (BRICS)")
    mine.add_argument(
        "molecules", type=Path, metavar="FILE", help=".smi, or a table with a column of SMILES"
    )
    mine.add_argument("--column", metavar="NAME", help="of SMILES (default: by its usual names)")
    mine.add_argument(
        "--any_link", action="store_true", help="let any end be joined to any (default: as BRICS)"
    )
    mine.add_argument("--at_least", type=int, default=2, help="times it is found (default: 2)")
    mine.add_argument(
        "--output", type=Path, metavar="FILE.csv", help="default: FILE with _fragments.csv"
    )

    demo = add("demo", "design binding sites of a transcription factor, or molecules, in minutes")
    demo.add_argument(
        "what", nargs="?", choices=("dna", "molecules"), default="dna", help="default: dna"
    )
    demo.add_argument("--factor", help="of dna: any in JASPAR 2026 (default: FOXA1)")
    demo.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="default: runs/demo-<factor>, runs/demo-molecules",
    )
    demo.add_argument("--seed", type=int, default=0, help="of networks and draws (default: 0)")

    check = add("check", "test an environment of your own against the contract")
    check.add_argument(
        "environment",
        metavar="FILE.py:Environment",
        help="a class; its arguments follow, as in --length 4",
    )
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0; 1 if runs of a comparison failed; 2 for a mistake in the input, or a disk that is full or
    not to be written to; 128 and the number of the signal if stopped, 130 by Ctrl-C.
    """
    try:
        known, rest = parser().parse_known_args(arguments)
        overrides = _overrides(rest)
        if overrides and known.command not in ("fit", "finetune", "check"):
            raise InputError(
                f"unknown option --{overrides[0][0]}; see gfn-design {known.command} --help"
            )
        # Lightning 2.6 with torch 2.13, and what it says of every short run
        for message in ("LeafSpec", "all_gather is deprecated", "than the logging interval"):
            warnings.filterwarnings("ignore", message=f".*{message}.*")
        from gfn_design import commands

        return commands.COMMANDS[known.command](known, overrides)
    except InputError as error:
        _say(f"{error}", error.shared)
        return 2
    except KeyboardInterrupt as stopped:
        _say(f"stopped{'; ' if str(stopped) else ''}{stopped}", True)
        return getattr(stopped, "exit_code", 130)
    except BrokenPipeError:  # as of `gfn-design ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in OF_THE_MACHINE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"gfn-design: {where}{error.strerror}; mend that and try again", file=sys.stderr)
        return 2


def _say(text: str, shared: bool) -> None:
    """Tell the person; of processes that all say the same the first one does."""
    ranks = ("LOCAL_RANK", "RANK", "SLURM_PROCID")
    first = all(os.environ.get(name, "0") == "0" for name in ranks)
    if first or not shared:
        print(f"gfn-design: {text}", file=sys.stderr)
    if not first:  # whoever started this one ends it if it ends first
        parent, end = os.getppid(), time.monotonic() + 4
        while os.getppid() == parent and time.monotonic() < end:
            time.sleep(0.05)


def _overrides(rest: list[str]) -> list[tuple[str, str]]:
    """``--a.b value`` and ``--a.b=value`` as pairs."""
    pairs, words = [], iter(rest)
    for word in words:
        if not word.startswith("--"):
            raise InputError(f"unexpected argument '{word}'; see gfn-design --help")
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = next(words, "")
            if not value or value.startswith("--"):
                raise InputError(f"option --{name} needs a value, as in --{name} 100")
        pairs.append((name, value))
    return pairs


if __name__ == "__main__":
    sys.exit(main())

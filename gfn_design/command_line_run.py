"""What the command line takes of the commands that begin from a run that was trained."""

import argparse
from pathlib import Path


def _at(command: argparse.ArgumentParser) -> None:
    """At which setting a run is asked that was trained with conditions."""
    command.add_argument(
        "--at",
        nargs="+",
        metavar="NAME=NUMBER",
        help="of a run that was trained with conditions, as --at exponent=8 QED=2",
    )


def _sample(command: argparse.ArgumentParser) -> None:
    """Options of sample."""
    _at(command)
    command.add_argument("run", type=Path, metavar="RUN", help="a folder that fit wrote")
    command.add_argument("-n", type=int, default=1000, help="distinct candidates (default: 1000)")
    command.add_argument("--seed", type=int, default=0, help="another one draws others")
    command.add_argument(
        "--output", type=Path, metavar="FOLDER", help="default: the next RUN/sample-<number>"
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace the candidates that are in FOLDER"
    )
    command.add_argument(
        "--pick", type=int, metavar="N", help="keep N good ones that are far from each other"
    )
    command.add_argument(
        "--pick_from",
        metavar="FLOOR",
        help="pick among designs whose score (or a term: QED>=0.7) is at least so much, or top:50 "
        "of them (default: the best tenth, at least 4 N)",
    )
    command.add_argument(
        "--pick_by",
        choices=("distance", "ucb", "ei", "thompson"),
        default="distance",
        help="good ones far apart (default), or those most worth measuring by a proxy",
    )
    command.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="known molecules (a table with a column of SMILES, or SMI): tell the nearest of them",
    )
    command.add_argument("--column", metavar="NAME", help="of --reference: its column of SMILES")


def _evaluate(command: argparse.ArgumentParser) -> None:
    """Options of evaluate."""
    _at(command)
    command.add_argument("run", type=Path, metavar="RUN", help="a folder that fit wrote")


def _report(command: argparse.ArgumentParser) -> None:
    """Options of report."""
    _at(command)
    command.add_argument("run", type=Path, metavar="RUN", help="a folder that fit wrote")
    command.add_argument(
        "--designs",
        type=Path,
        metavar="FOLDER",
        help="that sample wrote (default: the latest in RUN, else RUN's own candidates)",
    )
    command.add_argument(
        "--output", type=Path, metavar="FILE.html", help="default: RUN/report.html"
    )


def _compose(command: argparse.ArgumentParser) -> None:
    """Options of compose."""
    command.add_argument("run", type=Path, metavar="A", help="a folder that fit wrote")
    command.add_argument("other", type=Path, metavar="B", help="another, of the same environment")
    command.add_argument(
        "--how",
        choices=("mixture", "and", "not"),
        default="and",
        help="either of both, what both build, or what A builds and B does not (default: and)",
    )
    command.add_argument("-n", type=int, default=1000, help="objects to draw (default: 1000)")
    command.add_argument("--seed", type=int, default=0, help="another one draws others")
    command.add_argument(
        "--output", type=Path, metavar="FOLDER", help="default: runs/<A>-<how>-<B>"
    )
    command.add_argument("--overwrite", action="store_true", help="replace what is in FOLDER")


def _pretrain(command: argparse.ArgumentParser) -> None:
    """Options of pretrain."""
    command.add_argument(
        "library", type=Path, metavar="FILE", help="objects: CSV, SMI, FASTA, or one a line"
    )
    command.add_argument(
        "--config",
        "-c",
        type=Path,
        action="append",
        metavar="FILE",
        help="whose environment and networks are taken (default: SELFIES, read by a GRU)",
    )
    command.add_argument(
        "--length", type=int, default=60, help="of the longest string (default: 60 symbols)"
    )
    command.add_argument(
        "--write",
        choices=("selfies", "smiles"),
        default="selfies",
        help="molecules as SELFIES, every piece of which is valid (default), or as SMILES",
    )
    command.add_argument("--most", type=int, metavar="N", help="take so many objects, evenly")
    command.add_argument(
        "--output", type=Path, metavar="FOLDER", help="default: runs/prior-<name of the file>"
    )
    command.epilog = "any key of the configuration can be given too, as in --trainer.max_steps 5000"


COMMANDS = {
    "sample": (_sample, "draw distinct candidates from a run, best first"),
    "evaluate": (_evaluate, "compare what a run samples with what it should sample"),
    "report": (_report, "one page on a run: is it learning, what came out, how it was made"),
    "pretrain": (_pretrain, "teach a policy what a library of objects looks like: a prior"),
    "compose": (_compose, "draw what two runs build together: A and B, A not B"),
}

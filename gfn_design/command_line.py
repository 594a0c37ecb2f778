"""What the command line takes: every command and its options."""

import argparse
from pathlib import Path
from typing import NoReturn

from gfn_design import command_line_data, command_line_run
from gfn_design.errors import InputError

EPILOG = """\
examples:
  gfn-design demo
  gfn-design demo molecules
  gfn-design data measured.csv --value "IC50 (nM)" --to pIC50
  gfn-design proxy measured_clean.csv
  gfn-design configs
  gfn-design fit --config six6/rl_u --output runs/six6
  gfn-design fit --config six6/rl_u --trainer.max_steps 500 --model.batches.size=64
  gfn-design finetune runs/six6 --data.table pax6
  gfn-design sample runs/six6 -n 1000
  gfn-design evaluate runs/six6
  gfn-design compare --config compare/demo
"""


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
    top.add_argument("--version", action="version", version=f"gfn-design {_version()}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (add_options, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        add_options(command)
    return top


def _version() -> str:
    from gfn_design import __version__

    return __version__


def _fit(command: argparse.ArgumentParser) -> None:
    """Options of fit."""
    command.add_argument(
        "--config",
        "-c",
        type=Path,
        action="append",
        metavar="FILE",
        help="configuration; of several, later ones win",
    )
    command.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="the run's folder (default: runs/<name of the configuration>)",
    )
    command.add_argument(
        "--seed", type=int, help="of networks and draws (default: the config's, or 0)"
    )
    command.add_argument("--checkpoint_every", type=int, metavar="N", help="batches (default: 500)")
    command.add_argument(
        "--known",
        type=Path,
        metavar="FILE",
        help="good objects to learn from in the first batches: CSV, SMI, FASTA, text",
    )
    command.add_argument(
        "--keys", action="store_true", help="list the configuration's keys and stop"
    )
    command.epilog = "any key of the configuration can be given too, as in --trainer.max_steps 100"


def _finetune(command: argparse.ArgumentParser) -> None:
    """Options of finetune."""
    command.add_argument("run", type=Path, metavar="RUN", help="a folder that fit wrote")
    command.add_argument(
        "--config",
        "-c",
        type=Path,
        action="append",
        metavar="FILE",
        help="with a data section, say; what it leaves out is as in RUN",
    )
    command.add_argument(
        "--way",
        choices=("all", "last", "anchored"),
        default="all",
        help="train all layers, the last ones, or all towards prior times reward (default: all)",
    )
    command.add_argument(
        "--known",
        type=Path,
        metavar="FILE",
        help="good objects to learn from: CSV, SMI, FASTA, text",
    )
    command.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="of the new run (default: runs/<RUN>-finetuned-<task>); on the same folder, go on",
    )
    command.add_argument("--seed", type=int, help="of networks and draws (default: RUN's)")
    command.add_argument("--checkpoint_every", type=int, metavar="N", help="batches (default: 500)")
    command.epilog = (
        "the new reward is given as --data KmerData --data.table pax6, and any other key but "
        "environment and networks can be given too, as in --model.optimiser.lr 3e-4"
    )


def _compare(command: argparse.ArgumentParser) -> None:
    """Options of compare."""
    command.add_argument(
        "--config", "-c", type=Path, required=True, metavar="FILE", help="the grid"
    )
    command.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="of all runs and tables (default: runs/<name of the file>); on the same folder, go on",
    )
    command.add_argument(
        "--jobs", type=int, metavar="N", help="runs at a time (default: one per core)"
    )


def _mine(command: argparse.ArgumentParser) -> None:
    """Options of mine."""
    command.add_argument(
        "molecules", type=Path, metavar="FILE", help=".smi, or a table with a column of SMILES"
    )
    command.add_argument("--column", metavar="NAME", help="of SMILES (default: by its usual names)")
    command.add_argument(
        "--any_link", action="store_true", help="let any end be joined to any (default: as BRICS)"
    )
    command.add_argument("--at_least", type=int, default=2, help="times it is found (default: 2)")
    command.add_argument(
        "--output", type=Path, metavar="FILE.csv", help="default: FILE with _fragments.csv"
    )


def _demo(command: argparse.ArgumentParser) -> None:
    """Options of demo."""
    command.add_argument(
        "what", nargs="?", choices=("dna", "molecules"), default="dna", help="default: dna"
    )
    command.add_argument("--factor", help="of dna: any in JASPAR 2026 (default: FOXA1)")
    command.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="default: runs/demo-<factor>, runs/demo-molecules",
    )
    command.add_argument("--seed", type=int, default=0, help="of networks and draws (default: 0)")


def _check(command: argparse.ArgumentParser) -> None:
    """Options of check."""
    command.add_argument(
        "environment",
        metavar="FILE.py:Environment",
        help="a class; its arguments follow, as in --length 4",
    )


def _feasible(command: argparse.ArgumentParser) -> None:
    """Options of feasible."""
    command.add_argument(
        "--config",
        "-c",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help="of a run, which is not trained; of several, later ones win",
    )
    command.add_argument(
        "--near",
        type=Path,
        metavar="RUN",
        help="look at what this run draws, in place of all that can be built",
    )


def _configs(command: argparse.ArgumentParser) -> None:
    """Options of configs: none."""


COMMANDS = {
    **command_line_data.COMMANDS,
    "fit": (_fit, "train a GFlowNet into a folder; on the same folder, go on"),
    "finetune": (_finetune, "train the policy of a run on a new reward, into a new folder"),
    **command_line_run.COMMANDS,
    "compare": (_compare, "run a grid of problems, methods and seeds; say which is better"),
    "feasible": (_feasible, "say what share of all sequences is as wanted, before training"),
    "mine": (_mine, "find the fragments that molecules of yours are made of (BRICS)"),
    "demo": (_demo, "design binding sites of a transcription factor, or molecules, in minutes"),
    "check": (_check, "test an environment of your own against the contract"),
    "configs": (_configs, "list the configurations that come with gfn-design"),
}

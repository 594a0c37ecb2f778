"""What the commands do with a run that was trained."""

import argparse
import itertools
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gfn_design.errors import InputError
from gfn_design.runs.telling import print_metrics, ties

if TYPE_CHECKING:
    from gfn_design.designer import Designer
    from gfn_design.results.candidates import Candidate

Overrides = list[tuple[str, str]]


def sample(options: argparse.Namespace, overrides: Overrides) -> int:
    """Draw candidates from a run."""
    _check(options)
    from gfn_design.results.candidates import draw
    from gfn_design.results.drawn import Funnel
    from gfn_design.results.files import write_candidates
    from gfn_design.runs.run import open_run

    folder = options.output or _free(options.run)
    here, reference = folder.absolute(), options.reference and options.reference.absolute()
    if (here / "candidates.csv").exists() and not options.overwrite:
        raise InputError(
            f"{folder}: holds candidates already; choose another --output, or give --overwrite"
        )
    run = open_run(options.run, setting_of(options.at))
    print(f"drawing {options.n:,} candidates ...", flush=True)
    if reference is not None:
        from gfn_design.files.objects import read_molecules

        read_in = read_molecules(reference, options.column)
        if told := read_in.told(options.reference):
            print(told)
    found = draw(run.module, options.n, options.seed)
    candidates, draws, _ = found
    drawn = len(candidates)
    if options.pick is not None:
        candidates = _picked(candidates, run.module, options)
    run.module.data.settle()
    print("describing them ...", flush=True)
    funnel = Funnel.of(found, run.module, len(candidates), options.seed)
    files = write_candidates(candidates, run.module, here, reference, options.column, funnel)
    which = "" if options.pick is None else f", {len(candidates)} of them picked"
    print(f"{drawn} distinct candidates from {draws:,} draws{which}, best first:")
    for path in files:
        print(f"  {folder / path.name}")
    _tell(candidates, drawn, draws, options.n)
    return 0


def setting_of(given: list[str] | None) -> dict[str, float]:
    """What ``exponent=8 QED=2`` says.

    Raises:
        InputError: It says nothing of the kind.
    """
    found = {}
    for text in given or ():
        name, sign, number = text.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            sign = ""
        if not (sign and name):
            raise InputError(f"--at takes names and numbers, as in --at exponent=8, got '{text}'")
    return found


def _check(options: argparse.Namespace) -> None:
    """Refuse options of sample that cannot be."""
    if options.n < 1:
        raise InputError(f"-n must be at least 1, got {options.n}")
    if options.seed < 0:
        raise InputError(f"--seed must not be negative, got {options.seed}")
    if options.pick is not None and options.pick < 1:
        raise InputError(f"--pick must be at least 1, got {options.pick}")
    if options.pick is None:
        for name, usual in (("pick_from", None), ("pick_by", "distance")):
            if getattr(options, name) != usual:
                raise InputError(f"--{name} says how --pick picks; give --pick too")
    if options.pick_from is not None:
        from gfn_design.results.picking import parse

        if options.pick_by != "distance":
            raise InputError("--pick_from goes with picking by distance; leave out one of them")
        parse(options.pick_from)


def _picked(
    candidates: list["Candidate"], module: "Designer", options: argparse.Namespace
) -> list["Candidate"]:
    """Those to keep, after a sentence on them."""
    if options.pick_by == "distance":
        from gfn_design.results.picking import pick_diverse

        picked, told = pick_diverse(candidates, module, options.pick, options.pick_from)
    else:
        from gfn_design.results.acquisition import pick_to_measure

        by = options.pick, options.pick_by, options.seed
        picked, told = pick_to_measure(candidates, module, *by)
    print(told)
    return picked


def _tell(candidates: list["Candidate"], drawn: int, draws: int, n: int) -> None:
    """What there is to say of candidates."""
    if shared := ties([c.score for c in candidates]):
        print(shared.strip())
    if again := sum(not c.draws for c in candidates):
        print(
            f"{again} of them were not drawn now, but scored in training: the budget of scores is "
            "spent, so of new designs only those that were scored before can be ranked"
        )
    if drawn < n:
        print(f"fewer than the {n} asked for: {draws:,} draws held no more")


def _free(run: Path) -> Path:
    """A folder in a run's that holds nothing yet: what was drawn before stays."""
    return next(
        folder
        for folder in (run / f"sample-{number}" for number in itertools.count(1))
        if not folder.exists()
    )


def evaluate(options: argparse.Namespace, overrides: Overrides) -> int:
    """Print how far a run is from its target."""
    from gfn_design.runs.run import open_run

    module = open_run(options.run, setting_of(options.at)).module
    metrics = module.evaluate().metrics
    module.data.settle()
    print_metrics(metrics)
    return 0


def report(options: argparse.Namespace, overrides: Overrides) -> int:
    """Write the page of a run."""
    from gfn_design.runs.page import designs_of, page_of, write_page
    from gfn_design.runs.run import open_run

    designs = designs_of(options.run, options.designs)
    path: Path = options.output or options.run / "report.html"
    if path.suffix.lower() != ".html":
        raise InputError(f"{path}: the page is written as HTML; give --output a name in .html")
    run = open_run(options.run, setting_of(options.at))
    print(f"looking at {options.run} and at the designs in {designs} ...", flush=True)
    page = page_of(run, designs.absolute())
    run.module.data.settle()
    write_page(page, path)
    print(f"Is it learning? {page.verdict}")
    for finding in page.findings:
        if finding.state != "good":
            print(f"  {finding.what}: {finding.words} {finding.remedy}".rstrip())
    print(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB, one file that loads nothing)")
    return 0


def compose(options: argparse.Namespace, overrides: Overrides) -> int:
    """Draw what two runs build together."""
    if options.n < 1:
        raise InputError(f"-n must be at least 1, got {options.n}")
    from gfn_design.results.composed import compose as composed
    from gfn_design.results.composed_files import write_composed
    from gfn_design.runs.run import open_run

    names = [options.run.resolve().name, options.other.resolve().name]
    folder = options.output or Path("runs", f"{names[0]}-{options.how}-{names[1]}")
    path = folder.absolute() / "candidates.csv"
    if path.exists() and not options.overwrite:
        raise InputError(
            f"{folder}: holds candidates already; choose another --output, or give --overwrite"
        )
    first, second = open_run(options.run).module, open_run(options.other).module
    print("drawing ...", flush=True)
    found = composed(first, second, options.how, options.n, options.seed)
    n = write_composed(found, first, second, path)
    kept = len(found.objects) / found.drawn
    how = "exactly, by the probabilities of both" if found.exact else "by estimated probabilities"
    print(f"{len(found.objects):,} of {found.drawn:,} drawn are kept ({100 * kept:.1f} %), {how}")
    if not found.exact:
        print(
            "estimates of probabilities are noisy where an object can be built in many ways; order "
            "append, or a run trained for both, knows them"
        )
    print(f"written: {folder / 'candidates.csv'} ({n:,} distinct, best of both first)")
    return 0


def pretrain(options: argparse.Namespace, overrides: Overrides) -> int:
    """Teach a policy what a library looks like."""
    from gfn_design.config import Config, check, read
    from gfn_design.config.paths import absolute_paths, config_file
    from gfn_design.config.root import ROOT
    from gfn_design.runs.pretrain import held_out_likelihood, pretraining, usual_model
    from gfn_design.runs.telling import train_and_tell

    if not options.library.is_file():
        raise InputError(f"{options.library}: no such file of objects")
    library = options.library.resolve()
    files = [config_file(path) for path in options.config or ()]
    usual = partial(usual_model, library, options.length, options.most, options.write)
    given = read(files, []) if files else usual()
    config = Config(str(options.library))
    config.add(pretraining(given, library, options.most), str(options.library))
    config.add(read([], overrides), "command line")
    check(config, ROOT)
    folder = options.output or Path("runs", f"prior-{options.library.name.split('.')[0]}")
    train_and_tell(absolute_paths(config), folder)
    print(held_out_likelihood(folder))
    print(f"go on from it: gfn-design finetune {folder} --way anchored --config FILE")
    return 0

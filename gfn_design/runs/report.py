"""What is left of a run in its folder: numbers, candidates, pictures."""

import warnings
from pathlib import Path

import yaml

from gfn_design.evaluation.evaluate import Evaluation
from gfn_design.files.run_folder import LOG
from gfn_design.files.whole import whole_files
from gfn_design.results import molecules, plots, sequence_plots
from gfn_design.results.candidates import Candidate, draw_candidates, smiles_of
from gfn_design.results.files import write_into
from gfn_design.runs.run import Run


def report(run: Run, n: int) -> tuple[Evaluation, list[Candidate]]:
    """Evaluate, draw `n` candidates, and write files and pictures into the run's folder."""
    if run.module.data.room() is None:
        print("evaluating ...", flush=True)
        at, found = run.module.evaluated or (-1, None)
        # The latest validation may have seen these very weights.
        evaluation = found if found and at == run.module.tally.draws else run.module.evaluate()
    else:  # which would cost scores
        evaluation = Evaluation(run.module.data.counts(), None, None)
    print(f"drawing {n:,} candidates ...", flush=True)
    candidates: list[Candidate] = []
    if n:
        candidates, _ = draw_candidates(run.module, n)
    print("describing them ...", flush=True)
    smiles = smiles_of(candidates, run.module)
    if smiles:
        evaluation.metrics.update(molecules.summary(smiles, [c.score for c in candidates]))
    run.module.data.settle()
    rounded = {name: round(value, 6) for name, value in evaluation.metrics.items()}
    with whole_files(run.folder) as folder:
        if candidates:
            write_into(folder, candidates, run.module)
        (folder / "evaluation.yaml").write_text(yaml.safe_dump(rounded, sort_keys=False))
        _draw(run, evaluation, candidates, folder)
    return evaluation, candidates


def _draw(run: Run, evaluation: Evaluation, candidates: list[Candidate], folder: Path) -> None:
    """Write the pictures of a run into a folder."""
    if evaluation.target is not None:
        ax = plots.axes(5.5, 4.5)
        plots.plot_distribution(evaluation, ax)
        plots.save(ax, folder / "distribution.png")
    ax = plots.axes()
    if plots.plot_curve(run.folder / LOG, ax):
        plots.save(ax, folder / "curve.png")
    environment = run.module.environment
    if environment.lettered and candidates:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # logomaker's own use of pandas
            ax = sequence_plots.plot_logo(candidates, run.module)
        plots.save(ax, folder / "logo.png")
        texts = [candidate.text for candidate in candidates]
        if (on_off := run.module.data.on_off(environment, texts)) is not None:
            ax = plots.axes(5.5, 4.5)
            sequence_plots.plot_on_off(on_off, ax)
            plots.save(ax, folder / "on_off.png")

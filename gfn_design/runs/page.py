"""The page of a run: what was asked, whether it is learning, and what came out, in one file."""

import csv
import hashlib
import math
import platform
import re
from collections.abc import Iterator
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gfn_design.designer import Designer
from gfn_design.errors import InputError
from gfn_design.files.run_folder import CHECKPOINT, CONFIG, LOG
from gfn_design.files.tables import read_table
from gfn_design.proxies.proxy import Proxy
from gfn_design.results.cards import Card, Wish, cards_of, text_of, wishes_of
from gfn_design.results.charts import Chart
from gfn_design.results.citations import citations
from gfn_design.results.drawn import FILE, Funnel, read_funnel
from gfn_design.results.health import Finding, findings, verdict
from gfn_design.rewards.proxy_values import Predictor
from gfn_design.rewards.sources import is_file
from gfn_design.runs.run import Run
from gfn_design.sampling.noise import CANDIDATES
from gfn_design.sampling.seen_objects import object_keys

DRAWS = 1024  # fresh ones, for the effective sample size
MOST_CARDS = 48
LIBRARIES = ("gfn-design", "torch", "lightning", "rdkit", "numpy", "scikit-learn")


class Page(NamedTuple):
    """What the page is made of.

    Attributes:
        title: Of the run.
        day: When the page was made.
        asked: Facts on what was asked, by name.
        wishes: Of the reward.
        state: ``good``, ``watch`` or ``bad``.
        verdict: In a sentence.
        findings: One by one.
        funnel: Numbers from draws to picks, by name.
        cards: Of the designs.
        logo: A source of an ``img``; empty if there is none.
        charts: In order.
        proxies: Facts on each proxy, by name.
        facts: Versions, seeds, hashes, by name.
        config: As YAML.
        citations: One each.
    """

    title: str
    day: str
    asked: dict[str, str]
    wishes: list[Wish]
    state: str
    verdict: str
    findings: list[Finding]
    funnel: dict[str, int]
    cards: list[Card]
    logo: str
    charts: list[Chart]
    proxies: list[dict[str, str]]
    facts: dict[str, str]
    config: str
    citations: list[str]


def designs_of(run: Path, designs: Path | None) -> Path:
    """The folder whose designs are shown: the one given, the latest drawn ones, or the run's own.

    Raises:
        InputError: There are none.
    """
    if designs is None:
        drawn = [path.parent for path in run.glob(f"*/{FILE}")]
        designs = max(drawn, key=lambda path: (path / FILE).stat().st_mtime, default=run)
    if not (designs / "candidates.csv").is_file():
        raise InputError(f"{designs}: holds no candidates.csv; draw some by gfn-design sample")
    return designs


def page_of(run: Run, designs: Path) -> Page:
    """Gather what a page says of a run and of some designs of it."""
    module, data = run.module, run.module.data
    predictors: list[Predictor] = getattr(data, "predictors", [])
    proxies = [predictor.proxy for predictor in predictors]
    rows, dropped = _kept(log_of(run.folder), module)
    cells = read_table(designs / "candidates.csv")
    _check_designs(module, cells, designs)
    funnel = read_funnel(designs)
    wishes = wishes_of(data)
    symbols = module.environment.lettered
    effective, distinct = sampled(run)
    rises = not module.objective.from_library
    found = findings(rows, effective, distinct, predictors, rises)
    if dropped is not None:
        found.insert(0, dropped)
    state, words = verdict(found)
    from gfn_design.results.page_charts import charts_of, logo_of

    shown = cells[:MOST_CARDS]
    return Page(
        title=run.folder.name,
        day=date.today().isoformat(),
        asked=_asked(run, rows),
        wishes=wishes,
        state=state,
        verdict=words,
        findings=found,
        funnel=_funnel(funnel, len(cells)),
        cards=cards_of(shown, wishes, predictors, symbols),
        logo=logo_of(cells, module),
        charts=charts_of(rows, cells, funnel, predictors, wishes),
        proxies=[_proxy(proxy) for proxy in proxies],
        facts=dict(_facts(run, designs, funnel)),
        config=(run.folder / CONFIG).read_text("utf-8"),
        citations=citations(run.config, proxies),
    )


def _kept(
    rows: list[dict[str, float]], module: Designer
) -> tuple[list[dict[str, float]], Finding | None]:
    """The rows of a log up to what a module is, which may be of before; its state as the last."""
    upto = module.tally.trajectories
    kept = [row for row in rows if row.get("trajectories", 0.0) <= upto]
    end = max((row.get("trajectories", 0.0) for row in rows), default=0.0)
    if module.data.room() is None:  # else to look would cost scores
        kept.append({"trajectories": float(upto)} | module.evaluate().metrics)
    if end <= upto:
        return kept, None
    words = (
        f"It is of {upto:,.0f} trajectories, and all numbers here are of it; the log goes on to "
        f"{end:,.0f}: the run was stopped before it saved again, or put back since the proxy and "
        "its second opinion parted."
    )
    remedy = "Go on by the same command; if they parted, ask less of the proxy, or measure more."
    return kept, Finding("watch", "the checkpoint", words, remedy)


def _check_designs(module: Designer, cells: list[dict[str, str]], designs: Path) -> None:
    """Refuse designs that a run cannot have built."""
    texts = [text_of(row) for row in cells]
    try:
        if module.environment.lettered and texts:
            module.environment.encode(texts)
        if module.environment.molecules and any(not row.get("smiles") for row in cells):
            raise InputError("they are no molecules")
    except InputError as error:
        raise InputError(f"{designs}: its designs are not of this run: {error}") from error


def log_of(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's log, each its numbers by name."""
    if not (folder / LOG).is_file():
        return []
    with (folder / LOG).open(newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if k and v} for row in csv.DictReader(file)]


@torch.no_grad()
def sampled(run: Run) -> tuple[float | None, float]:
    """The effective share of fresh samples, if scores cost nothing, and the distinct one."""
    module = run.module
    drawn = module.draw(DRAWS, CANDIDATES, 2**31)
    distinct = len(object_keys(module.environment, drawn.objects).unique()) / DRAWS
    if module.data.room() is not None:
        return None, distinct
    _, log_r = module.score_objects(drawn.objects)
    steps = module.engine.log_probabilities(module.policy, drawn)
    of_state = log_r.double() - module.task.log_states_per_object(drawn.objects)
    weight = (of_state + (steps.log_pb.double() - steps.log_pf.double()).sum(1)).softmax(0)
    return float(1 / weight.square().sum() / DRAWS), distinct


def _asked(run: Run, rows: list[dict[str, float]]) -> dict[str, str]:
    """Facts on what was asked and done."""
    module = run.module
    last = max((row.get("trajectories", 0) for row in rows), default=0)
    facts = {
        "what can be built": module.environment.describe(),
        "how it learned": type(module.objective).__name__,
        "trajectories sampled": f"{int(max(last, module.tally.trajectories)):,}",
    }
    exponent = getattr(module.data, "exponent", None)
    if exponent is not None:
        facts["exponent"] = f"{exponent:g} (the larger, the more the best are preferred)"
    return facts


def _funnel(funnel: Funnel | None, written: int) -> dict[str, int]:
    """How many there were at each step; in the domain and as wanted are of all distinct ones."""
    if funnel is None:
        return {"designs": written}
    steps = {
        "drawn": funnel.draws,
        "valid": funnel.valid,
        "distinct": funnel.distinct,
        "in the domain": funnel.in_domain,
        "as wanted": funnel.as_wanted,
        "shown" if funnel.picked == funnel.distinct else "picked": funnel.picked,
    }
    return {name: number for name, number in steps.items() if number is not None}


def _proxy(proxy: Proxy) -> dict[str, str]:
    """Facts on a proxy."""
    about, it = proxy.about, proxy.about.figures
    groups = "scaffolds" if about.kind == "molecules" else "clusters"
    return {
        "predicts": f"{about.quantity} of {about.kind}",
        "learned from": f"{int(it['objects']):,} measured ones in {int(it['groups']):,} {groups} "
        f"({about.source})",
        "model": f"{about.model}: R2 {it['r2']:.2f} and error {it['rmse']:.2f} on {groups} that it "
        f"had not seen; the mean errs by {it['mean_rmse']:.2f}",
        "intervals": f"said to hold 80 %, held {100 * it['coverage']:.0f} % there",
        "second model": f"{about.second}, R2 {it['second_r2']:.2f}",
        "domain": f"similarity of at least {proxy.edge:.2f} to a measured one",
    }


def _facts(run: Run, designs: Path, funnel: Funnel | None) -> Iterator[tuple[str, str]]:
    """Versions, seeds and hashes."""
    for name in LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"
    yield "Python", f"{platform.python_version()} on {platform.system()}"
    yield "seed of the run", str(run.config.get("seed", 0))
    if funnel is not None:
        yield "seed of the designs", str(funnel.seed)
    inputs = [run.folder / CONFIG, run.folder / CHECKPOINT, designs / "candidates.csv"]
    for path in [*inputs, *sorted(set(_files(run.config)))]:
        if path.is_file():
            yield f"SHA-256 of {path.name}", hashlib.sha256(path.read_bytes()).hexdigest()


def _files(value: Any) -> Iterator[Path]:
    """The files that a configuration names."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _files(item)
    elif isinstance(value, list):
        for item in value:
            yield from _files(item)
    elif isinstance(value, str):
        text = re.sub(r":\w+$", "", value)
        if "." in value and is_file(text):
            yield Path(text)


def write_page(page: Page, path: Path) -> None:
    """Write the page: one file, which loads nothing.

    Raises:
        InputError: It cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    from gfn_design.files.whole import make_folder, write_whole

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda x: f"{x:,}" if math.isfinite(x) else str(x)
    make_folder(path.absolute().parent)
    write_whole(path, environment.get_template("page.html").render(page=page))

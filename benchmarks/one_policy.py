"""One policy for many questions: conditioned on the exponent, and composed of two runs.

Usage: python benchmarks/one_policy.py [--batches N] [--settings N]

Prints two tables in Markdown, in about ten minutes on two cores. The first: exact D_TV at settings
that were never trained on, of a policy that is told the exponent, after three times the
trajectories of the runs dedicated to each; on SIX6 (65,536 DNA 8-mers) and on QM9 (161,051
molecules of five blocks). The second: exact D_TV of what two runs compose to, A and B, A not B,
beside runs trained for these, which get as many trajectories as both together.
"""

import argparse
import logging
import warnings

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from torch.optim.lr_scheduler import LambdaLR

from gfn_design import (
    BlocksData,
    Conditions,
    DataModule,
    GFlowNet,
    KmerData,
    Networks,
    Optimiser,
    Reward,
    Sequence,
    TrajectoryBalance,
)
from gfn_design.metrics.distributions import total_variation
from gfn_design.policies.mlp import MLP
from gfn_design.results.composed import distribution
from gfn_design.rewards.reward import TableScore

LOW, HIGH = 1.0, 16.0


def network(environment, outputs):
    return MLP(environment, outputs, width=256, depth=2)


def environment_of(task):
    return Sequence("DNA", 8, "append") if task == "SIX6" else Sequence("QM9", 5, "append")


def data_of(task, exponent):
    if task == "SIX6":
        return KmerData("six6", exponent=exponent, minimum=0.01)
    return BlocksData("qm9", exponent=exponent)


def train(environment, data, batches, conditions=None):
    """A run of trajectory balance, whose learning rate falls to a fiftieth."""
    seed_everything(0, verbose=False)

    def falling(optimizer):
        return LambdaLR(optimizer, lambda i: max(0.02, 1 - i / batches))

    module = GFlowNet(
        environment,
        TrajectoryBalance(),
        Networks(network),
        optimiser=Optimiser(schedule=falling),
        conditions=conditions,
        draw_seed=0,
    )
    trainer = Trainer(
        max_steps=batches,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    return module.use(data)


def conditioned(task, batches, settings):
    """The first table: a row for each setting."""
    middle = float(np.sqrt(LOW * HIGH))
    told = train(
        environment_of(task),
        data_of(task, middle),
        3 * batches,
        Conditions(exponent=f"{LOW:g}..{HIGH:g}"),
    )
    excess = []
    for exponent in settings:
        own = train(environment_of(task), data_of(task, float(exponent)), batches)
        found = told.at(exponent=float(exponent)).evaluate().metrics["D_TV"]
        dedicated = own.evaluate().metrics["D_TV"]
        excess.append(found - dedicated)
        print(f"| {task} | {exponent:.2f} | {found:.3f} | {dedicated:.3f} | {excess[-1]:+.3f} |")
    print(f"\n{task}: worst {max(excess):+.3f}, mean {np.mean(excess):+.3f}\n", flush=True)


class Wanted(DataModule):
    """A reward for every sequence: what two runs would compose to if they were perfect."""

    def __init__(self, law, objects):
        super().__init__()
        self.law, self.objects = law, objects

    def make_reward(self, environment):
        length, size = environment.length, environment.slot_sizes[0]
        places = torch.tensor([size**j for j in reversed(range(length))])
        table = torch.empty(size**length)
        table[(self.objects * places).sum(1)] = (self.law / self.law.max()).float()
        return Reward(TableScore(table.clamp(min=1e-12), length))


def composed(batches):
    """The second table."""
    environment = environment_of("SIX6")
    names = ("six6", "pax6")
    runs = [train(environment, KmerData(name, exponent=3.0), batches) for name in names]
    p, q = (run.target.probability.double() for run in runs)
    for how, wanted in (("and", p * q / (p + q)), ("not", p * p / (p + q))):
        wanted = wanted / wanted.sum()
        found = distribution(*runs, how)[1]
        own = train(environment, Wanted(wanted, runs[0].target.objects), 2 * batches)
        law = own.evaluate().probability
        alone = total_variation(runs[0].evaluate().probability, wanted)
        ours, dedicated = total_variation(found, wanted), total_variation(law, wanted)
        print(f"| SIX6 {how} PAX6 | {ours:.3f} | {dedicated:.3f} | {alone:.3f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=700, help="of each dedicated run")
    parser.add_argument("--settings", type=int, default=20)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(2)
    rng = np.random.default_rng(0)
    settings = np.sort(LOW * (HIGH / LOW) ** rng.random(options.settings))
    print("| task | exponent | told, D_TV | dedicated, D_TV | difference |\n|---|---|---|---|---|")
    for task in ("SIX6", "QM9"):
        conditioned(task, options.batches, settings)
    print("| wanted | composed, D_TV | trained for it, D_TV | SIX6's run alone, D_TV |")
    print("|---|---|---|---|")
    composed(3 * options.batches)


if __name__ == "__main__":
    main()

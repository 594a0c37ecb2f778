"""Which network learns most of sequences by equal trajectories: the table of docs/sequences.md.

    python benchmarks/sequence_networks.py [--batches 500]

Prints, for each kind of sequence and each network, the exact distance from the target after so many
batches of 128 trajectories, how often it is as wanted, and the seconds of one core. One seed; the
differences that matter are ten times those between seeds.
"""

import argparse
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.optim.lr_scheduler import CosineAnnealingLR

from gfn_design import (
    GRU,
    MLP,
    Batches,
    CausalTransformer,
    Convolution,
    Edits,
    GFlowNet,
    LogVariance,
    Networks,
    Optimiser,
    Sequence,
    SequenceData,
    SequenceTerm,
)

WILD_TYPE = "GCATTGACCTGAGCTAGGTCATCAGTTGCA"
READING = {"MLP": (MLP, 1e-3), "GRU": (GRU, 2e-3), "transformer": (CausalTransformer, 1e-3)}
ANYWHERE = {"MLP": (MLP, 1e-3), "convolution": (partial(Convolution, width=64), 1e-3)}
Environments = dict[str, tuple[Callable[[], Any], dict[str, Any]]]
KINDS: Environments = {
    "append, 12": (partial(Sequence, "DNA", 12, "append"), READING),
    "append, 30": (partial(Sequence, "DNA", 30, "append"), READING),
    "append, 60": (partial(Sequence, "DNA", 60, "append"), READING),
    "prepend-append, 12": (partial(Sequence, "DNA", 12), ANYWHERE),
    # Not the convolution, by which 10,000 exact probabilities would take minutes.
    "prepend-append, 30": (partial(Sequence, "DNA", 30), {"MLP": ANYWHERE["MLP"]}),
    "5 edits of 30": (partial(Edits, WILD_TYPE, 5, "5-26", alphabet="DNA"), ANYWHERE),
}


def data_of(environment: Any) -> SequenceData:
    """A site of FOXA1; of edits, to be bound by SIX6 and not by PAX6."""
    if isinstance(environment, Edits):
        on = SequenceTerm(table="six6", want=">= 0.45 within 0.1")
        off = SequenceTerm(table="pax6", want="<= 0.30 within 0.05")
        return SequenceData([on, off], exponent=4)
    return SequenceData(
        [SequenceTerm(factor="FOXA1", want="maximise 0.5..1")], exponent=4, minimum=0.1
    )


def row(kind: str, name: str, batches: int) -> str:
    make, networks = KINDS[kind]
    network, rate = networks[name]
    environment = make()
    data = data_of(environment)
    torch.manual_seed(0)
    schedule = partial(CosineAnnealingLR, T_max=batches)
    model = GFlowNet(
        environment,
        LogVariance(),
        Networks(network),
        batches=Batches(128),
        optimiser=Optimiser(rate, schedule=schedule),
        draw_seed=0,
    )
    model.exact_limit = 100_000
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = Trainer(
        max_steps=batches, limit_val_batches=0, accelerator="cpu", **dict.fromkeys(off, False)
    )
    began = time.monotonic()
    trainer.fit(model, datamodule=data)
    seconds = time.monotonic() - began
    found = model.use(data).evaluate().metrics
    return (
        f"| {kind} | {name} | {found['D_TV']:.3f} | {found['hit_rate']:.1%} of "
        f"{found['target_hit_rate']:.1%} | {seconds:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    print(
        "| order and letters | network | D_TV | as wanted | s |\n|---|---|---|---|---|", flush=True
    )
    for kind, (_, networks) in KINDS.items():
        for name in networks:
            print(row(kind, name, options.batches), flush=True)


if __name__ == "__main__":
    main()

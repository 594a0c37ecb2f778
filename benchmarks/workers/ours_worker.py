"""gfn-design at work for speed.py."""

import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from gfn_design.fast.imports import quickly

quickly()  # as the command does

import torch
from lightning.pytorch import Callback, Trainer
from protocol import Harness, given_stop, serve, stop_bias

from gfn_design import (
    Batches,
    GFlowNet,
    Hypergrid,
    LearnedBackward,
    Networks,
    Optimiser,
    Sequence,
    Speed,
    TrajectoryBalance,
)
from gfn_design.data.base import DataModule
from gfn_design.fast.several_batches import SECONDS
from gfn_design.fast.step import set_gradients
from gfn_design.policies.mlp import MLP
from gfn_design.rewards.reward import HypergridScore, Reward, TableScore
from gfn_design.runs.log import CSVLog, Progress
from gfn_design.runs.saving import SaveLast

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Data(DataModule):
    """The reward of Bengio et al. on hypergrids, random numbers on strings."""

    def make_reward(self, environment):
        if isinstance(environment, Hypergrid):
            return Reward(HypergridScore(environment.height))
        size, length = environment.slot_sizes[0], environment.length
        table = 0.01 + torch.rand(size**length, generator=torch.Generator().manual_seed(0))
        return Reward(TableScore(table, length))


def build(task, device="cpu"):
    """The module with its reward, the stop logit's bias set."""
    work, options = task["work"], task["options"]
    if work["kind"] == "hypergrid":
        environment = Hypergrid(work["ndim"], work["height"])
    else:
        letters = LETTERS[: work["alphabet_size"]]
        environment = Sequence(letters, work["length"], work["order"])
    torch.manual_seed(0)
    network = partial(MLP, width=work["width"], depth=work["depth"])
    module = GFlowNet(
        environment,
        TrajectoryBalance(),
        Networks(network),
        LearnedBackward(shared=True),
        Batches(work["batch_size"]),
        Optimiser(0.0, 0.0, 0.0),
        speed=Speed(**({"compiled": True} | options)),
        draw_seed=0,
    )
    module.exact_limit = 0
    module.to(device).use(Data())
    bias = module.policy.forward_policy.layers[-1].bias.data

    def mean_length(value):
        bias[environment.stop] = value
        return module.draw(1024, 0, 0).alive.sum(1).float().mean().item()

    def find():
        return stop_bias(mean_length, work["target_length"])

    if work["kind"] == "hypergrid":
        bias[environment.stop] = given_stop(task, find, float(bias[environment.stop]))
    return module


def facts(module):
    return {
        "version": version("gfn-design"),
        "parameters": sum(p.numel() for p in module.parameters()),
        "mean_length": module.draw(1024, 0, 1).alive.sum(1).float().mean().item(),
    }


def prepare(task):
    """Without a Trainer: the roll-out alone, or what one training step does."""
    module = build(task)
    optimizer = module.configure_optimizers()

    def rollout(n):
        for _ in range(n):
            module(module.batch_size, 0, module.tally.draws)
            module.tally.draws += 1

    def step(n):
        loops = module.engine.loops
        while n:
            if loops and (loop := loops.of(module, optimizer)):
                batches = min(n, module.engine.batches_per_step, loop.room(SECONDS))
                loop.run(module.next_noise(batches), module.tally, lambda: None)
                n -= batches
            else:
                _, losses, gradients = module.next_step()
                set_gradients(optimizer, losses, gradients)
                optimizer.step()
                n -= 1
        module.catch_up()  # as each row of a log does, or objects pile up

    return {"rollout": rollout, "step": step}[task["level"]], facts(module)


class Turns(Callback):
    """Trains when told to, in turns; ends when there are no more."""

    sees_several_batches = True

    def __init__(self, harness, module):
        self.harness, self.module, self.turns = harness, module, harness.turns()
        self.facts = facts(module)
        self.begun = perf_counter()
        self.until = self.steps = None

    def on_train_batch_end(self, trainer, *_):
        now = perf_counter()
        if self.until is None:  # all is compiled and warm after a second
            loops = self.module.engine.loops
            if loops and not loops.given_up and not loops.loop:
                return
            self.steps = self.steps or trainer.global_step
            if self.steps == trainer.global_step:
                compile_s, self.begun = now - self.begun, now
                self.facts["compile_s"] = compile_s
            if now - self.begun < 1:
                return
            self.harness.say(ready=True, **self.facts)
        elif now < self.until:
            return
        else:
            done = trainer.global_step - self.steps
            self.harness.say(iterations=done, seconds=now - self.begun)
        seconds = next(self.turns, None)
        trainer.should_stop = seconds is None
        self.steps, self.begun = trainer.global_step, perf_counter()
        self.until = self.begun + (seconds or 0)


def train(harness):
    """With the Trainer, logger, checkpoints and progress bar of `gfn-design fit`."""
    module, batches = build(harness.task), harness.task.get("cold")
    if batches is not None and not batches:
        stop = module.policy.forward_policy.layers[-1].bias[module.environment.n_moves :]
        harness.say(done=True, stop=float(stop[0]) if len(stop) else None)
        return
    data = module.data
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_steps=-1 if batches is None else batches,
            max_epochs=-1,
            log_every_n_steps=50,
            limit_val_batches=0,
            enable_model_summary=False,
            accelerator="cpu",
            default_root_dir=folder,
            logger=CSVLog(Path(folder, "log.csv")),
            callbacks=[
                SaveLast(Path(folder, "last.ckpt"), 500),
                Progress(),
                *([Turns(harness, module)] if batches is None else []),
            ],
        )
        trainer.fit(module, datamodule=data)
        if batches is not None:
            harness.say(done=True)


if __name__ == "__main__":
    harness = Harness()
    torch.set_num_threads(harness.task["threads"])
    if harness.task["level"] == "trainer":
        train(harness)
    else:
        serve(prepare, harness)

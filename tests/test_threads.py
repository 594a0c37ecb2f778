"""How many threads work: one where products are small, all of them for the reward."""

import os
import subprocess
import sys

import pytest
import torch
from lightning.pytorch import Trainer

from gfn_design import Batches, FunctionData, GFlowNet, Sequence, TrajectoryBalance
from gfn_design.fast.threads import OnAllThreads, one_thread

QUIET = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar"], False)


@pytest.fixture
def two():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_thread_within_and_as_many_as_before_after(two):
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == 2
    with one_thread(False):
        assert torch.get_num_threads() == 2
    with one_thread():
        inner = OnAllThreads(lambda x: torch.tensor(torch.get_num_threads()), 2)
        assert inner(torch.zeros(1)) == 2
        assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("size", "learning"), [(8, 1), (200, 2)])
def test_small_batches_are_learned_from_by_one_thread_and_rewarded_by_all(two, size, learning):
    rewarding, updating = set(), set()

    def score(texts):
        rewarding.add(torch.get_num_threads())
        return [1.0 + text.count("A") for text in texts]

    class Looks(GFlowNet):
        def check_weights(self):
            updating.add(torch.get_num_threads())

        def learned_reward(self):
            updating.add(torch.get_num_threads())
            return super().learned_reward()

    module = Looks(Sequence("ABC", 4), TrajectoryBalance(), batches=Batches(size), draw_seed=0)
    trainer = Trainer(
        max_steps=5, limit_val_batches=0, enable_model_summary=False, accelerator="cpu", **QUIET
    )
    trainer.fit(module, datamodule=FunctionData(score))
    assert updating == {learning}
    assert 2 in rewarding
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("given", [None, "77"])
def test_threads_that_wait_sleep_soon_unless_somebody_says_otherwise(given):
    code = (
        "import os\nfrom gfn_design.fast.imports import SPINS, quickly\nquickly()\n"
        "print(os.environ['GOMP_SPINCOUNT'] == SPINS)"
    )
    variables = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    variables |= {} if given is None else {"GOMP_SPINCOUNT": given}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=variables
    )
    assert done.stdout.strip() == str(given is None)

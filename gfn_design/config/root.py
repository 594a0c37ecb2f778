"""The sections of a run's configuration."""

from gfn_design.config.check import Object, Root

ROOT: Root = {
    "seed": int,  # of networks and draws
    "checkpoint_every": int,  # sampled batches
    "checkpoint_seconds": float,  # saved too if the last time was so long ago; 60
    "evaluate_every": int,  # sampled batches
    "guard": bool,  # stop when the two models of a proxy part; true
    "candidates": int,  # drawn at the end
    "exact_limit": int,  # states up to which evaluation is exact; 4,000,000
    "matmul_precision": str,  # highest; high or medium for faster products, see PyTorch
    "model": "gfn_design.GFlowNet",
    "data": Object("DataModule"),
    "trainer": "lightning.pytorch.Trainer",
}

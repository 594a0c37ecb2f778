"""Ensembles of neural networks: over molecules as graphs, over sequences as rows of letters."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from gfn_design.files.measured import LETTERS
from gfn_design.proxies.inputs import Inputs
from gfn_design.proxies.models import NETWORKS, Floats, Guess, State

MEMBERS = 4
WIDTH = 96
BATCH = 64
STEPS = 600  # of each member, however many objects there are
AT_ONCE = 512  # objects that are asked of at once


class GraphRegressor(nn.Module):
    """One number of a molecule: AttentiveFP (Xiong et al. 2020) over its atoms and bonds."""

    def __init__(self) -> None:
        super().__init__()
        from torch_geometric.nn.models import AttentiveFP
        from torch_geometric.utils.smiles import e_map, x_map

        self.sizes = [[len(known) for known in about.values()] for about in (x_map, e_map)]
        self.layers = AttentiveFP(sum(self.sizes[0]), WIDTH, 1, sum(self.sizes[1]), 3, 2, 0.1)

    @staticmethod
    def read(text: str) -> Any:
        """A molecule as a graph of torch-geometric."""
        from torch_geometric.utils import from_smiles

        return from_smiles(text)

    @staticmethod
    def collate(graphs: list[Any]) -> Any:
        """Several graphs as one of many parts."""
        from torch_geometric.data import Batch

        return Batch.from_data_list(graphs)

    def forward(self, graphs: Any) -> Tensor:
        """``float[n]``."""
        nodes, edges = (
            torch.cat([F.one_hot(codes[:, i], n) for i, n in enumerate(sizes)], 1).float()
            for codes, sizes in zip((graphs.x, graphs.edge_attr), self.sizes, strict=True)
        )
        return self.layers(nodes, graphs.edge_index, edges, graphs.batch).squeeze(1)


class SequenceRegressor(nn.Module):
    """One number of a sequence: two convolutions, then their mean and maximum along it.

    Args:
        letters: That sequences are written in.
        both: Read DNA on both strands alike: the mean of what is said of either.
    """

    def __init__(self, letters: str, both: bool) -> None:
        super().__init__()
        self.letters, self.both = letters, both
        self.embedding = nn.Embedding(len(letters) + 1, WIDTH, padding_idx=0)
        self.layers = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 5, padding=2) for _ in range(2))
        self.output = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(2 * WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)
        )

    def read(self, text: str) -> Tensor:
        """A sequence as ``int64[length]``, letters counted from 1."""
        return torch.tensor([self.letters.index(letter) + 1 for letter in text])

    @staticmethod
    def collate(rows: list[Tensor]) -> Tensor:
        """Several sequences, filled up with 0: ``int64[n, longest]``."""
        return pad_sequence(rows, batch_first=True)

    def forward(self, rows: Tensor) -> Tensor:
        """``float[n]``."""
        if not self.both:
            return self._strand(rows)
        other = (len(self.letters) + 1 - rows).masked_fill(rows == 0, 0).flip(1)
        return (self._strand(rows) + self._strand(other)) / 2

    def _strand(self, rows: Tensor) -> Tensor:
        there = (rows > 0).unsqueeze(1)
        x = self.embedding(rows).transpose(1, 2)
        for layer in self.layers:
            x = (x + layer(x).relu()) * there
        mean = x.sum(2) / there.sum(2)
        most = x.masked_fill(~there, -torch.inf).amax(2)
        return self.output(torch.cat([mean, most], 1)).squeeze(1)


Regressor = GraphRegressor | SequenceRegressor


class Regression(L.LightningModule):
    """Trains a regressor by squared errors, with Adam and a rate that falls as a cosine does."""

    def __init__(self, regressor: Regressor) -> None:
        super().__init__()
        self.regressor = regressor

    def training_step(self, batch: tuple[Any, Tensor], _index: int) -> Tensor:
        objects, values = batch
        return F.mse_loss(self.regressor(objects), values)

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=1e-3)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": falling, "interval": "step"}}


class Networks:
    """Neural networks that differ in their beginnings; where they differ, they are unsure.

    Each is trained by Lightning for as many steps, on numbers of mean 0 and deviation 1.
    """

    name = NETWORKS

    def __init__(self) -> None:
        self.members: list[Regressor] = []
        self.kind, self.strands = "molecules", "both"
        self.mean, self.deviation = 0.0, 1.0

    def _new(self) -> Regressor:
        if self.kind == "molecules":
            return GraphRegressor()
        both = self.kind == "DNA" and self.strands == "both"
        return SequenceRegressor(LETTERS[self.kind], both)

    def fit(self, inputs: Inputs, values: Floats) -> None:
        self.kind, self.strands = inputs.kind, inputs.strands
        self.mean, self.deviation = float(values.mean()), float(values.std()) or 1.0
        scaled = torch.tensor((values - self.mean) / self.deviation, dtype=torch.float32)
        self.members = []
        for seed in range(MEMBERS):
            with torch.random.fork_rng(), _silent():
                torch.manual_seed(seed)
                self.members.append(self._trained(inputs, scaled))

    def _trained(self, inputs: Inputs, values: Tensor) -> Regressor:
        regressor = self._new()
        rows = list(zip(map(regressor.read, inputs.texts), values, strict=True))
        loader: DataLoader[Any] = DataLoader(
            rows,  # type: ignore[arg-type]  # a list is a dataset
            batch_size=min(BATCH, len(rows)),
            shuffle=True,
            drop_last=True,
            collate_fn=lambda some: (
                regressor.collate([row for row, _ in some]),
                torch.stack([value for _, value in some]),
            ),
        )
        trainer = L.Trainer(
            max_steps=STEPS,
            accelerator="auto",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Regression(regressor), loader)
        return regressor.cpu().eval()

    @torch.no_grad()
    def predict(self, inputs: Inputs) -> Guess:
        said = [np.zeros((0, MEMBERS))]
        for start in range(0, len(inputs), AT_ONCE):
            some = inputs.texts[start : start + AT_ONCE]
            read = self.members[0].collate([self.members[0].read(text) for text in some])
            said.append(torch.stack([member(read) for member in self.members], 1).double().numpy())
        votes = np.concatenate(said)
        return Guess(self.mean + self.deviation * votes.mean(1), self.deviation * votes.std(1))

    def state(self) -> State:
        about = f"{self.kind} {self.strands}".encode()
        state: State = {
            "about": np.frombuffer(about, dtype=np.uint8),
            "moments": np.array([self.mean, self.deviation]),
        }
        for i, member in enumerate(self.members):
            state |= {f"{i}.{key}": x.numpy() for key, x in member.state_dict().items()}
        return state

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.kind, self.strands = state["about"].tobytes().decode().split()
        self.mean, self.deviation = map(float, state["moments"])
        self.members = []
        for i in range(MEMBERS):
            member, prefix = self._new(), f"{i}."
            own = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
            try:
                member.load_state_dict({k: torch.from_numpy(v) for k, v in own.items()})
            except RuntimeError as error:
                raise ValueError(f"network {i + 1} is of another shape") from error
            self.members.append(member.eval())


@contextmanager
def _silent() -> Iterator[None]:
    """Without what Lightning says of devices, once for each network."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

"""PHO4, QM9 and sEH blocks, and bits: published facts, molecules, and what is refused."""

import csv
import importlib.util
import os
import pickle
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from common import model_of

from gfn_design.data import seh
from gfn_design.data.bits import WORDS, BitsData, ModeDistance, bits_of
from gfn_design.data.blocks import BlocksData
from gfn_design.data.energy import EnergyData
from gfn_design.data.functions import FunctionData
from gfn_design.data.tasks import KmerData, best_of
from gfn_design.environments.hypergrid import Hypergrid
from gfn_design.environments.molecules.chains import BLOCKS, block_smiles
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.evaluation import evaluate
from gfn_design.evaluation.exact import push_forward, target_distribution, terminating_distribution
from gfn_design.files.kmer_tables import kmer_scores
from gfn_design.files.registry import table_scores
from gfn_design.metrics import distributions as metrics
from gfn_design.objectives.balance import TrajectoryBalance
from gfn_design.policies.mlp import MLP
from gfn_design.results.candidates import draw_candidates
from gfn_design.results.files import write_candidates

CPU = torch.device("cpu")
DATASETS = Path(__file__).parents[1] / "datasets"


@pytest.fixture(scope="session")
def data_folder():
    if not os.environ.get("GFN_DESIGN_DATA"):
        pytest.skip("GFN_DESIGN_DATA names no folder with the public data")
    return Path(os.environ["GFN_DESIGN_DATA"])


@pytest.fixture(scope="session")
def qm9_file(data_folder):
    import pyarrow.parquet as pq

    return pq.read_table(data_folder / "qm9str" / "qm9str_11x5.parquet").to_pydict()


def script(name):
    path = DATASETS / name / "prepare.py"
    if not path.exists():
        pytest.skip("datasets/ belongs to the repository and not to the source package")
    spec = importlib.util.spec_from_file_location(f"prepare_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ready(data, environment):
    data.prepare_data()
    data.ready(environment, CPU)
    return data


def tiny(environment, data, **settings):
    """An untrained module with a small network."""
    module = model_of(
        environment, TrajectoryBalance(), network=partial(MLP, width=16, depth=1), **settings
    )
    return module.use(data)


# Molecules.


def chain(key, blocks, symbols="0123456789abcdefgh"):
    """The chain that a published key means."""
    return " ".join(BLOCKS[blocks][symbols.index(symbol)].smiles for symbol in key)


@pytest.mark.parametrize(
    ("key", "smiles"),
    [("00000", "CCCCC"), ("11111", "OOOOO"), ("56789", None), ("34a34", None)],
)
def test_chains_of_qm9(key, smiles, qm9_file):
    found = qm9_file["smiles"][int(key, 11)]
    assert block_smiles([chain(key, "qm9")]) == [found]
    if smiles is not None:
        assert found == smiles


def test_published_smiles_of_qm9(qm9_file):
    some = np.random.default_rng(0).choice(11**5, 2000, replace=False)
    chains = [chain(qm9_file["key"][i], "qm9") for i in some]
    assert block_smiles(chains) == [qm9_file["smiles"][i] for i in some]


@pytest.mark.parametrize("blocks", BLOCKS)
def test_any_two_blocks_can_be_joined(blocks):
    from rdkit import Chem

    names = [block.smiles for block in BLOCKS[blocks]]
    smiles = block_smiles(
        [f"{a} {b} {c}" for a, b in product(names, repeat=2) for c in names[:2]], blocks
    )
    for text in smiles:
        molecule = Chem.MolFromSmiles(text)
        assert Chem.MolToSmiles(molecule) == text
        assert not any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())


@pytest.mark.parametrize(
    ("key", "smiles"),
    [
        ("22", "SS"),
        ("55", "c1ccc(-c2ccccc2)cc1"),
        ("12", "O=c1[nH]cnc2c1ncn2S"),  # the sulfur takes the place of a hydrogen on nitrogen
        ("24", "S[n+]1ccccc1"),
    ],
)
def test_chains_of_seh(key, smiles):
    from rdkit import Chem

    (found,) = block_smiles([chain(key, "seh")], "seh")
    assert found == Chem.CanonSmiles(smiles)


@pytest.mark.slow
def test_published_modes_of_seh(data_folder, seh_data):
    """159 of the best 17,006 chains, by index, each with a Tanimoto similarity below 0.5."""
    from rdkit import Chem, DataStructs
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    with (data_folder / "sehstr" / "modes_159.csv").open(newline="") as file:
        published = {row["key"] for row in csv.DictReader(file)}
    environment = Sequence("sEH", 6, "append")
    data = BlocksData("seh", n_modes=int(0.0005 * 18**6))
    data._values = seh_data.values
    best = data.modes(environment)
    best = best[(best * 18 ** torch.arange(5, -1, -1)).sum(1).argsort()]
    generator, kept, keys = GetMorganGenerator(radius=2, fpSize=1024), [], set()
    for smiles, row in zip(
        block_smiles(environment.decode(best), "seh"), best.tolist(), strict=True
    ):
        print_ = generator.GetFingerprint(Chem.MolFromSmiles(smiles))
        if not kept or max(DataStructs.BulkTanimotoSimilarity(print_, kept)) < 0.5:
            kept.append(print_)
            keys.add("".join("0123456789abcdefgh"[i] for i in row))
    assert keys == published


def test_bad_blocks_are_refused():
    with pytest.raises(InputError, match=r"there are no blocks 'qm8', choose one of qm9, seh"):
        block_smiles(["C"], "qm8")
    with pytest.raises(InputError, match=r"there is no block 'CCl', expected some of C O N"):
        block_smiles(["C CCl"])


def test_alphabets_of_blocks_and_bits():
    environment = Sequence("QM9", 5)
    assert environment.separator == " "
    assert environment.n_states == 177_156
    text = "C=O c1ccccc1 CF C O"
    assert environment.decode(environment.encode([text])) == [text]
    assert Sequence("sEH", 6).n_states == 36_012_943
    assert Sequence("bits", 4).symbols == ("0", "1")
    assert Sequence("bits8", 15).symbols[60] == "00111100"
    assert Sequence("bits8", 15).n_states is None


# QM9 and sEH.


@pytest.fixture(scope="module")
def qm9(data_folder):
    environment = Sequence("QM9", 5)
    data = ready(BlocksData("qm9"), environment)
    return environment, data, target_distribution(environment, data.reward)


def test_target_of_qm9(qm9):
    _, _, target = qm9
    reward = target.log_reward.exp()
    assert len(reward) == 161_051
    assert float(reward.sum()) == pytest.approx(15_125.190557, rel=1e-6)
    assert target.log_z == pytest.approx(9.624117, abs=1e-6)
    assert float((target.probability * reward).sum()) == pytest.approx(0.203214, abs=1e-6)
    assert float(target.log_reward.min()) == pytest.approx(-46.511, abs=5e-4)
    assert int((target.log_reward < -12).sum()) == 2559
    uniform = torch.full_like(reward, 1 / 161_051)
    wanted = target.probability
    assert metrics.total_variation(uniform, wanted) == pytest.approx(0.402625, abs=1e-6)
    assert metrics.jensen_shannon(uniform, wanted) == pytest.approx(0.131897, abs=1e-6)
    assert metrics.reward_accuracy(uniform, target.log_reward) == pytest.approx(0.462151, abs=1e-6)


def test_modes_of_qm9(qm9, qm9_file):
    environment, data, _ = qm9
    published = {
        chain(k, "qm9") for k, m in zip(qm9_file["key"], qm9_file["is_mode"], strict=True) if m
    }
    assert set(environment.decode(data.modes(environment))) == published
    assert len(published) == 805


def test_candidates_have_smiles(tmp_path):
    data = BlocksData("qm9")
    data._values = torch.rand(11**5)
    module = tiny(Sequence("QM9", 5), data, exact_limit=0)
    candidates, _ = draw_candidates(module, 20)
    path = write_candidates(candidates, module, tmp_path)[0]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:3] == ["rank", "sequence", "smiles"]
    assert [row["smiles"] for row in rows] == block_smiles(row["sequence"] for row in rows)
    (path,) = write_candidates([], module, tmp_path)
    assert path.read_text().splitlines() == [",".join(rows[0])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "qm8"}, "task must be one of qm9, seh, got 'qm8'"),
        ({"exponent": 0}, "exponent, best_reward and minimum must be positive, got 0"),
        ({"minimum": 0}, "must be positive, got 5.0, 10.0 and 0"),
        ({"n_modes": 0}, "n_modes must be from 1 to 161,051, got 0"),
    ],
)
def test_bad_options_of_blocks_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        BlocksData(**arguments)


@pytest.mark.parametrize(
    "environment",
    [Sequence("sEH", 5), Sequence("QM9", 6), Sequence("DNA", 5), Hypergrid(5, 11)],
    ids=str,
)
def test_other_environments_are_refused(environment):
    with pytest.raises(InputError, match="needs a Sequence with alphabet qm9 and length 5, got"):
        BlocksData("qm9").make_reward(environment)


def leaves(n, positions, blocks):
    """Leaves of ten random trees, each of them a partition of the chains."""
    generator = np.random.default_rng(0)
    allowed, value = [], []
    for _ in range(10):
        parts = [np.ones((positions, blocks), bool)]
        while len(parts) < n:
            part, position = parts.pop(0), generator.integers(positions)
            side = generator.random(blocks) < 0.5
            for chosen in (side, ~side):
                child = part.copy()
                child[position] &= chosen
                parts.append(child)
        allowed += parts
        value += list(generator.normal(size=n))
    return np.array(allowed), np.array(value)


@pytest.mark.parametrize(("positions", "blocks"), [(4, 3), (5, 2), (2, 20)])
def test_predictions_agree_with_their_definition(positions, blocks, monkeypatch):
    monkeypatch.setattr(seh, "ROWS", 7)
    allowed, value = leaves(6, positions, blocks)
    expected = [
        0.5 + sum(v for a, v in zip(allowed, value, strict=True) if a[range(positions), word].all())
        for word in product(range(blocks), repeat=positions)
    ]
    found = seh.predictions(allowed, value, 0.5)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-6)
    order = np.random.default_rng(1).permutation(len(value))
    again = seh.predictions(allowed[order], value[order], 0.5)
    assert found.tobytes() == again.tobytes()  # whatever the order of additions


@pytest.fixture(scope="session")
def seh_data(data_folder, tmp_path_factory):
    """The task with its whole table, and the cache that it is in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GFN_DESIGN_CACHE", str(tmp_path_factory.mktemp("seh")))
        data = BlocksData("seh")
        data.prepare_data()
        data.cached = seh.cache_folder() / seh.TABLE
    return data


@pytest.mark.slow
def test_table_of_seh(seh_data, data_folder):
    table = seh_data.values.numpy()
    with np.load(
        data_folder / "sehstr" / "sehstr_gbtr_testvectors.npz", allow_pickle=False
    ) as file:
        states, expected = file["states"].astype(int), file["prediction"]
    assert np.abs(table[states @ 18 ** np.arange(5, -1, -1)] - expected).max() < 3e-7
    y = table.astype(np.float64)
    assert y.min() == pytest.approx(-2.61, abs=5e-5)
    assert y.mean() == pytest.approx(4.49429, abs=5e-6)
    assert y.std() == pytest.approx(1.12451, abs=5e-6)
    assert (y < 0).sum() == 95_432
    assert (y < 1e-3).sum() == 95_647
    assert y.max() == pytest.approx(7.033253064721924, rel=1e-7)
    with np.load(
        data_folder / "sehstr" / "sehstr_gbtr_allpreds_summary.npz", allow_pickle=False
    ) as file:
        counts, _ = np.histogram(y, file["hist_edges"])
        assert np.abs(counts - file["hist_counts"]).sum() <= 100  # on an edge in float32
    reward = seh_data.make_reward(Sequence("sEH", 6)).log_of(seh_data.values).double().exp()
    assert float(reward.sum()) == pytest.approx(41_966_993.46, rel=2e-7)
    assert float(reward.square().sum() / reward.sum()) == pytest.approx(2.45450, abs=5e-6)
    # Best first, and the whole of 34,013 from the 99.9th percentile on.
    modes = seh_data.modes(Sequence("sEH", 6))
    assert Sequence("sEH", 6).decode(modes[:1]) == [chain("ag550c", "seh")]
    assert len(modes) == 34_013
    places = (modes * 18 ** torch.arange(5, -1, -1)).sum(1).numpy()
    assert y[places].min() == pytest.approx(6.635192, abs=1e-6)


@pytest.mark.slow
def test_cache_of_seh(seh_data, monkeypatch):
    monkeypatch.setenv("GFN_DESIGN_CACHE", str(seh_data.cached.parent))
    monkeypatch.setattr(seh, "predictions", None)  # nothing is computed again
    assert np.array_equal(seh.seh_scores(), seh_data.values.numpy())
    with seh_data.cached.open("r+b") as file:
        file.seek(1000)
        file.write(b"?")
    assert seh._read(seh_data.cached) is None


def test_bad_leaves_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GFN_DESIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GFN_DESIGN_DATA", raising=False)
    with pytest.raises(InputError, match=r"leaves\.npz: there is no such file; make it with"):
        seh.seh_scores()
    monkeypatch.setenv("GFN_DESIGN_DATA", str(tmp_path))
    path = tmp_path / seh.LEAVES
    path.parent.mkdir()
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"leaves\.npz: is no file of leaves"):
        seh.seh_scores()
    allowed, value = leaves(3, 4, 3)
    np.savez(path, leaf_allowed=allowed, leaf_value=value)
    with pytest.raises(InputError, match=r"is no file of leaves \(.*baseline"):
        seh.seh_scores()
    np.savez(path, leaf_allowed=allowed, leaf_value=value, baseline=0.0)
    with pytest.raises(InputError, match=r"holds other leaves than the published ones"):
        seh.seh_scores()
    table = seh.predictions(allowed, value, 0.0)
    monkeypatch.setattr(seh, "TABLE_SHA256", seh.checksum(table))
    assert np.array_equal(seh.seh_scores(), table)
    monkeypatch.setenv("GFN_DESIGN_CACHE", str(path))
    with pytest.raises(InputError, match="cache folder cannot be written"):
        seh.seh_scores()


# PHO4.


@pytest.fixture(scope="module")
def pho4(data_folder):
    environment = Sequence("DNA", 10)
    return environment, ready(EnergyData(), environment)


def test_reward_of_pho4(pho4):
    environment, data = pho4
    reward = data.reward.log_of(data.scores(environment)).double().exp()
    assert len(reward) == 4**10
    assert float(reward.max()) == pytest.approx(10, rel=1e-6)
    assert float(reward.min()) == pytest.approx(0.32265, abs=5e-6)
    assert float(reward.mean()) == pytest.approx(3.16540, abs=5e-6)
    modes = data.modes(environment)
    assert len(modes) == 5242
    assert environment.decode(modes[:1]) == ["CCCCCCCCCA"]
    least = data.reward(modes).exp().min()
    assert float(least) == pytest.approx(7.48270, abs=1e-3)
    columns = data.columns(environment, ["CCCCCCCCCA"])
    assert columns == {"ddg": ["-0.3793"], "site": ["CCCCCCACGTGCCCCA"]}


@pytest.mark.slow
def test_uniform_policy_on_pho4(pho4):
    """1,398,101 states; a uniform policy gives every sequence the same probability."""
    environment, data = pho4
    target = target_distribution(environment, data.reward)
    assert target.packed.dtype == torch.int8
    assert torch.equal(target.indices, environment.state_index(target.objects))
    assert target.log_z == pytest.approx(np.log(3.16540 * 4**10), abs=1e-5)
    (layer,) = push_forward(
        environment,
        lambda _, legal: legal.double().log() - legal.sum(1, keepdim=True).double().log(),
    )
    assert torch.equal(layer.indices, target.indices)
    assert torch.allclose(layer.probability, torch.tensor(0.25**10).double(), rtol=1e-12)


def test_the_opposite_sign_prefers_the_weakest_sites(pho4):
    environment, data = pho4
    other = EnergyData(weakest_best=True)
    other._scores = environment.describe(), 1 - data.scores(environment)
    other.ready(environment, CPU)
    worst = other.modes(environment)[:1]
    assert environment.decode(worst) == ["AATTTAAATT"]
    assert float(other.reward(worst).exp()) == pytest.approx(10, rel=1e-5)
    assert other.columns(environment, ["AATTTAAATT"])["ddg"] == ["0.3822"]


def test_energies_of_ones_own(tmp_path):
    path = tmp_path / "energies.csv"
    words = ["".join(pair) for pair in product("AC", repeat=2)]
    path.write_text(
        "kmer,ddg\n" + "".join(f"{w},{e}\n" for w, e in zip(words, (1, 0, -1, 2), strict=True))
    )
    environment = Sequence("AC", 2)
    data = ready(EnergyData(str(path), steepness=2, exponent=1, best_reward=1), environment)
    s = 1 / (1 + np.exp(2 * np.array([1, 0, -1, 2])))
    found = data.reward(environment.encode(words)).exp()
    assert np.allclose(found, s / s.max(), rtol=1e-6)
    assert environment.decode(data.modes(environment)) == ["CA"]
    assert data.columns(environment, words) == {"ddg": ["1.0000", "0.0000", "-1.0000", "2.0000"]}
    with pytest.raises(InputError, match="steepness must be positive, got -3"):
        EnergyData(steepness=-3)
    with pytest.raises(InputError, match="n_modes must be at least 1, got 0"):
        EnergyData(n_modes=0)
    with pytest.raises(InputError, match="EnergyData needs sequences of letters, got Hypergrid"):
        EnergyData(str(path)).make_reward(Hypergrid(2, 2))


def test_tables_of_another_kind_are_refused():
    with pytest.raises(InputError, match="pho4: is a table of energies, expected E-scores"):
        KmerData("pho4").path  # noqa: B018
    with pytest.raises(InputError, match="six6: is a table of E-scores, expected energies"):
        EnergyData("six6").path  # noqa: B018
    with pytest.raises(InputError, match=r"no table of that name \(pho4, cbf1\)"):
        EnergyData("pho5").path  # noqa: B018


def test_the_best_in_order_of_place():
    scores = torch.tensor([1.0, 3, 2, 3, 2, 2])
    assert [best_of(scores, n).tolist() for n in (1, 2, 4)] == [[1], [1, 3], [1, 3, 2, 4]]


# Bits.


def words_of(bits):
    return ["".join(map(str, row)) for row in bits.tolist()]


@pytest.mark.parametrize(("alphabet", "length"), [("bits", 16), ("bits2", 8), ("bits8", 2)])
@pytest.mark.parametrize("codebook", ["words", "neighbours"])
def test_reward_of_bits(alphabet, length, codebook):
    environment = Sequence(alphabet, length)
    data = ready(BitsData(codebook, n_modes=7, exponent=0.5), environment)
    modes = [text.replace(" ", "") for text in environment.decode(data.modes(environment))]
    if codebook == "words":
        assert len(set(modes)) == 7
        assert {mode[i : i + 8] for mode in modes for i in (0, 8)} <= set(WORDS)
    else:
        step = (2**16 - 64) // 5
        assert [int(m, 2) for m in modes] == [g * step + k for g in (1, 2, 3, 4) for k in range(16)]
    objects = torch.randint(len(environment.symbols), (50, length))
    texts = [text.replace(" ", "") for text in environment.decode(objects)]
    least = [min(sum(a != b for a, b in zip(t, m, strict=True)) for m in modes) for t in texts]
    assert torch.allclose(data.reward(objects), -0.5 * torch.tensor(least).float())
    assert data.reward(data.modes(environment)).tolist() == [0] * len(modes)


def test_long_bits():
    environment = Sequence("bits8", 15)
    data = ready(BitsData(), environment)
    modes, n = data.modes(environment), 120
    assert len(modes.unique(dim=0)) == 60
    assert torch.equal(modes, BitsData().modes(environment))  # drawn alike
    assert not torch.equal(modes, BitsData(seed=1).modes(environment))
    held = data.held_out(environment)
    spelling = bits_of(environment)
    flips = (spelling[held] != spelling[modes.repeat_interleave(n, 0)]).sum((1, 2))
    assert flips.tolist() == list(range(n)) * 60
    same = BitsData().modes(Sequence("bits", n))
    assert words_of(same) == words_of(spelling[modes].flatten(1))
    # Around the first mode there is no other one.
    each = ModeDistance(data._modes(environment), spelling).to_each(held[:31])
    near = int((each.min(0).values <= 30).sum())
    found = data.measure(environment, held[:31], torch.full((31,), 1 / 31), None)
    assert found == {"modes_near": near}
    assert data.measure(environment, held[:31], torch.full((31,), 1 / 31), torch.ones(31)) == {}


def test_sampled_evaluation_of_bits():
    module = tiny(Sequence("bits8", 2), BitsData(n_modes=4, exponent=0.5, near=3), exact_limit=0)
    found = module.evaluate().metrics
    assert {"modes_near", "correlation", "log_z_bound"} <= set(found)
    assert found["modes_near"] == 4
    assert -1 <= found["correlation"] <= 1


@pytest.mark.parametrize("order", ["append", "prepend-append"])
def test_estimated_probability_agrees_with_the_exact_one(order, monkeypatch):
    """Without a choice of history any number of them is exact; else many come close."""
    monkeypatch.setattr(evaluate, "HISTORIES", 10 if order == "append" else 4000)
    environment = Sequence("bits", 6, order)
    module = tiny(environment, FunctionData(lambda texts: [1.0] * len(texts)))
    for parameter in module.policy.parameters():
        parameter.data *= 3
    indices, law = terminating_distribution(environment, module.policy)
    objects = torch.randint(2, (20, 6))
    found = evaluate.estimated_log_probability(module, objects)
    exact = law[torch.searchsorted(indices, environment.state_index(objects))].log()
    assert torch.allclose(found, exact, atol=1e-5 if order == "append" else 0.1)


def test_rank_correlation():
    x = torch.tensor([1.0, 2, 3, 4])
    assert metrics.rank_correlation(x, x.exp()) == pytest.approx(1)
    assert metrics.rank_correlation(x, -x) == pytest.approx(-1)
    # Ranks 1.5, 1.5, 3, 4 and 1, 2, 4, 3: covariance 4, variances 4.5 and 5.
    y = torch.tensor([5.0, 5, 7, 9])
    z = torch.tensor([1.0, 2, 9, 3])
    assert metrics.rank_correlation(y, z) == pytest.approx(3.5 / np.sqrt(4.5 * 5))


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ({"codebook": "other"}, None, "codebook must be words or neighbours, got 'other'"),
        ({"exponent": 0}, None, "must be positive, got 60, 0 and 30"),
        ({}, Sequence("DNA", 8), "needs a Sequence with alphabet bits, bits2, bits4 or bits8, got"),
        ({}, Hypergrid(2, 2), "needs a Sequence with alphabet bits"),
        ({}, Sequence("bits", 12), "needs a multiple of 8 bits, got 12; set length"),
        ({"n_modes": 26}, Sequence("bits", 16), "16 bits have 25 modes of words, got n_modes=26"),
        ({"codebook": "neighbours"}, Sequence("bits", 6), "needs 7 to 62 bits, got 6"),
    ],
)
def test_bad_options_of_bits_are_refused(arguments, environment, message):
    with pytest.raises(InputError, match=message):
        BitsData(**arguments).make_reward(environment)


# The scripts of the cards.


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("kind", [float, np.float32])
def test_keys_and_values_of_a_pickle(tmp_path, protocol, kind):
    path = tmp_path / "gaps.pkl"
    expected = {"00000": 1.5, "0000a": -2.25, "aaaaa": 0.0, "11111": 17.5}
    path.write_bytes(pickle.dumps({key: kind(v) for key, v in expected.items()}, protocol))
    gaps = script("qm9_blocks").gaps
    assert dict(gaps(path)) == expected
    path.write_bytes(b"no pickle")
    with pytest.raises(InputError, match="cannot be read as a pickle"):
        dict(gaps(path))


@pytest.mark.slow
def test_prepare_script_of_qm9(qm9_file, tmp_path):
    """Its molecules are all the published ones."""
    import pyarrow.parquet as pq

    prepare = script("qm9_blocks").prepare
    gaps = dict(zip(qm9_file["key"], np.array(qm9_file["gap"], np.float32), strict=True))
    (tmp_path / "all.pkl").write_bytes(pickle.dumps(gaps))
    prepare(tmp_path / "all.pkl", tmp_path / "all.parquet")
    made = pq.read_table(tmp_path / "all.parquet").to_pydict()
    assert made == {name: qm9_file[name] for name in ("key", "smiles", "gap")}
    assert len(set(made["smiles"])) == 111_550
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(gaps | {"00000": np.float32(1)}))
    with pytest.raises(InputError, match="every chain, but not with the published gaps"):
        prepare(tmp_path / "other.pkl", tmp_path / "other.parquet")
    del gaps["0000a"]
    (tmp_path / "fewer.pkl").write_bytes(pickle.dumps(gaps))
    with pytest.raises(InputError, match="lacks 1 chains, the first being 0000a"):
        prepare(tmp_path / "fewer.pkl", tmp_path / "fewer.parquet")


@pytest.mark.slow
def test_prepare_script_of_pho4(data_folder, tmp_path):
    tables = {name: table_scores(name) for name in ("pho4", "cbf1")}
    path = tmp_path / "list.csv"
    rows = zip(map("".join, product("ACGT", repeat=10)), *tables.values(), strict=True)
    lines = [f"{kmer},{a + 1:.5f},{b:.5f}" for kmer, a, b in rows]
    path.write_text("flank,Pho4_ddG,Cbf1_ddG\n" + "\n".join(lines) + "\n")
    script("pho4").prepare(path, tmp_path / "pho4.parquet")
    for name, scores in tables.items():
        made = kmer_scores(tmp_path / "pho4.parquet", score=f"{name}_ddg")
        assert np.array_equal(made, scores)


@pytest.mark.slow
def test_prepare_script_of_seh(data_folder, tmp_path, monkeypatch):
    """From a pickle that holds the trees as scikit-learn does, as far as is known."""
    module = script("seh_blocks")
    nodes = np.zeros((100, 61), module.NODE)
    names = {"left": "children_left", "right": "children_right", "value": "value"}
    with np.load(data_folder / "sehstr" / "sehstr_gbtr_trees.npz", allow_pickle=False) as file:
        feature = file["feature"].astype(int)
        nodes["is_leaf"], nodes["feature"] = feature < 0, feature.clip(0)
        for field, name in names.items():
            nodes[field] = file[name].astype(nodes[field].dtype)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"trees": list(nodes), "other": np.arange(5.0)}))
    module.prepare(path, tmp_path / "sehstr_gbtr_leaves.npz")
    monkeypatch.setenv("GFN_DESIGN_CACHE", str(tmp_path))
    monkeypatch.delenv("GFN_DESIGN_DATA")
    assert len(seh.seh_scores()) == 18**6
    nodes["value"][0, 60] += 0.5
    path.write_bytes(pickle.dumps(list(nodes)))
    with pytest.raises(InputError, match="does not give the published predictions"):
        module.prepare(path, tmp_path / "other.npz")
    path.write_bytes(pickle.dumps(list(nodes[1:])))
    with pytest.raises(InputError, match="holds 99 trees of 61 nodes, expected 100"):
        module.prepare(path, tmp_path / "other.npz")

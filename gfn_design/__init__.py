"""Design molecules and biological sequences with GFlowNets trained by policy gradients."""

from importlib import import_module
from typing import TYPE_CHECKING

# Public name -> the module that defines it. Imported on first use, so that the command line can
# answer before torch is loaded; a configuration may name these without their module.
_EXPORTS = {
    "Batches": "gfn_design.training.options",
    "Conditions": "gfn_design.training.condition_ranges",
    "LearnedBackward": "gfn_design.training.options",
    "LibraryData": "gfn_design.data.library",
    "MaximumLikelihood": "gfn_design.objectives.likelihood",
    "MaxEntropyBackward": "gfn_design.training.options",
    "Networks": "gfn_design.training.options",
    "Optimiser": "gfn_design.training.options",
    "Speed": "gfn_design.training.options",
    "UniformBackward": "gfn_design.training.options",
    "ActorCritic": "gfn_design.objectives.actor_critic",
    "ActionLayout": "gfn_design.environments.graph",
    "Atoms": "gfn_design.environments.molecules.atoms",
    "BackwardActorCritic": "gfn_design.objectives.backward",
    "BackwardBalance": "gfn_design.objectives.backward",
    "BackwardObjective": "gfn_design.objectives.base",
    "BayesianNetworkData": "gfn_design.data.bayesian",
    "BitsData": "gfn_design.data.bits",
    "BlocksData": "gfn_design.data.blocks",
    "Candidates": "gfn_design.designer",
    "ClippedPolicy": "gfn_design.objectives.ppo",
    "CommandData": "gfn_design.data.functions",
    "Constraint": "gfn_design.environments.sequences.constraints",
    "EndsWith": "gfn_design.environments.sequences.constraints",
    "Forbid": "gfn_design.environments.sequences.constraints",
    "GC": "gfn_design.environments.sequences.constraints",
    "LongestRun": "gfn_design.environments.sequences.constraints",
    "NoSelfComplement": "gfn_design.environments.sequences.constraints",
    "NoStop": "gfn_design.environments.sequences.constraints",
    "Require": "gfn_design.environments.sequences.constraints",
    "StartsWith": "gfn_design.environments.sequences.constraints",
    "Template": "gfn_design.environments.sequences.constraints",
    "Edits": "gfn_design.environments.sequences.edits",
    "DAG": "gfn_design.environments.dag",
    "DataModule": "gfn_design.data.base",
    "DetailedBalance": "gfn_design.objectives.balance",
    "DivergenceError": "gfn_design.training.divergence",
    "EnergyData": "gfn_design.data.energy",
    "Environment": "gfn_design.environments.base",
    "Exploration": "gfn_design.sampling.exploration",
    "FineTuning": "gfn_design.training.fine_tuning",
    "FlowMatching": "gfn_design.objectives.flow_matching",
    "FunctionData": "gfn_design.data.functions",
    "Fragment": "gfn_design.environments.molecules.vocabulary",
    "Fragments": "gfn_design.environments.molecules.fragments",
    "GFlowNet": "gfn_design.gflownet",
    "GRU": "gfn_design.policies.recurrent",
    "EhrlichData": "gfn_design.data.ehrlich",
    "EhrlichSequence": "gfn_design.environments.sequences.ehrlich",
    "Transitions": "gfn_design.environments.sequences.ehrlich",
    "CausalTransformer": "gfn_design.policies.attention",
    "Convolution": "gfn_design.policies.convolution",
    "Graph": "gfn_design.environments.graph",
    "GraphEnvironment": "gfn_design.environments.graph",
    "GraphNetwork": "gfn_design.policies.graph",
    "Guide": "gfn_design.objectives.guides",
    "Hypergrid": "gfn_design.environments.hypergrid",
    "HypergridData": "gfn_design.data.tasks",
    "InputError": "gfn_design.errors",
    "KmerData": "gfn_design.data.tasks",
    "LocalSearch": "gfn_design.sampling.local_search",
    "LogReward": "gfn_design.rewards.reward",
    "LogVariance": "gfn_design.objectives.balance",
    "MLP": "gfn_design.policies.mlp",
    "ModifiedDetailedBalance": "gfn_design.objectives.balance",
    "MoleculeData": "gfn_design.data.molecules",
    "MotifData": "gfn_design.data.tasks",
    "Objective": "gfn_design.objectives.base",
    "PatternMLP": "gfn_design.policies.patterns",
    "PessimisticLikelihood": "gfn_design.objectives.backward",
    "Policy": "gfn_design.policies.policy",
    "PrioritizedReplay": "gfn_design.sampling.prioritized",
    "Replay": "gfn_design.sampling.replay",
    "Reward": "gfn_design.rewards.reward",
    "RewardGuide": "gfn_design.objectives.guides",
    "SEHProxy": "gfn_design.rewards.seh",
    "SachsData": "gfn_design.data.bayesian",
    "StepLogProbs": "gfn_design.sampling.log_probabilities",
    "Selfies": "gfn_design.environments.molecules.selfies",
    "Smiles": "gfn_design.environments.molecules.smiles",
    "Sequence": "gfn_design.environments.sequences.sequence",
    "SequenceData": "gfn_design.data.sequences",
    "SequenceTerm": "gfn_design.data.sequence_terms",
    "SoftQ": "gfn_design.objectives.soft_q",
    "StopGuide": "gfn_design.objectives.guides",
    "SubTrajectoryBalance": "gfn_design.objectives.sub_trajectories",
    "Term": "gfn_design.data.molecule_terms",
    "Trajectories": "gfn_design.sampling.trajectories",
    "TrajectoryBalance": "gfn_design.objectives.balance",
    "TrajectoryLikelihood": "gfn_design.objectives.backward",
    "TrustRegion": "gfn_design.training.trust_region",
    "block_smiles": "gfn_design.environments.molecules.chains",
    "check_environment": "gfn_design.contract.check",
    "draw_candidates": "gfn_design.results.candidates",
    "log_probabilities": "gfn_design.sampling.log_probabilities",
    "sample": "gfn_design.sampling.trajectories",
    "sample_backward": "gfn_design.sampling.histories",
    "target_distribution": "gfn_design.evaluation.exact",
    "terminating_distribution": "gfn_design.evaluation.exact",
}
_RENAMED = {"score": "log_probabilities", "Scored": "StepLogProbs"}  # in the release before

__version__ = "0.1.0"
__all__ = sorted(_EXPORTS)

if TYPE_CHECKING:
    from gfn_design.contract.check import check_environment
    from gfn_design.data.base import DataModule
    from gfn_design.data.bayesian import BayesianNetworkData, SachsData
    from gfn_design.data.bits import BitsData
    from gfn_design.data.blocks import BlocksData
    from gfn_design.data.ehrlich import EhrlichData
    from gfn_design.data.energy import EnergyData
    from gfn_design.data.functions import CommandData, FunctionData
    from gfn_design.data.library import LibraryData
    from gfn_design.data.molecule_terms import Term
    from gfn_design.data.molecules import MoleculeData
    from gfn_design.data.sequence_terms import SequenceTerm
    from gfn_design.data.sequences import SequenceData
    from gfn_design.data.tasks import HypergridData, KmerData, MotifData
    from gfn_design.designer import Candidates
    from gfn_design.environments.base import Environment
    from gfn_design.environments.dag import DAG
    from gfn_design.environments.graph import ActionLayout, Graph, GraphEnvironment
    from gfn_design.environments.hypergrid import Hypergrid
    from gfn_design.environments.molecules.atoms import Atoms
    from gfn_design.environments.molecules.chains import block_smiles
    from gfn_design.environments.molecules.fragments import Fragments
    from gfn_design.environments.molecules.selfies import Selfies
    from gfn_design.environments.molecules.smiles import Smiles
    from gfn_design.environments.molecules.vocabulary import Fragment
    from gfn_design.environments.sequences.constraints import (
        GC,
        Constraint,
        EndsWith,
        Forbid,
        LongestRun,
        NoSelfComplement,
        NoStop,
        Require,
        StartsWith,
        Template,
    )
    from gfn_design.environments.sequences.edits import Edits
    from gfn_design.environments.sequences.ehrlich import EhrlichSequence, Transitions
    from gfn_design.environments.sequences.sequence import Sequence
    from gfn_design.errors import InputError
    from gfn_design.evaluation.exact import target_distribution, terminating_distribution
    from gfn_design.gflownet import GFlowNet
    from gfn_design.objectives.actor_critic import ActorCritic
    from gfn_design.objectives.backward import (
        BackwardActorCritic,
        BackwardBalance,
        PessimisticLikelihood,
        TrajectoryLikelihood,
    )
    from gfn_design.objectives.balance import (
        DetailedBalance,
        LogVariance,
        ModifiedDetailedBalance,
        TrajectoryBalance,
    )
    from gfn_design.objectives.base import BackwardObjective, Objective
    from gfn_design.objectives.flow_matching import FlowMatching
    from gfn_design.objectives.guides import Guide, RewardGuide, StopGuide
    from gfn_design.objectives.likelihood import MaximumLikelihood
    from gfn_design.objectives.ppo import ClippedPolicy
    from gfn_design.objectives.soft_q import SoftQ
    from gfn_design.objectives.sub_trajectories import SubTrajectoryBalance
    from gfn_design.policies.attention import CausalTransformer
    from gfn_design.policies.convolution import Convolution
    from gfn_design.policies.graph import GraphNetwork
    from gfn_design.policies.mlp import MLP
    from gfn_design.policies.patterns import PatternMLP
    from gfn_design.policies.policy import Policy
    from gfn_design.policies.recurrent import GRU
    from gfn_design.results.candidates import draw_candidates
    from gfn_design.rewards.reward import LogReward, Reward
    from gfn_design.rewards.seh import SEHProxy
    from gfn_design.sampling.exploration import Exploration
    from gfn_design.sampling.histories import sample_backward
    from gfn_design.sampling.local_search import LocalSearch
    from gfn_design.sampling.log_probabilities import StepLogProbs, log_probabilities
    from gfn_design.sampling.prioritized import PrioritizedReplay
    from gfn_design.sampling.replay import Replay
    from gfn_design.sampling.trajectories import Trajectories, sample
    from gfn_design.training.condition_ranges import Conditions
    from gfn_design.training.divergence import DivergenceError
    from gfn_design.training.fine_tuning import FineTuning
    from gfn_design.training.options import (
        Batches,
        LearnedBackward,
        MaxEntropyBackward,
        Networks,
        Optimiser,
        Speed,
        UniformBackward,
    )
    from gfn_design.training.trust_region import TrustRegion


def __getattr__(name: str) -> object:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    if name in _RENAMED:
        raise ImportError(f"gfn_design.{name} is gfn_design.{_RENAMED[name]} now")
    raise AttributeError(f"module 'gfn_design' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

"""What to cite of what was used."""

from collections.abc import Mapping, Sequence
from typing import Any

from gfn_design.proxies.proxy import Proxy

ALWAYS = (
    "P. Niu, S. Wu, M. Fan, X. Qian. GFlowNet Training by Policy Gradients. ICML 2024.",
    "E. Bengio et al. Flow Network based Generative Models for Non-Iterative Diverse Candidate "
    "Generation. NeurIPS 2021.",
)
BY_NAME = {  # of a class or a value that the configuration names
    "TrajectoryBalance": "N. Malkin et al. Trajectory balance: Improved credit assignment in "
    "GFlowNets. NeurIPS 2022.",
    "SubTrajectoryBalance": "K. Madan et al. Learning GFlowNets from partial episodes for improved "
    "convergence and stability. ICML 2023.",
    "DetailedBalance": "Y. Bengio et al. GFlowNet Foundations. JMLR 2023.",
    "Fragments": "J. Degen et al. On the Art of Compiling and Using 'Drug-Like' Chemical Fragment "
    "Spaces (BRICS). ChemMedChem 2008.",
    "Selfies": "M. Krenn et al. Self-referencing embedded strings (SELFIES). Mach. Learn.: Sci. "
    "Technol. 2020.",
    "SA": "P. Ertl, A. Schuffenhauer. Estimation of synthetic accessibility score. J. Cheminf. "
    "2009.",
    "QED": "G. R. Bickerton et al. Quantifying the chemical beauty of drugs. Nat. Chem. 2012.",
    "PAINS": "J. B. Baell, G. A. Holloway. New substructure filters for removal of pan assay "
    "interference compounds (PAINS). J. Med. Chem. 2010.",
    "BRENK": "R. Brenk et al. Lessons learnt from assembling screening libraries. ChemMedChem "
    "2008.",
}
BY_MODEL = {
    "Gaussian process": "L. Ralaivola et al. Graph kernels for chemical informatics (Tanimoto's "
    "kernel). Neural Networks 2005.",
    "random forest": "L. Breiman. Random Forests. Machine Learning 2001.",
    "gradient boosting": "G. Ke et al. LightGBM (gradient boosting of histograms). NeurIPS 2017.",
}
OF_PROXIES = "V. Vovk, A. Gammerman, G. Shafer. Algorithmic Learning in a Random World. 2005."


def citations(config: Mapping[str, Any], proxies: Sequence[Proxy]) -> list[str]:
    """One line for each work that a run rests on.

    Args:
        config: Of the run.
        proxies: That it asked.
    """
    words = set(_words(config))
    found = [*ALWAYS, *(line for name, line in BY_NAME.items() if name in words)]
    for proxy in proxies:
        names = (proxy.about.model, proxy.about.second)
        found += [line for name, line in BY_MODEL.items() if name in names]
    if proxies:
        found.append(OF_PROXIES)
    return list(dict.fromkeys(found))


def _words(value: Any) -> list[str]:
    """All texts of a configuration, of paths of classes the last part."""
    if isinstance(value, Mapping):
        return [word for item in value.values() for word in _words(item)]
    if isinstance(value, list | tuple):
        return [word for item in value for word in _words(item)]
    return [value.rpartition(".")[2]] if isinstance(value, str) else []

"""An exact Gaussian process on similarities of counts."""

import numpy as np
from numpy.typing import NDArray

from gfn_design.proxies.inputs import Counts, Reference

Floats = NDArray[np.float64]
NOISES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # variances of noise, in units of the signal's
MOST = 4000  # objects that are learned from, chosen evenly; the cost grows as their cube


class GaussianProcess:
    """Regression with Tanimoto's kernel (Ralaivola et al. 2005), mean and variance of the data.

    The noise is that of a few with the largest marginal likelihood (Rasmussen and Williams 2006,
    equation 5.8), of which the signal's variance follows in closed form.
    """

    def __init__(self) -> None:
        self.reference = Reference(np.zeros((0, 0), np.uint8))
        self.mean, self.signal, self.noise = 0.0, 1.0, 1.0
        self.weights: Floats = np.zeros(0)
        self.lower: Floats = np.zeros((0, 0))

    def fit(self, counts: Counts, values: Floats) -> "GaussianProcess":
        """Learn from ``uint8[n, features]`` and ``float64[n]``."""
        from scipy.linalg import cho_solve, cholesky

        if len(values) > MOST:
            some = np.linspace(0, len(values) - 1, MOST).astype(int)
            counts, values = counts[some], values[some]
        self.reference, self.mean = Reference(counts), float(values.mean())
        centred = values - self.mean
        kernel = self.reference.similarity(counts).astype(np.float64)
        best = -np.inf
        for noise in NOISES:
            lower = cholesky(kernel + noise * np.eye(len(kernel)), lower=True)
            weights = cho_solve((lower, True), centred)
            signal = max(float(centred @ weights) / len(centred), 1e-12)
            likelihood = -0.5 * len(centred) * np.log(signal) - np.log(np.diag(lower)).sum()
            if likelihood > best:
                best, self.noise, self.signal = likelihood, noise, signal
                self.weights, self.lower = weights, lower
        return self

    def predict(self, counts: Counts) -> tuple[Floats, Floats]:
        """Mean and standard deviation of a new measurement, ``float64[n]`` each."""
        from scipy.linalg import solve_triangular

        kernel = self.reference.similarity(counts).astype(np.float64)
        mean = self.mean + kernel @ self.weights
        explained = (solve_triangular(self.lower, kernel.T, lower=True) ** 2).sum(0)
        variance = self.signal * (np.maximum(1 - explained, 0) + self.noise)
        return mean, np.sqrt(variance)

    def sample(self, counts: Counts, n: int, rng: np.random.Generator) -> Floats:
        """Possible truths about objects, without the noise of measurements, drawn together.

        Args:
            counts: ``uint8[m, features]``.
            n: How many to draw.
            rng: Of the draws.

        Returns:
            ``float64[n, m]``.
        """
        from scipy.linalg import solve_triangular

        kernel = self.reference.similarity(counts).astype(np.float64)
        explained = solve_triangular(self.lower, kernel.T, lower=True)
        among = Reference(counts).similarity(counts).astype(np.float64)
        covariance = self.signal * (among - explained.T @ explained)
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(values.clip(min=0))
        return self.mean + kernel @ self.weights + rng.normal(size=(n, len(counts))) @ root.T

"""Constructed evidence of claims: rows of runs with known values, and how claims open them."""

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

SEEDS = (0, 1, 2)


def runs(
    values: Mapping[str, Callable[[float, int], object]], knob=(0.01, 0.03, 0.1, 0.3), seeds=SEEDS
) -> xr.Dataset:
    """Runs of one row; each variable is a function of the knob's value and the seed."""
    pairs = [(value, seed) for value in knob for seed in seeds]
    variables = {}
    for name, of in values.items():
        array = np.array([of(value, seed) for value, seed in pairs], float)
        dims = ("call", "neuron") if name.endswith(("csi", "bsi")) else ("call",)
        variables[name] = (("run", *dims)[: array.ndim], array)
    at = np.array([value for value, _ in pairs], float)
    return xr.Dataset(variables, {
        "lr": ("run", at), "value": ("run", at),
        "seed": ("run", np.array([seed for _, seed in pairs])),
        "status": ("run", np.full(len(pairs), "converged", object)),
    })  # fmt: skip


def opened(rows: Mapping[tuple, xr.Dataset], profile: str = "desk"):
    """What claims call: rows by (experiment, data set, model, hyperparameter), all statistics."""

    def find(experiment, asked, key, statistics=None):
        return rows.get((experiment, *key)) if asked == profile else None

    find.root = None
    return find


def wobble(seed: int, size: float = 1e-3) -> float:
    """A small difference between seeds."""
    return size * (seed - 1)

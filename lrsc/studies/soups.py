"""Soups of networks that were trained at several LRs from the same weights, beside the networks.

Made from the results and weights of runs that are done on this machine.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from lrsc import measures, results
from lrsc.config import RunConfig
from lrsc.measures.result import prune_samples
from lrsc.runs import load
from lrsc.studies.contrast import network_of, runs_of
from lrsc.training import uniform_soup

NAMES = tuple(n for n in (*measures.OF_NETWORK, *measures.OF_TRAINING) if n != "group_accuracy")
_HELD = (
    "kind", "lr", "seed", "dataset", "model", "profile", "source_id", "status", "n_train", "device",
    "made_by", "unbiased_accuracy", "prunability", "activation_compressibility",
)  # fmt: skip


def compare(
    dataset: str,
    model: str,
    lrs: Sequence[float],
    profile: str = "desk",
    *,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
) -> xr.Dataset:
    """Measures of a soup a seed, and of the networks that it has the mean weights of.

    lrs: at least two. Networks of a seed start from the same weights and differ in the LR; a seed
    counts where its runs at all LRs are done here and none diverged. Long form: the coordinate
    `kind` is 'network' or 'soup', the LR of a soup is NaN. Networks are not measured anew. Raises
    ValueError where results or weights are missing.
    """
    lrs = sorted(set(lrs))
    if len(lrs) < 2:
        raise ValueError(f"lrs has {len(lrs)} learning rates, expected at least two different ones")
    of_lr = [_by_seed(runs_of(dataset, model, lr, profile, root)) for lr in lrs]
    seeds = sorted(set.intersection(*(set(runs) for runs in of_lr)))
    if not seeds:
        raise ValueError(
            f"no seed of {dataset!r} and {model!r} has a run that did not diverge at each of LR "
            f"{', '.join(f'{lr:g}' for lr in lrs)}: lrsc sweep with these LRs, or name fewer"
        )
    parts = []
    for seed in seeds:
        runs = [of_one[seed] for of_one in of_lr]
        config = RunConfig.from_json(runs[0].attrs["config"])
        data = load(config, data_root)
        soup = uniform_soup([network_of(run, root, data_root) for run in runs], data.train)
        measured = measures.measure(soup, data, prune_samples=prune_samples(config, data))
        parts += [_labelled(results.running(run), "network", lr, seed, run.attrs["run_id"])
                  for run, lr in zip(runs, lrs, strict=True)]  # fmt: skip
        parts.append(_labelled(measured, "soup", np.nan, seed, ""))
    found = xr.concat(parts, "run", join="outer", combine_attrs="override")
    found = results.all_with(
        found, dataset=dataset, model=model, profile=profile, source_id=data.source_id,
        status="converged", device=runs[0].attrs["device"], n_train=len(data.train),
    )  # fmt: skip
    listed = ",".join(f"{lr:g}" for lr in lrs)
    found.attrs = {
        "n_test": len(data.test), "lrs": lrs, "lrsc_version": runs[0].attrs["lrsc_version"],
        "commit": results.commit(),
        "made_by": f"lrsc results soup --dataset {dataset} --model {model} --profile {profile} "
        f"--lrs {listed}",
    }  # fmt: skip
    return found


def stored(root: str | Path | None = None) -> dict[str, xr.Dataset | str]:
    """Every comparison, local or shipped, by its name; or why its file cannot be used."""
    found: dict[str, xr.Dataset | str] = {}
    for name in results.derived_names("soup", root):
        try:
            one = results.derived(name, _HELD, root)
        except ValueError as error:
            found[name] = str(error)
        else:
            if one is not None:
                found[name] = one
    return found


def gains(found: xr.Dataset, name: str) -> np.ndarray:
    """What each seed's soup has of a measure more than its networks have on average."""
    soup = found["kind"].values == "soup"
    values, seed = found[name].values, found["seed"].values
    return np.array([
        values[soup & (seed == s)][0] - values[~soup & (seed == s)].mean() for s in np.unique(seed)
    ])  # fmt: skip


def _by_seed(runs: Sequence[xr.Dataset]) -> dict[int, xr.Dataset]:
    return {
        RunConfig.from_json(run.attrs["config"]).seed: run
        for run in runs if run.attrs["status"] != "diverged"
    }  # fmt: skip


def _labelled(measured: xr.Dataset, kind: str, lr: float, seed: int, run_id: str) -> xr.Dataset:
    kept = measured[[n for n in NAMES if n in measured and set(measured[n].dims) <= {"kappa"}]]
    return kept.drop_vars("statistics", errors="ignore").assign_coords(
        kind=kind, lr=lr, seed=seed, run_id=run_id
    )

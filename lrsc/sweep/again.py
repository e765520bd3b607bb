"""Stored runs measured again, without training: from their weights, or their raw material."""

from collections.abc import Iterable
from pathlib import Path

import torch
import xarray as xr

from lrsc import datasets, measures, models, results
from lrsc.config import RunConfig
from lrsc.measures.result import of_networks, prune_samples, samples
from lrsc.runs import check_file, load, load_checkpoint


def measure_again(
    *, root: str | Path | None = None, data_root: str | Path | None = None
) -> Iterable[str]:
    """Recompute the measures of all stored local runs; yields one line per run.

    Uses the weights if they are kept; else recomputes all but pruning from the raw material.
    """
    for old in results.local_runs(root):
        if old.attrs["status"] == "diverged":
            continue
        name, config = old.attrs["run_id"], RunConfig.from_json(old.attrs["config"])
        check_file(config)
        weights = results.weights_path(name, root)
        if weights.is_file():
            net, dataset = load_checkpoint(weights, config, data_root)
            if models.same_with_channels_last(net, dataset.train.inputs(dataset.train.x[:2])):
                net.to(memory_format=torch.channels_last)  # as it was measured after training
            pruned_on = prune_samples(config, dataset)
            seen = measures.observe(net, dataset, samples(pruned_on))
            (fresh,) = of_networks([net], dataset, pruned_on, [seen])
            old, source = old.assign_attrs(prune_samples=pruned_on), "weights"
        else:
            fresh = _from_raw_material(old, load(config, data_root))
            source = "raw material; pruning, and other than running statistics, as they were"
        found = old.drop_vars([n for n in fresh.variables if n in old]).merge(fresh)
        found = found.assign_attrs(old.attrs | {"measured_commit": results.commit()})
        results.save(found, results.run_path(name, root))
        yield f"{name} measured again from {source}"


def _from_raw_material(old: xr.Dataset, dataset: datasets.BiasedDataset) -> xr.Dataset:
    tensor = lambda name: torch.from_numpy(old[name].values)  # noqa: E731
    bias = tensor("sample_bias") if "sample_bias" in old else None
    found = measures.accuracy_measures(tensor("logits"), dataset.test, dataset.train)
    z = tensor("representation")
    if bool(z.isfinite().all()):  # older versions kept numbers beyond 65 504 as infinity
        found |= measures.representation_measures(z, tensor("sample_label"), bias)
    fresh = measures.as_dataset(found)
    for name in [n for n in fresh if n in old and "statistics" in old[n].dims]:
        # raw material is of running statistics; without batch normalisation all are the same
        model = RunConfig.from_json(old.attrs["config"]).model
        alike = model not in models.NORMALISED and models.is_ours(model)
        kept = old[name].copy()
        kept.loc[{"statistics": slice(None) if alike else "running"}] = fresh[name]
        fresh[name] = kept
    return fresh

"""A run's identity, its data, and its network: from a configuration to what it names."""

import dataclasses
import functools
from pathlib import Path

from torch import nn

from lrsc import datasets, errors, models
from lrsc.config import RunConfig, run_id
from lrsc.errors import check_names
from lrsc.models import weights


def identify(config: RunConfig, data_root: str | Path | None = None) -> str:
    """The run's name: `config.run_id` with the resolved source and the versions of the code.

    Options that only repeat a default are dropped first, so that they name no other run.
    Raises ValueError for options that do not exist, before any work.
    """
    plain = without_defaults(config)
    source = datasets.resolve(config.dataset, data_root, config.source)
    versions = {"data": datasets.version(config.dataset), "model": models.VERSIONS[config.model]}
    return run_id(plain, source.key, versions)


def without_defaults(config: RunConfig) -> RunConfig:
    """The run without options that repeat a default; ValueError for options that do not exist."""
    known = datasets.options(config.dataset)
    datasets.check_options(config.dataset, dict(config.data))
    check_names("model", [config.model], models.BUILDERS)
    usual = models.BUILDERS[config.model][1] | models.options_for(config.model, config.dataset)
    check_names(f"option of model {config.model!r}", dict(config.model_options), usual)
    return dataclasses.replace(
        config,
        data={k: v for k, v in config.data if v != known[k]},
        model_options={k: v for k, v in config.model_options if v != usual[k]},
    )


def load(config: RunConfig, data_root: str | Path | None = None) -> datasets.BiasedDataset:
    """The data set of a run; the last one is kept, as the runs of a sweep mostly share it."""
    return _load(config.dataset, config.data, config.source, data_root)


@functools.lru_cache(maxsize=1)
def _load(name, data, source, data_root) -> datasets.BiasedDataset:
    return datasets.load(name, root=data_root, source=source, **dict(data))


def load_checkpoint(
    path: str | Path, config: RunConfig, data_root: str | Path | None = None
) -> tuple[nn.Module, datasets.BiasedDataset]:
    """A model with the weights of a state_dict file or checkpoint, and the data set of its run.

    Only tensors are read (`weights_only`), of what `models.weights.unwrapped` finds. Raises
    ValueError for a file that is missing, damaged or of another model.
    """
    dataset = load(config, data_root)
    options = models.options_for(config.model, config.dataset) | dict(config.model_options)
    options.pop("weights", None)  # all weights are in the checkpoint
    net = models.build(config.model, dataset.input_shape, dataset.n_classes, **options)
    try:
        weights.fill(net, errors.path("path", path))
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} does not hold weights of {config.model!r} for {config.dataset!r}: {error}"
        ) from error
    return net, dataset

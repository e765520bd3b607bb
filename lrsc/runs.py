"""A run's identity, its data, and its network: from a configuration to what it names."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from lrsc import datasets, errors, models
from lrsc.config import RunConfig, run_id
from lrsc.datasets import imports
from lrsc.datasets.raw.download import digest
from lrsc.models import weights


def identify(config: RunConfig, data_root: str | Path | None = None) -> str:
    """The run's name: `config.run_id` with the resolved source and the versions of the code.

    Options that only repeat a default are dropped first, so that they name no other run. A weights
    file enters it by its content. Raises ValueError for options that do not exist and weights that
    are absent, before any work.
    """
    plain = without_defaults(config)
    options = dict(plain.data)
    source = datasets.resolve(config.dataset, data_root, config.source, options)
    versions = {"data": datasets.version(config.dataset), "model": models.VERSIONS[config.model]}
    file = dict(plain.model_options).get("weights", "imagenet")
    if models.is_own(config.model) or file == "imagenet":
        return run_id(plain, source.key, versions)
    path = weights.given(file)
    return run_id(plain, f"{source.key} {_digest(path, path.stat().st_mtime_ns)}", versions)


@functools.lru_cache
def _digest(path: Path, changed: int) -> str:
    return digest(path)


def without_defaults(config: RunConfig) -> RunConfig:
    """The run without options that repeat a default; ValueError for options that do not exist."""
    known = datasets.options(config.dataset)
    datasets.check_options(config.dataset, dict(config.data))
    models.check_name(config.model)
    usual = models.BUILDERS[config.model][1] | models.options_for(config.model, config.dataset)
    models.check_options(config.model, dict(config.model_options))
    return dataclasses.replace(
        config,
        data={k: v for k, v in config.data if v != known[k]},
        model_options={k: v for k, v in config.model_options if k not in usual or v != usual[k]},
    )


def load(config: RunConfig, data_root: str | Path | None = None) -> datasets.BiasedDataset:
    """The data set of a run; the last one is kept, as the runs of a sweep mostly share it."""
    datasets.check_name(config.dataset)
    module = datasets.MODULES[config.dataset]  # another one where a user registers a name again
    return _load(config.dataset, config.data, config.source, data_root, module)


@functools.lru_cache(maxsize=1)
def _load(name, data, source, data_root, module) -> datasets.BiasedDataset:
    return datasets.load(name, root=data_root, source=source, **dict(data))


def is_own(config: RunConfig) -> bool:
    """Whether a run's data set or model is a user's own code, which may be missing here."""
    return not (datasets.is_ours(config.dataset) and models.is_ours(config.model))


def check_file(config: RunConfig) -> None:
    """Raise ValueError if a configuration read from a file names code that must not be run.

    Code not named in this process is run only if it declares that it returns a data set or network.
    """
    for kind, name, known, returned in (
        ("data set", config.dataset, datasets.MODULES, datasets.BiasedDataset),
        ("model", config.model, models.BUILDERS, nn.Module),
    ):
        if imports.is_path(name) and name not in known:
            imports.check_returns(kind, name, returned)


def code(configs: Iterable[RunConfig]) -> list[tuple[str, str, str, int]]:
    """What another process needs to know about registered names in these runs, for `learn`.

    Kind, name, import path and version of each. Raises ValueError for a function that cannot be
    imported there.
    """
    named = {pair for c in configs for pair in (("data set", c.dataset), ("model", c.model))}
    found = []
    for kind, name in sorted(pair for pair in named if not imports.is_path(pair[1])):
        if kind == "model" and models.is_own(name):
            path = imports.path_of(kind, name, models.FACTORIES[name])
            found.append((kind, name, path, models.VERSIONS[name]))
        elif kind == "data set" and datasets.is_own(name):
            own = datasets.MODULES[name]
            found.append((kind, name, imports.path_of(kind, name, own.loader), own.VERSION))
    return found


def learn(known: Iterable[tuple[str, str, str, int]]) -> None:
    """Register, in another process, what `code` returned."""
    for kind, name, path, version in known:
        function = imports.found(kind, path)
        if kind == "model":
            models.register_model(name, function, version)
            continue
        own = datasets.MODULES.get(name)
        if own is None or (own.loader, own.VERSION) != (function, version):  # else keep its content
            datasets.register_dataset(name, function, version)


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

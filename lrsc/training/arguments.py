"""The arguments of `fit`, checked."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from lrsc import models
from lrsc.datasets import BiasedDataset
from lrsc.training.run import Probe


def factory(model, dataset: BiasedDataset, model_options: Mapping) -> Callable[[], nn.Module]:
    if isinstance(model, str):
        options = models.options_for(model, dataset.name) | dict(model_options)
        return lambda: models.build(model, dataset.input_shape, dataset.n_classes, **options)
    if model_options:
        raise ValueError("model_options go with a model's name; build them into your own factory")
    if isinstance(model, nn.Module):
        return lambda: model
    if callable(model):
        return model
    raise ValueError(f"model must be a name, a factory or an nn.Module, found {model!r}")


def device(given: torch.device | str | None) -> torch.device:
    """The device asked for; a GPU where there is one, else the CPU, if none is.

    Raises ValueError for a name that torch does not know, and for a GPU that is not here.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        found = torch.device(given or ("cuda" if gpus else "cpu"))
    except RuntimeError as error:
        text = f"device={str(given)!r} is unknown: use 'cpu', 'cuda' or 'cuda:0'"
        raise ValueError(text) from error
    if found.type == "cuda" and (found.index or 0) >= gpus:
        raise ValueError(
            f"device={str(given)!r} is not here: torch {torch.__version__} finds {gpus} GPUs; use "
            "device='cpu', or install a driver and a torch built for it"
        )
    return found


def some(name: str, values: Iterable | None, default) -> list:
    found = [default] if values is None else list(values)
    if not found:
        raise ValueError(f"{name} is empty: give at least one value")
    if name == "seeds" and any(not isinstance(s, int) or s < 0 for s in found):
        raise ValueError(f"seeds must be whole numbers >= 0, found {found!r}")
    return found


def intervals(probes: Mapping[str, Probe], every: int | Mapping[str, int]) -> dict[str, int]:
    """Iterations between two calls of each probe."""
    for name in ("loss", "loss_ratio", "accuracy", "validation_accuracy"):
        if name in probes:
            raise ValueError(f"{name!r} is a curve of its own: give the probe another name")
    found = dict(every) if isinstance(every, Mapping) else dict.fromkeys(probes, every)
    if found.keys() != probes.keys():
        raise ValueError(
            f"probe_every names {sorted(found)}, the probes are {sorted(probes)}: name each"
        )
    for name, number in found.items():
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"probe_every of {name!r} must be a whole number >= 1, found {number}")
    return found

"""The arguments of `fit`, checked."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from lrsc import models
from lrsc.config import TrainConfig
from lrsc.datasets import BiasedDataset
from lrsc.errors import is_number, is_whole, plain, shown
from lrsc.training import step
from lrsc.training.run import Callback, Probe


def check_dataset(dataset: object) -> None:
    if not isinstance(dataset, BiasedDataset):
        raise ValueError(
            f"dataset must be a BiasedDataset, as of lrsc.datasets.load, found {shown(dataset)}"
        )


def factory(model, dataset: BiasedDataset, model_options: Mapping) -> Callable[[], nn.Module]:
    check_dataset(dataset)
    _mapping("model_options", model_options)
    if isinstance(model, str):
        options = models.options_for(model, dataset.name) | dict(model_options)
        return lambda: models.build(model, dataset.input_shape, dataset.n_classes, **options)
    if model_options:
        raise ValueError("model_options go with a model's name; build them into your own factory")
    if isinstance(model, nn.Module):
        if any(p.is_inference() for p in model.parameters()):
            raise ValueError(
                "the model was made in torch.inference_mode, where its parameters can never be "
                "trained: make it outside, or copy its weights to one that was"
            )
        return lambda: model
    if callable(model):
        return model
    raise ValueError(f"model must be a name, a factory or an nn.Module, found {shown(model)}")


def zeros(net: nn.Module, configs: Iterable[TrainConfig]) -> None:
    """Whether keep_zeros=True has zeros to keep, and can."""
    if not step.zeros(net):
        raise ValueError(
            "keep_zeros=True, but the model has no weight that is 0: give fit what "
            "lrsc.pruning.prune returned, or a factory that copies it"
        )
    if any(c.optimizer == "psgd_kron" for c in configs):
        raise ValueError(
            "keep_zeros=True does not go with optimizer='psgd_kron', whose steps mix the weights "
            "of a layer: use 'sgd', 'adam' or 'adamw'"
        )


def device(given: torch.device | str | None) -> torch.device:
    """The device asked for; a GPU where there is one, else the CPU, if none is.

    Raises ValueError for a name that torch does not know, and for a GPU that is not here.
    """
    if given is not None and not isinstance(given, str | torch.device):
        raise ValueError(f"device must be a name as 'cpu' or 'cuda:0', found {shown(given)}")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        found = torch.device(given or ("cuda" if gpus else "cpu"))
        if found.type not in ("cpu", "cuda"):
            raise RuntimeError(f"nothing here was written for {found.type}")
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
    if isinstance(values, str) or not isinstance(values, Iterable | None):
        raise ValueError(f"{name} must be a list of numbers, found {shown(values)}")
    found = [default] if values is None else [plain(value) for value in values]
    if not found:
        raise ValueError(f"{name} is empty: give at least one value")
    if name == "seeds" and not all(is_whole(s, 0) for s in found):
        raise ValueError(f"seeds must be whole numbers >= 0 and at most 2^53, found {shown(found)}")
    return found


def intervals_of_checkpoints(seconds: float | None, steps: int | None) -> None:
    if seconds is not None and not (is_number(seconds) and seconds > 0):
        raise ValueError(f"checkpoint_seconds must be > 0 or None, found {shown(seconds)}")
    if steps is not None and not is_whole(steps, 1):
        raise ValueError(
            f"checkpoint_steps must be > 0, a whole number, or None, found {shown(steps)}"
        )


def intervals(probes: Mapping[str, Probe], every: int | Mapping[str, int]) -> dict[str, int]:
    """Iterations between two calls of each probe."""
    for name, probe in _mapping("probes", probes).items():
        if not isinstance(name, str) or not callable(probe):
            raise ValueError(f"probes must map names to functions, found {shown({name: probe})}")
    for name in ("loss", "loss_ratio", "accuracy", "validation_accuracy"):
        if name in probes:
            raise ValueError(f"{name!r} is a curve of its own: give the probe another name")
    found = dict(every) if isinstance(every, Mapping) else dict.fromkeys(probes, every)
    if found.keys() != probes.keys():
        raise ValueError(
            f"probe_every names {sorted(found)}, the probes are {sorted(probes)}: name each"
        )
    for name, number in found.items():
        if not is_whole(number, 1):
            raise ValueError(
                f"probe_every of {name!r} must be a whole number >= 1, found {shown(number)}"
            )
    return found


def callbacks(given: Callback | Iterable[Callback]) -> tuple[Callback, ...]:
    found = (given,) if callable(given) else tuple(given) if isinstance(given, Iterable) else ()
    if not all(map(callable, found)) or not (found or given == ()):
        raise ValueError(
            f"callbacks must be a function of a dict, or several, found {shown(given)}"
        )
    return found


def _mapping(name: str, value: object) -> Mapping:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must map names to values, found {shown(value)}")
    return value

"""Every attribution method of captum for inputs, by its name."""

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lrsc.attribution.checks import inputs, labels
from lrsc.errors import check_names


def maps(model: nn.Module, x: Tensor, y: Tensor, method: str, **options: object) -> Tensor:
    """Attributions by a method of captum.attr: signed, of the shape of network inputs x.

    method: name of its class, such as 'Saliency', 'InputXGradient', 'GradientShap' or 'Occlusion',
    for the logits of labels y; methods for neurons take neuron_selector in place of y. options:
    arguments of the class or its `attribute`, such as baselines, sliding_window_shapes or a layer
    of the model; captum's defaults except abs=False for Saliency. In eval mode, on a copy: the
    model is left as it was. All samples are in memory at once; random methods draw from torch's and
    numpy's generators.
    Raises ValueError for unknown names and options, missing options, whatever captum refuses, and
    methods whose attributions do not have the shape of x, such as those for layers.
    """
    inputs(x, None)
    kind, of_class, of_call = _kind(method)
    _check_options(method, of_class | of_call, options)
    y = labels(model, x, y)
    given = ({"abs": False} if "abs" in of_call else {}) | options
    with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting .*hooks")  # on the copy
        try:
            net, given = copy.deepcopy((model, given))  # together, as options may be layers
            given |= {"target": y.clone()} if "target" in of_call else {}
            made = kind(net.eval(), **{k: v for k, v in given.items() if k in of_class})
            at = x.detach().clone().requires_grad_()
            found = made.attribute(at, **{k: v for k, v in given.items() if k not in of_class})
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise ValueError(f"captum's {method} refuses this: {error}") from error
    if not isinstance(found, Tensor) or found.shape != x.shape:
        what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"captum's {method} returns {what}, expected that of x, {tuple(x.shape)}")
    return found.detach()


def _kind(name: str) -> tuple[Any, dict[str, inspect.Parameter], dict[str, inspect.Parameter]]:
    """captum's class of this name, made of a network and called with inputs, and what both take."""
    import captum.attr

    found = {}
    for valid in captum.attr.__all__:
        kind = getattr(captum.attr, valid)
        call = getattr(kind, "attribute", None)
        if inspect.isclass(kind) and inspect.isfunction(call):
            of_class, of_call = dict(_named(kind)), dict(_named(call))
            if {"model", "forward_func"} & of_class.keys() and "inputs" in of_call:
                found[valid] = kind, of_class, of_call
    check_names("method", [name], found)
    return found[name]


def _named(function: Callable) -> Iterator[tuple[str, inspect.Parameter]]:
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind != inspect.Parameter.VAR_KEYWORD:
            yield name, parameter


def _check_options(
    method: str, takes: Mapping[str, inspect.Parameter], options: Mapping[str, object]
) -> None:
    ours = {"self", "model", "forward_func", "inputs", "target"}
    takes = {name: parameter for name, parameter in takes.items() if name not in ours}
    check_names(f"option of {method}", options, takes)
    needs = {name for name, parameter in takes.items() if parameter.default is parameter.empty}
    if missing := sorted(needs - options.keys()):
        raise ValueError(f"method={method!r} needs {', '.join(missing)}: see captum.attr.{method}")

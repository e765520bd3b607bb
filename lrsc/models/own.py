"""Models that users register, in the form of the table of the library's."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from lrsc.datasets import imports

GIVEN = ("input_shape", "n_classes")  # what a factory is told of the data
ELSEWHERE = "num_classes"  # what torchvision and timm call the latter


def entry(name: str, factory: Callable[..., Any]) -> tuple[Callable[..., nn.Module], dict]:
    """Builder and options, with their defaults, of a factory.

    Its arguments input_shape and n_classes get those of the data, as do two others without a
    default. num_classes is another name of the latter, also for a factory that names none of these
    and takes any **options. All else are options. ValueError for an option without a default.
    """
    known = imports.options("model", factory)
    empty = [each for each, default in known.items() if default is inspect.Parameter.empty]
    in_order = dict(zip(empty, GIVEN, strict=True)) if len(empty) == 2 else {}
    told = {each: each for each in GIVEN if each in known} or in_order
    anything = imports.takes_any(factory)
    if "n_classes" not in told.values() and (ELSEWHERE in known or (anything and not told)):
        told[ELSEWHERE] = "n_classes"
    if left := [each for each in empty if each not in told]:
        raise ValueError(
            f"the factory of model {name!r} needs {', '.join(left)}: call what it is told of the "
            f"data {' and '.join(GIVEN)}, and give options a default"
        )

    def build(input_shape: tuple[int, ...], n_classes: int, **options: Any) -> nn.Module:
        values = {"input_shape": input_shape, "n_classes": n_classes}
        given = {each: values[what] for each, what in told.items()} | options
        try:
            found = factory(**given)
        except TypeError as error:
            if not anything:
                raise
            raise ValueError(f"the factory of model {name!r} refuses: {error}") from error
        if not isinstance(found, nn.Module):
            said = f"must return an nn.Module, found {type(found).__name__}"
            raise ValueError(f"the factory of model {name!r} {said}")
        return found

    return build, {each: default for each, default in known.items() if each not in told}

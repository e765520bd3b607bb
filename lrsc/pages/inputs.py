"""The parameters of a section, checked before anything runs."""

import ast
import contextlib
import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from lrsc import datasets, errors, experiments, models, results, runs
from lrsc.experiments.rows import EXPERIMENTS

NAMES = ("dataset", "model", "lrs", "seeds", "profile")
FOLDER = "results"  # the one that a notebook may lack
_INJECTED = "# Parameters"  # how a cell begins that papermill writes


def parameters(
    namespace: Mapping[str, Any],
    experiment: str,
    shares: Sequence[str] = (),
    section: str | None = None,
) -> SimpleNamespace:
    """A section's parameters, checked: dataset, model, lrs, seeds, profile, results; and `command`.

    ``namespace``: ``globals()`` of the notebook, or a dict. ``lrs`` and ``seeds`` may be None (the
    profile's own), a list, one number, or a string that holds a JSON list, as papermill passes
    one; they come back as tuples. ``results``: the results folder that this process reads and
    writes from then on. ``shares``: names of further parameters of this section, numbers
    in [0, 1]. ``command`` is the line that runs the notebook with them. ``section``: the
    notebook's name, if it is not that of the live part's experiment. Raises
    ValueError for an unknown parameter (papermill only logs it), for a bad value, and for runs that
    the experiment does not have or whose data are not here, before any of them starts.
    """
    names = (*NAMES, FOLDER, *shares)
    for name in _set_as_parameters(namespace, names):
        if name not in names:
            raise errors.unknown("notebook parameter", name, names)
    missing = [name for name in names if name not in namespace and name != FOLDER]
    if missing:
        raise ValueError(
            f"notebook parameter {missing[0]!r} is not set: run the cell tagged 'parameters' first"
        )
    given: dict[str, Any] = {name: namespace.get(name) for name in names}
    rows = [(row.dataset, row.model) for row in EXPERIMENTS[experiment]]
    if not (datasets.is_own(given["dataset"]) or models.is_own(given["model"])):
        errors.check_names("dataset", [given["dataset"]], dict.fromkeys(d for d, _ in rows))
        of_dataset = [model for dataset, model in rows if dataset == given["dataset"]]
        errors.check_names(f"model for {given['dataset']}", [given["model"]], of_dataset)
    errors.check_names("profile", [given["profile"]], experiments.PROFILES)
    given["lrs"] = _numbers("lrs", given["lrs"])
    given["seeds"] = _numbers("seeds", given["seeds"])
    for name in shares:
        value = given[name]
        if not errors.is_number(value) or not 0 <= value <= 1:
            raise ValueError(f"{name} must be a share, a number in [0, 1]; found {value!r}")
    results.choose(given[FOLDER])
    asked = (given[name] for name in ("profile", "dataset", "model", "lrs", "seeds"))
    runs.identify(experiments.configs(experiment, *asked)[0])
    return SimpleNamespace(**given, command=command_of(section or experiment, given))


def _set_as_parameters(namespace: Mapping[str, Any], names: Sequence[str]) -> set[str]:
    """Names that were set as parameters are: beside them in their cell, or in papermill's.

    In a kernel, by the cells that were run (`In`): other variables are one's own. Without one, what
    is called nearly as a parameter.
    """
    cells = namespace.get("In")
    if not isinstance(cells, list) or "get_ipython" not in namespace:
        own = (name for name, value in namespace.items() if _is_literal(value))
        return {name for name in own if difflib.get_close_matches(name, names, 1, cutoff=0.75)}
    found: dict[bool, set[str]] = {}  # by the last cell of either kind: the others were mended
    for cell in map(str, cells):
        with contextlib.suppress(SyntaxError):  # of a cell with commands of the shell
            body = ast.parse(cell).body
            targets = [t for s in body if isinstance(s, ast.Assign) for t in s.targets]
            set_here = {target.id for target in targets if isinstance(target, ast.Name)}
            if cell.startswith(_INJECTED) or set_here >= set(NAMES):
                found[cell.startswith(_INJECTED)] = set_here
    return set().union(*found.values())


def command_of(section: str, given: Mapping[str, Any]) -> str:
    lists = "lrs", "seeds"
    plain = [n for n in given if n not in lists and (n != FOLDER or given[n] is not None)]
    chosen = [f"-p {name} {given[name]}" for name in plain]
    for name in ("lrs", "seeds"):
        if given[name] is not None:
            chosen.append(f'-p {name} "{json.dumps(given[name])}"')
    return f"papermill notebooks/{section}.ipynb out.ipynb " + " ".join(chosen)


_LISTS = {  # parameter -> what its values must be, an example, and the check of a value
    "lrs": ("learning rates, finite and > 0", "[0.05, 0.5]", lambda v: 0 < v < math.inf),
    "seeds": ("whole numbers >= 0", "[0, 1, 2]", errors.is_whole),
}


def _numbers(name: str, value: Any) -> tuple | None:
    """None, or a non-empty tuple of valid and distinct numbers."""
    expected, example, valid = _LISTS[name]
    advice = f"give a list such as {example}, or None for the profile's own"
    found = value
    if isinstance(value, str):
        try:
            value = json.loads(value)  # 1e-3 too
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{name} is a string that holds no JSON list: {found!r}; {advice}"
            ) from error
    if value is None:
        return None
    several = isinstance(value, Iterable) and getattr(value, "ndim", None) != 0
    values = [_number(each) for each in (value if several else [value])]
    if not values:
        raise ValueError(f"{name} is empty; {advice}")
    for each in values:
        if not errors.is_number(each) or not valid(each):
            raise ValueError(f"{name} must be {expected}; found {each!r} in {found!r}; {advice}")
    if len(set(values)) < len(values):
        raise ValueError(f"{name} names a value twice: {found!r}; {advice}")
    return tuple(values)


def _number(value: Any) -> Any:
    """As Python's; also of the text that YAML makes of 1e-3."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return json.loads(value) if value.isdigit() else float(value)
    return errors.plain(value)


def _is_literal(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_literal(each) for each in value.values())
    if isinstance(value, list | tuple):
        return all(_is_literal(each) for each in value)
    return value is None or isinstance(value, bool | int | float | str)

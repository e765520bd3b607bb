"""The plan of a campaign: rows of the paper's tables by weight, and the order of their runs."""

import csv
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lrsc import errors, experiments, results
from lrsc.config import RunConfig
from lrsc.errors import shown

PLAN = Path(experiments.__file__).parent / "tables" / "campaign.csv"
COLUMNS = ("weight", "experiment", "dataset", "model", "row", "profile", "values", "seeds")


@dataclasses.dataclass(frozen=True)
class Item:
    """A row of the plan: its runs in the order in which they say most."""

    name: str
    weight: float
    runs: tuple[RunConfig, ...]


def read_plan(path: str | Path | None = None) -> list[Item]:
    """The rows of a plan, the weightiest first, equal ones in the file's order.

    path: a CSV file with the columns weight, experiment, dataset, model, row (its hyperparameter),
    profile, values and seeds (both separated by blanks; empty: the row's own); default the plan
    that ships. Of a row come first both ends of its values with its first seed, then the values
    between, then the further seeds. Raises ValueError for a file that cannot be read, has no rows
    or lacks a column, and for rows that do not exist; the text names the line.
    """
    path = PLAN if path is None else errors.path("plan", path)
    try:
        with open(path, newline="") as file:
            table = csv.DictReader(file)
            lines = [(table.line_num, line) for line in table]
            columns = table.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read the plan {path}: {error}") from error
    if lacking := [name for name in COLUMNS if name not in columns]:
        raise ValueError(f"plan {path} lacks the columns {', '.join(lacking)}")
    if not lines:
        raise ValueError(f"plan {path} has no rows: name at least one under {','.join(COLUMNS)}")
    items = []
    for number, line in lines:
        try:
            items.append(_item(line))
        except ValueError as error:
            raise ValueError(f"plan {path}, line {number}: {error}") from error
    return sorted(items, key=lambda item: -item.weight)


def _item(line: Mapping[str, str | None]) -> Item:
    read = {name: (line[name] or "").strip() for name in COLUMNS}
    experiment, dataset, model, row = (
        read[n] for n in ("experiment", "dataset", "model", "row")
    )  # fmt: skip
    weight, values = float(read["weight"]), [float(v) for v in read["values"].split()]
    if not math.isfinite(weight):
        raise ValueError(f"weight must be a number, found {shown(read['weight'])}")
    seeds = [int(seed) for seed in read["seeds"].split()] or None
    own = values if values and row == "lr" else None
    runs = experiments.configs(
        experiment, read["profile"], dataset, model, own, seeds, row
    )  # fmt: skip
    knob = experiments.knob(experiment, dataset, model, row)
    if values and own is None:
        runs = [c for c in runs if np.isclose(results.value_of(c, knob), values).any()]
    if not runs:
        raise ValueError(f"none of the values {read['values']} is one of the row's")
    return Item(f"{dataset} {model} {row} {read['profile']}", weight, _in_order(runs, knob))


def _in_order(runs: Sequence[RunConfig], knob: str) -> tuple[RunConfig, ...]:
    """Both ends of the values and the first seed first, then the middle, then further seeds."""
    values = sorted({results.value_of(c, knob) for c in runs})
    seeds = list(dict.fromkeys(c.seed for c in runs))
    middle = (len(values) - 1) / 2
    ends = [values[-1], values[0]]
    inner = sorted(values[1:-1], key=lambda v: abs(values.index(v) - middle))
    order = {value: place for place, value in enumerate(dict.fromkeys([*ends, *inner]))}
    key: Callable[[RunConfig], tuple] = lambda c: (  # noqa: E731
        seeds.index(c.seed), order[results.value_of(c, knob)],
    )  # fmt: skip
    return tuple(sorted(runs, key=key))

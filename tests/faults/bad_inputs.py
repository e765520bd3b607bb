"""Arguments of every kind that are wrong: each has to be a ValueError that names the argument.

Each function takes a random.Random and an empty folder, and returns what came of its faults.
"""

import functools
import inspect
import math
import random
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from injection import Counts, runs
from torch import Tensor

import lrsc
from lrsc import RunConfig, TrainConfig, metrics, models, sweep

NAN, INF = math.nan, math.inf
# of no use for any option; one that holds strings excepted
NEVER = [[], {}, object(), 1j, b"1", lambda: 1, [1, [2]], float, Tensor]
NO_NUMBER = [*NEVER, "0.1", "abc", "", True, NAN, INF, -INF, 10**400, -(10**400), 10**5000]
POSITIVE = [*NO_NUMBER, 0, -0.5, -1]
WHOLE = [*NO_NUMBER, -3, 2.5, 2**60, 2**64]
NO_NAME = [*NEVER, 5, 0.5, NAN, "", "nothing", True]
NO_PATH = [5, 0.5, [], {}, object(), True]

FIELDS: dict[str, list] = {
    "lr": [*POSITIVE, None],
    "momentum": [*NO_NUMBER, None, 1, 1.5, -0.1],
    "batch_size": [*WHOLE, None, 0],
    "max_epochs": [*WHOLE, None, 0],
    "max_steps": [*WHOLE, 0],
    "accumulation": [*WHOLE, None, 0],
    "stop_at_accuracy": [*POSITIVE, 1.5],
    "stop_at_loss": POSITIVE,
    "betas": [*NEVER, "00", 0.9, (0.9,), (0.9, 1.0), (NAN, 0.5), (10**400, 0.5), ("0", "0"), None],
    "step_at": [*WHOLE, 0],
    "switch_at": [*WHOLE, 0],
    "step_factor": [*POSITIVE, None],
    "switch_lr": POSITIVE,
    "optimizer": [*NO_NAME, None],
    "schedule": [*NO_NAME, None],
    "select_by": NO_NAME,
    "precision": [*NO_NAME, None],
    **{n: [*NO_NUMBER, None, -0.1] for n in ("weight_decay", "l1", "l2", "focal_gamma")},
    **{n: [*NO_NUMBER, None, -0.1] for n in ("sam_rho", "asam_rho")},
    **{n: [*NO_NUMBER, None, 1.0, -0.1] for n in ("warmup", "decay", "validation_share")},
}
RUN_FIELDS: dict[str, list] = {
    "dataset": [*NEVER, 5, None, True],
    "model": [*NEVER, 5, None, True],
    "train": [[1], object(), lambda: 1, 5, "abc", None, {"lr": -1}, {"lrr": 1}],
    "seed": [*WHOLE, None],
    "source": [*NO_NAME, None],
    "data": [5, "abc", object(), None, {"rho": NAN}, {"rho": object()}, {5: 1}, [1, 2], {"a": {}}],
    "model_options": [5, "abc", object(), None, {"hidden": (INF,)}, {"hidden": {}}, {None: 1}],
}
FIT: dict[str, list] = {
    "model": [5, None, [], "nothing", True, b"fcn"],
    "dataset": [5, None, "parity", []],
    "config": [5, "abc", {"lr": 1}, []],
    "lrs": [5, 0.1, "abc", [], [NAN], ["a"], [None], [0], [10**400], object()],
    "seeds": [5, 0.1, "abc", [], [-1], [0.5], [True], [2**64], [None], object()],
    "model_options": [5, "abc", {"hidden": 5}, {"hidden": ()}, {"hidden": (0,)}, {"hide": 1},
                      {"hidden": (2**40,)}, {"hidden": ("8",)}, {"hidden": None}],
    "probes": [5, "abc", {"a": 5}, {5: abs}, [abs]],
    "probe_every": [0, -1, 2.5, "abc", NAN, None, {"b": 1}, True],
    "checkpoints": NO_PATH,
    "checkpoint_seconds": [0, -1, NAN, "abc", True, [], {}],
    "checkpoint_steps": [0, -1, 2.5, NAN, "abc", True, [], {}],
    "device": [5, "nothing", "meta", "cuda:99", [], {}, "cpu:x", object()],
    "engine": [5, "nothing", None, [], {}],
    "replicas": [0, -1, 2.5, "abc", True, [], NAN],
}  # fmt: skip
LOAD: dict[str, list] = {
    "name": [5, None, "nothing", [], ""],
    "rho": [-0.1, 1.5, NAN, INF, "0.1", True, [], {}, 10**400],
    "seed": WHOLE,
    "n_train": [*WHOLE, 0, 20_000],
    "source": [5, None, "nothing", []],
    "root": NO_PATH,
    "n_core": [*WHOLE, 0, None, 10**9, 2**53],
    "n_spurious": [*WHOLE, 0, None, 4, 10**9],
    "n_noise": [*WHOLE, None, 10**9],
    "n_nose": [1],
}
BUILD: dict[str, list] = {
    "model": [5, None, "nothing", [], ""],
    "input_shape": [5, None, "abc", (), (0,), (-1, 2), ("a",), (2.5,), (2**40,), {}],
    "n_classes": [0, 1, -1, "a", None, NAN, 2.5, 2**40, []],
    "hidden": [5, None, "abc", (), (0,), (-1,), ("a",), (2.5,), (2**40,), {}, (True,)],
    "hide": [1],
}
SWEEP: dict[str, list] = {
    "what": [5, None, [5], "nothing", [], [None], object()],
    "executor": NO_NAME,
    "engine": NO_NAME,
    "device": [5, "nothing", "meta", "cuda:99", object()],
    "replicas": [0, -1, 2.5, "abc", True, [], NAN],
    "root": NO_PATH,
    "data_root": NO_PATH,
    "write": NO_NAME,
    "retries": [*WHOLE, None],
    "time_limit": [0, -1, NAN, "abc", True, [], 5],
    "scheduler": ["tcp://nowhere:1", 5],
    "profile": NO_NAME,
}
# what an error names in the place of the argument: a part of it, or the thing in words
TOLD_AS = {
    "name": ["data set"], "what": ["no runs", "experiment"], "data_root": ["root"],
    "model_options": ["hidden"], "train": ["lr"],
}  # fmt: skip


def configurations(rng: random.Random, folder: Path, n: int = 1000) -> Counts:
    """Random calls with one wrong argument: an error that names it, raised outside torch."""
    counts = Counts()
    kinds = [(TrainConfig, FIELDS), (_run_config, RUN_FIELDS), (_fit, FIT), (_load, LOAD),
             (_build, BUILD), (functools.partial(_sweep, folder), SWEEP)]  # fmt: skip
    weights = [4, 2, 1, 2, 2, 1]
    for _ in range(n):
        ((call, fields),) = rng.choices(kinds, weights)
        name = rng.choice(sorted(fields))
        value = rng.choice(fields[name])
        counts += _refused(call, name, value)
    return counts


def _run_config(**fields) -> RunConfig:
    return RunConfig(**{"dataset": "parity", "model": "fcn"} | fields)


@functools.cache
def _parity() -> lrsc.datasets.BiasedDataset:
    return lrsc.datasets.load("parity", n_train=200, n_noise=2, n_core=2)


def _fit(**arguments) -> None:
    usual = {"model": "fcn", "dataset": _parity(), "config": TrainConfig(max_steps=1)}
    if "probe_every" in arguments:
        usual["probes"] = {"a": lambda net: torch.zeros(())}
    if "replicas" in arguments:
        usual["seeds"] = [0, 1]
    lrsc.fit(**usual | {"model_options": {"hidden": (4,)}} | arguments)


def _load(**arguments) -> None:
    lrsc.datasets.load(**{"name": "parity"} | arguments)


def _build(**arguments) -> None:
    usual = {"model": "fcn", "input_shape": (6,), "n_classes": 2} | arguments
    models.build(usual.pop("model"), usual.pop("input_shape"), usual.pop("n_classes"), **usual)


def _sweep(folder: Path, **arguments) -> None:
    usual = {"what": "synthetic" if "profile" in arguments else runs(2), "root": folder / "results"}
    sweep.run(**usual | arguments)


def _refused(call: Callable, name: str, value) -> Counts:
    """One call with one wrong argument."""
    told = f"{getattr(call, '__name__', 'sweep')}({name}=<{type(value).__name__}>)"
    try:
        call(**{name: value})
    except ValueError as error:
        said = str(error)
        where = traceback.extract_tb(error.__traceback__)[-1].filename
        wrong = [] if "/torch/" not in where else [f"{told}: from inside torch: {said}"]
        words = [name, name.removesuffix("s"), name.replace("_", " "), *TOLD_AS.get(name, ())]
        if not any(word in said for word in words):
            wrong.append(f"{told}: does not name it: {said[:300]}")
        return Counts(faults=1, wrong=wrong)
    except Exception:
        return Counts(faults=1, wrong=[f"{told}: {traceback.format_exc()[-700:]}"])
    return Counts(faults=1, wrong=[f"{told}: nothing was said"])


# --- metrics -------------------------------------------------------------------------------------

OF_VALUES = ("sparsity", "compressibility", "pq_index", "active_neurons")
OF_CLASSES = ("class_separation", "class_selectivity")
OF_LOSSES = ("loss_ratio", "loss_entropy")
OF_LABELS = ("accuracy", "group_accuracies", "worst_group_accuracy", "adjusted_average")
OF_PAIRS = ("rank_correlation", "rank_correlation_interval")
OF_TABLES = ("dominance_persistence", "update_response")
# documented: no loss, no bias-conflicting sample, a constant side, a group or kind without samples
MAY_BE_NAN = {"chance_corrected", *OF_LOSSES, *OF_PAIRS, *OF_TABLES, "group_accuracies"}
PUBLIC = [name for name, value in vars(metrics).items() if inspect.isfunction(value)]
FILLS = ("random", "nan", "inf", "-inf", "constant", "zero", "huge", "tiny")
LABELS = ("random", "one class", "one-sample class", "empty", "one sample", "gap")


def metrics_fed(rng: random.Random, folder: Path, n: int = 200) -> Counts:
    """Every public metric on NaN, infinite and constant values, absent and one-sample classes."""
    counts = Counts()
    for _ in range(n):
        fill, kind = rng.choice(FILLS), rng.choice(LABELS)
        samples = {"empty": 0, "one sample": 1}.get(kind, rng.randrange(2, 12))
        for name in PUBLIC:
            counts += _measured(name, fill, kind, samples, rng)
    return counts


def _measured(name: str, fill: str, kind: str, samples: int, rng: random.Random) -> Counts:
    told = f"{name} of {fill} values, {kind}, {samples} samples"
    try:
        found = getattr(metrics, name)(*_arguments(name, fill, kind, samples, rng))
    except ValueError as error:
        named = any(word in str(error) for word in (
            "z ", "w ", "y ", "losses", "pred", "x has", "csi", "gradient_norm", "tables", "empty",
        ))  # fmt: skip
        where = traceback.extract_tb(error.__traceback__)[-1].filename
        fine = named and "/torch/" not in where
        return Counts(faults=1, wrong=[] if fine else [f"{told}: {error}"])
    except Exception:
        return Counts(faults=1, wrong=[f"{told}: {traceback.format_exc()[-700:]}"])
    values = found.values() if isinstance(found, dict) else [found]
    flat = torch.cat([torch.as_tensor(v, dtype=torch.float64).flatten() for v in values])
    of_values = name in (*OF_VALUES, *OF_CLASSES)
    wrong = of_values and fill in ("nan", "inf", "-inf") and samples
    wrong = wrong or (name not in MAY_BE_NAN and not bool(flat.isfinite().all()))
    return Counts(faults=1, wrong=[f"{told}: {flat.tolist()[:5]}"] if wrong else [])


def _arguments(name: str, fill: str, kind: str, samples: int, rng: random.Random) -> list:
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    z = _values(fill, (samples, 5), generator, rng)
    y = _labels(kind, samples, generator)
    if name in OF_VALUES:
        return [z]
    if name in OF_CLASSES:
        return [z, y]
    if name in OF_LOSSES:
        losses = _values(fill, (samples,), generator, rng).abs()
        return [losses] if name == "loss_entropy" else [losses, y > 0]
    if name == "accuracy":
        return [y.flip(0), y]
    if name == "chance":
        return [y]
    if name == "chance_corrected":
        return [z, _values(fill, (samples, 5), generator, rng), 0.1]
    if name in OF_LABELS:
        bias = _labels(kind, samples, generator)
        return [y.flip(0), y, bias, *([y, bias] if name == "adjusted_average" else [])]
    if name in OF_PAIRS:
        return [_values(fill, (samples,), generator, rng), torch.rand(samples, generator=generator)]
    tables = _values(fill, (30 if samples else 0, 4), generator, rng).abs()
    return [tables, torch.rand(tables.shape, generator=generator)]


def _values(fill: str, shape: tuple[int, ...], generator, rng: random.Random) -> Tensor:
    found = torch.randn(shape, generator=generator)
    if fill in ("nan", "inf", "-inf"):
        flat = found.flatten()
        if len(flat):
            flat[rng.randrange(len(flat))] = float(fill)
        return flat.view(shape)
    if fill == "constant":
        return torch.full(shape, 0.7)
    return found * {"zero": 0, "huge": 1e30, "tiny": 1e-40}.get(fill, 1)


def _labels(kind: str, n: int, generator) -> Tensor:
    y = torch.randint(0, 2, (n,), generator=generator)
    if kind == "one class":
        return torch.zeros_like(y)
    if kind == "one-sample class" and n:
        y = torch.zeros_like(y)
        y[0] = 1
    return y * 3 if kind == "gap" else y

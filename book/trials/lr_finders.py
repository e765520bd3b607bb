"""Which LR do `lrsc.largest_lr` and the usual LR finders name, and what does it give?

    python book/trials/lr_finders.py [--only parity/fcn]

For each grid of LRs that is stored with the book: the grid's best LR in unbiased accuracy, against
the LR that `largest_lr` names for no more updates than two trainings of the grid's median length
take, without a look at test samples; beside it the LRs of two rules on one ramp of 100 updates,
those of fastai's `valley` and of Lightning's steepest descent. What each LR gives
(unbiased accuracy, worst group, prunability) is of the stored run at the nearest LR, which is
named, where it is within a factor of 1.6; on the synthetic data networks are trained at the very
LR, unless it is far below the grid. `--fill` trains one seed at the other LRs that no stored run is
near, the useful one first. Writes book/results/lr_finders.json, a row at a time. Two hours of a
core; `--fill` takes a training each.
"""

import argparse
import bisect
import dataclasses
import json
import logging
import math
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import lrsc
from lrsc import datasets, models, results
from lrsc.measures.result import FEW_PRUNED

ROWS = {  # file -> data set, model
    "synthetic": (("parity", "fcn"), ("moon_star", "fcn")),
    "semi_synthetic": (
        ("colored_mnist", "fcn"), ("colored_mnist", "resnet18"), ("mnist_cifar", "resnet18"),
    ),
    "standard_classification": (("cifar10", "resnet18"),),
}  # fmt: skip
NEAR = 1.6
SMOOTH, WORSE = 0.98, 4  # of the loss, and of its best value: where both rules stop
UPDATES = 100
MEASURES = ("unbiased_accuracy", "worst_group_accuracy", "prunability")


def main() -> None:
    """A row for each grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="one grid, as parity/fcn")
    parser.add_argument("--fill", action="store_true", help="train where no stored run is near")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parents[1] / "results" / "lr_finders.json"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found = json.loads(args.output.read_text()) if args.output.is_file() else {}
    for name, pairs in ROWS.items():
        grids = results.shipped(name)
        for dataset, model in pairs:
            key = f"{dataset}/{model}"
            if args.fill and key in found and args.only in (None, key):
                for named in fill(found[key], grids, dataset, model):
                    args.output.write_text(json.dumps(found, indent=1) + "\n")
                    logging.info("%s: %s", key, named)
            elif args.only in (None, key):
                found[key] = row(grids, dataset, model)
                args.output.write_text(json.dumps(found, indent=1) + "\n")
                logging.info("%s: %s", key, found[key])


def row(grids, dataset: str, model: str) -> dict:
    """What each rule names on one grid, and what that LR gives."""
    grid = grid_of(grids, dataset, model)
    best = max(grid, key=lambda lr: grid[lr]["unbiased_accuracy"])
    config = grid[best]["config"]
    data = datasets.load(dataset, source=config.source, **dict(config.data))
    budget = int(2 * np.median([one["steps"] for one in grid.values()]))
    answer = lrsc.largest_lr(model, data, config.train, budget=budget)
    named = {
        "largest_lr, useful": answer.useful, "largest_lr, stable": answer.stable,
        "usual": answer.usual, **ramps(model, data, config),
    }  # fmt: skip
    low = min(grid) / NEAR  # smaller LRs take hours to train

    def gives(lr: float) -> dict:
        if dataset in ("parity", "moon_star"):
            return trained(lr, model, data, config) if lr >= low else {}
        return nearest(lr, grid)

    return {
        "n_train": len(data.train), "model": model, "budget": budget,
        "updates": int(answer.dataset.attrs["updates"]),
        "seconds": float(answer.dataset.attrs["seconds"]),
        "criterion": answer.dataset.attrs["criterion"],
        "grid": {f"{lr:g}": one["unbiased_accuracy"] for lr, one in sorted(grid.items())},
        "best": best, "factor": max(answer.useful / best, best / answer.useful),
        "named": {rule: {"lr": lr} | gives(lr) for rule, lr in named.items()},
    }  # fmt: skip


def fill(row: dict, grids, dataset: str, model: str):
    """Train where nothing is known, but at LRs far below the grid; yields what each gives."""
    grid = grid_of(grids, dataset, model)
    config = next(iter(grid.values()))["config"]
    data = datasets.load(dataset, source=config.source, **dict(config.data))
    for named in row["named"].values():
        if "of_lr" not in named and named["lr"] >= min(grid) / NEAR:
            mode = next(iter(grid.values()))["statistics"]
            named |= trained(named["lr"], model, data, config, range(1), mode)
            yield named


def grid_of(grids, dataset: str, model: str) -> dict[float, dict]:
    """LR -> means over seeds, steps and a configuration; of the training set with the most LRs."""
    mode = "running"
    if "statistics" in grids.dims:
        mode = "recalibrated" if model in models.NORMALISED else "running"
        has = grids["unbiased_accuracy"].sel(statistics=mode).notnull()
        here = (grids["dataset"] == dataset) & (grids["model"] == model)
        mode = mode if bool(has[here].all()) else "running"
        grids = grids.sel(statistics=mode)
    chosen = (
        (grids["dataset"] == dataset) & (grids["model"] == model)
        & (grids["status"] != "diverged") & (grids["hyperparameter"] == "lr")
    )  # fmt: skip
    some = grids.isel(run=chosen.values)
    sizes = {int(n): len(np.unique(lrs["lr"])) for n, lrs in some.groupby("n_train")}
    some = some.isel(run=(some["n_train"] == max(sizes, key=lambda n: (sizes[n], -n))).values)
    found: dict[float, dict] = {}
    for lr in np.unique(some["lr"].values):
        runs = some.isel(run=some["lr"].values == lr)
        configs = [results.parsed(str(text)) for text in runs["config"].values]
        found[float(lr)] = {name: float(runs[name].mean()) for name in MEASURES if name in runs}
        found[float(lr)] |= {
            "steps": float(runs["steps"].mean()), "config": configs[0], "statistics": mode,
        }  # fmt: skip
    return found


def nearest(lr: float, grid: dict[float, dict]) -> dict:
    """Of the nearest stored LR; nothing where that is more than a factor of 1.6 away."""
    near = min(grid, key=lambda other: abs(math.log(other / lr)))
    if max(near / lr, lr / near) > NEAR:
        return {}
    return {"of_lr": near} | {name: grid[near][name] for name in MEASURES if name in grid[near]}


def trained(lr: float, model: str, data, config, seeds=range(3), mode: str = "running") -> dict:
    """Of networks trained at the LR itself: means over seeds, in the statistics of the grid."""
    asked = dataclasses.replace(config.train, lr=lr)
    runs = lrsc.fit(model, data, asked, seeds=seeds, progress=False)
    many = None if model not in models.NORMALISED else FEW_PRUNED
    measured = [
        lrsc.measure(run, data, methods=["column"], prune_samples=many, statistics=mode)
        for run in runs
    ]
    found = {name: float(np.mean([m[name] for m in measured])) for name in MEASURES}
    return {
        "of_lr": lr, "status": ", ".join(run.status for run in runs), "seeds": len(runs),
    } | found  # fmt: skip


def ramps(model: str, data, config) -> dict[str, float]:
    """The LRs of two rules, each on its own ramp."""
    lrs, losses = ramp(model, data, config, 1e-7, 10.0)
    fastai = lrs[UPDATES // 10 :][valley(losses[UPDATES // 10 : -5])]
    lrs, losses = ramp(model, data, config, 1e-8, 1.0)
    lightning = lrs[10 + int(np.gradient(losses[10:-1]).argmin())]
    return {"fastai, valley": float(fastai), "Lightning, steepest": float(lightning)}


def ramp(model: str, data, config, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """LRs that grow by a factor an update, and the smoothed losses, up to four times the best."""
    torch.manual_seed(0)
    options = models.options_for(model, data.name) | dict(config.model_options)
    net = models.build(model, data.input_shape, data.n_classes, **options).train()
    lrs = low * (high / low) ** (np.arange(UPDATES) / (UPDATES - 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=low, momentum=config.train.momentum)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    mean, losses = 0.0, []
    for step, lr in enumerate(lrs):
        some = order[step * config.train.batch_size :][: config.train.batch_size]
        optimizer.param_groups[0]["lr"] = lr
        loss = F.cross_entropy(net(data.train.inputs(data.train.x[some])), data.train.y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = SMOOTH * mean + (1 - SMOOTH) * float(loss.detach())
        losses.append(mean / (1 - SMOOTH ** (step + 1)))
        if losses[-1] > WORSE * min(losses) or not math.isfinite(losses[-1]):
            break
    return lrs[: len(losses)], np.array(losses)


def valley(losses: np.ndarray) -> int:
    """Halfway through the middle third of the longest falling subsequence, as fastai has it."""
    tails: list[float] = []
    length = []
    for loss in losses:  # the longest falling subsequence that ends here
        at = bisect.bisect_left(tails, -loss)
        tails[at : at + 1] = [-loss]
        length.append(at + 1)
    end = int(np.argmax(length))
    start = end - length[end]
    third = (end - start) / 3
    return max(0, start + int(third) + int(third / 2))


if __name__ == "__main__":
    main()

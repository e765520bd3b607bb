"""Short runs that are judged on held-out training samples, within a budget, kept in one file."""

import dataclasses
import functools
import json
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import xarray as xr
from torch import Tensor

from lrsc import models, results
from lrsc.config import TrainConfig
from lrsc.datasets import BiasedDataset, Split
from lrsc.errors import TimeLimit, is_whole, shown
from lrsc.training import Trained, arguments, evaluation
from lrsc.training.checkpoint import digest
from lrsc.training.fit import fit_each
from lrsc.training.progress import Progress
from lrsc.training.run import Request

HELD_OUT = 0.2  # share of the training samples that are held out, without a split for it
JUDGED = 2000  # training samples on which a network is looked at
LEAST_STEPS, LEAST_GROUP = 10, 10
MARGIN = 0.05  # above the share of the largest class, of what is between it and 1
EPOCHS = 20  # of the usual budget
COLUMNS = {  # of each short run -> unit, words
    "stage": ("1", "what the short run was for"),
    "group": ("1", "number of the group of short runs that ran side by side"),
    "seed": ("1", "seed of weights and order"),
    "steps": ("1", "updates done"),
    "status": ("1", "how it ended"),
    "first_loss": ("nat", "loss of the first mini-batch"),
    "last_loss": ("nat", "mean loss of the last quarter of the updates"),
    "train_accuracy": ("1", "accuracy on training samples"),
    "score": ("1", "what LRs are compared by, on held-out samples"),
    "score_error": ("1", "standard error of the score by the number of samples"),
}


@dataclasses.dataclass(frozen=True)
class Judge:
    """What short runs are judged by: held-out samples, their groups, and training samples."""

    held: Split
    groups: Tensor | None  # one number a held-out sample, -1 for none
    seen: Split
    words: str

    @classmethod
    def of(cls, train: Split, held: Split) -> "Judge":
        """The finest groups that hold enough samples: class and bias value, else two, else one."""
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        seen, many = train.take(order[:JUDGED]), f"{len(held):,} held-out samples"
        if held.bias is not None:
            for name, group in (
                ("class and bias value", held.y * (int(held.bias.max()) + 1) + held.bias),
                ("aligned and conflicting", held.aligned.long()),
            ):
                group = torch.where(held.known, group, -1)
                sizes = group[group >= 0].unique(return_counts=True)[1].tolist()
                if len(sizes) > 1 and min(sizes) >= LEAST_GROUP:
                    words = f"accuracy of the worst of {len(sizes)} groups ({name}) of {many}; the "
                    return cls(held, group, seen, f"{words}smallest has {min(sizes)}")
        few = ", of which too few have known bias for groups" if held.bias is not None else ""
        return cls(held, None, seen, f"accuracy on {many}{few}")

    def __call__(self, run: Trained) -> dict[str, float]:
        """Accuracy on training samples; score, and its standard error, on held-out ones."""
        net, _ = models.settled(run.model, "recalibrated", self.seen)
        of_train, right = (
            (models.predict(net, split).argmax(1) == split.y).double()
            for split in (self.seen, self.held)
        )
        groups = () if self.groups is None else self.groups[self.groups >= 0].unique().tolist()
        parts = [right[self.groups == group] for group in groups] or [right]
        worst = min(parts, key=lambda part: float(part.mean()))
        score = float(worst.mean())
        error = math.sqrt(score * (1 - score) / len(worst))
        return {
            "train_accuracy": float(of_train.mean()), "score": score, "score_error": error,
        }  # fmt: skip


class ShortRuns:
    """Short runs so far, a dict of `COLUMNS` and `lr` each, and what is left of the budget.

    budget: updates of all of them, or a time as in "10 min"; None is that of 20 epochs. store: the
    netCDF file that holds them; those in it of the same call are not trained again.
    """

    def __init__(
        self, model, dataset: BiasedDataset, config: TrainConfig, budget: int | str | None,
        store: Path | None, device, engine: str, progress: bool,
    ) -> None:  # fmt: skip
        share = config.validation_share or (0.0 if dataset.val else HELD_OUT)
        config = dataclasses.replace(config, validation_share=share, select_by=None)
        train, held = evaluation.splits(dataset, config, small=True)
        assert held is not None
        self.config = dataclasses.replace(config, validation_share=0.0)
        self.model, self.device, self.engine, self.store = model, device, engine, store
        self.data = dataclasses.replace(dataset, train=train, val=None, test=held)
        where = arguments.device(device)
        self.judge = Judge.of(train.to(where), held.to(where))
        self.chance = float(train.y.bincount().max()) / len(train)
        self.batch = min(config.batch_size, len(train))
        self.budget, self.seconds = _budget(budget, EPOCHS * (len(train) // self.batch))
        self.began, self.used, self.groups = time.monotonic(), 0, 0
        self.rows: list[dict] = []
        self.asked = self._asked()
        self.before = [] if store is None else self._read(store)  # sets the clock back, too
        expected = EPOCHS * len(train) if self.seconds else self.budget * self.batch
        self.display = Progress(0, expected, bound=True, show=progress)

    @property
    def left(self) -> float:
        """Updates that the budget still holds, by the pace so far where it is a time."""
        if not self.seconds:
            return self.budget - self.used
        gone = time.monotonic() - self.began
        return (self.seconds - gone) * self.used / gone if self.used else math.nan

    def train(self, stage: str, pairs: Sequence[tuple[float, int]], steps: int) -> None:
        """Add a group of short runs, of an LR and a seed each, of so many updates.

        Raises TimeLimit where the time is over; what has ended until then is there.
        """
        self.groups += 1
        here = [r for r in self.before if (r["stage"], r["group"]) == (stage, self.groups)]
        known = [row for row in here if (row["lr"], row["seed"]) in pairs]
        self._add(known)
        steps = max((row["steps"] for row in known), default=steps)
        data = _part(self.data, steps * self.batch)
        done = {(row["lr"], row["seed"]) for row in known}
        requests = [
            Request(dataclasses.replace(self.config, lr=lr, max_steps=steps), seed, None, number)
            for number, (lr, seed) in enumerate(pairs) if (lr, seed) not in done
        ]  # fmt: skip
        if not requests:
            return
        self.display.of += len(requests)
        fit_each(
            self.model, data, [r.config for r in requests], requests,
            functools.partial(self._ended, stage), device=self.device, engine=self.engine,
            progress=self.display, keep=False, time_limit=self._time_left(),
        )  # fmt: skip

    def _ended(self, stage: str, runs: list[tuple[Request, Trained]]) -> None:
        self._add([self._row(stage, run) for _, run in runs])
        if self.store is not None:
            results.save(self.dataset(), self.store)

    def learned(self, row: dict) -> bool:
        """Whether a run is better on training samples than the share of their largest class."""
        return row["train_accuracy"] > self.chance + MARGIN * (1 - self.chance)

    def dataset(self) -> xr.Dataset:
        """All short runs, along `trial`."""
        columns = {
            name: ("trial", [row[name] for row in self.rows], {"units": unit, "long_name": w})
            for name, (unit, w) in COLUMNS.items()
        }
        about = {"units": "1", "long_name": "learning rate"}
        lrs = ("trial", [row["lr"] for row in self.rows], about)
        attrs = {
            "budget": f"{self.seconds / 60:g} min" if self.seconds else f"{self.budget:,} updates",
            "updates": self.used, "criterion": self.judge.words,
            "seconds": time.monotonic() - self.began, "asked": json.dumps(self.asked),
        }  # fmt: skip
        return xr.Dataset(columns, {"lr": lrs}, attrs)

    def _row(self, stage: str, run: Trained) -> dict:
        losses = run.curves["loss"]
        nothing = dict.fromkeys(("train_accuracy", "score", "score_error"), math.nan)
        return {
            "stage": stage, "group": self.groups, "lr": run.config.lr, "seed": run.seed,
            "steps": run.steps, "status": run.status, "first_loss": float(losses[0]),
            "last_loss": float(losses[-max(1, len(losses) // 4) :].mean()),
        } | (nothing if run.status == "diverged" else self.judge(run))  # fmt: skip

    def _add(self, rows: list[dict]) -> None:
        self.rows += rows
        self.used += sum(row["steps"] for row in rows)

    def _time_left(self) -> float | None:
        if not self.seconds:
            return None
        left = self.seconds - (time.monotonic() - self.began)
        if left <= 0:
            raise TimeLimit("the time is over")
        return left

    def _asked(self) -> dict[str, str]:
        """What tells one call from another."""
        train, model = self.data.train, self.model
        x = train.x if isinstance(train.x, Tensor) else torch.arange(0)
        parts = [x, train.y, *([] if train.bias is None else [train.bias])]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = arguments.factory(model, self.data, {})()
        return {
            "data": f"{self.data.name} {self.data.checksum} {digest(parts)}",
            "model": digest(net.state_dict().values()),
            "config": repr(self.config), "budget": f"{self.budget} {self.seconds}",
        }  # fmt: skip

    def _read(self, path: Path) -> list[dict]:
        if not path.is_file():
            results.save(self.dataset(), path)  # before hours are spent, if that is not possible
            return []
        found = results.load(path)
        asked = json.loads(found.attrs.get("asked", "{}"))
        if other := [name for name, value in self.asked.items() if asked.get(name) != value]:
            raise ValueError(
                f"store={str(path)!r} holds short runs of another {' and '.join(other)}: give "
                "another file, or move that one away"
            )
        self.began -= float(found.attrs["seconds"])
        names = ["lr", *COLUMNS]
        columns = zip(*(found[name].values.tolist() for name in names), strict=True)
        return [dict(zip(names, row, strict=True)) for row in columns]


def _part(data: BiasedDataset, n: int) -> BiasedDataset:
    """Data of which so many training samples are needed: others would only be evaluated."""
    if n >= len(data.train):
        return data
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(1))
    # a part may lack classes; those who check would refuse it as a user's own set
    return dataclasses.replace(data, train=data.train.take(order[:n]), source_id="part")


def _budget(given: int | str | None, usual: int) -> tuple[int, float]:
    """(updates, seconds), of which one is 0."""
    if given is None:
        return usual, 0.0
    if is_whole(given, LEAST_STEPS):
        return int(given), 0.0
    told = re.fullmatch(r"\s*([\d.]+)\s*(s|min|h)\w*\s*", given) if isinstance(given, str) else None
    if told and float(told[1]) > 0:
        return 0, float(told[1]) * {"s": 1, "min": 60, "h": 3600}[told[2]]
    raise ValueError(
        f"budget must be a number of updates >= {LEAST_STEPS}, or a time as '10 min', found "
        f"{shown(given)}"
    )

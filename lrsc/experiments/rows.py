"""The rows of every experiment: data set, model, and which runs each profile holds. Data only."""

import dataclasses

import numpy as np

from lrsc.experiments.paper import DATASETS, HIGH_LR, INTERVENTIONS, table
from lrsc.results import LOW_LR


@dataclasses.dataclass(frozen=True)
class Plan:
    """Values of the row's knob, seeds and the cap of one row in one profile.

    n_train: number of training samples, None for as many as the profile has.
    """

    values: tuple[float, ...]
    seeds: tuple[int, ...]
    max_epochs: int
    n_train: int | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """One data set and model of an experiment, planned for some or all profiles.

    knob: the field of TrainConfig that the plans' values are of (batch_size as 1 / B); name: what
    the row is called among those of its data set and model, the knob's name where it is empty.
    """

    dataset: str
    model: str
    plans: dict[str, Plan]
    data: dict = dataclasses.field(default_factory=dict)  # options of the data set
    train: dict = dataclasses.field(default_factory=dict)  # fields of TrainConfig
    # probes (training.PROBES) and the iterations between two calls; a tenth of them in quick runs
    record: dict[str, int] = dataclasses.field(default_factory=dict)
    model_options: dict = dataclasses.field(default_factory=dict)
    knob: str = "lr"
    name: str = ""

    @property
    def hyperparameter(self) -> str:
        """The row's name: 'lr', 'l2', 'high_lr_l2', 'adam', ..."""
        return self.name or self.knob

    def setting(self, value: float) -> dict:
        """The field of TrainConfig that a value of the plan stands for."""
        if self.knob == "batch_size":
            return {self.knob: round(1 / value)}
        return {self.knob: int(value) if self.knob == "switch_at" else float(value)}


def _both(
    desk: tuple[float, ...], paper: tuple[float, ...], cap: int, seeds: tuple[int, ...] = (0, 1, 2)
) -> dict[str, Plan]:
    """Plans of the desk and paper profiles that differ in values only."""
    return {"desk": Plan(desk, seeds, cap), "paper": Plan(paper, seeds, cap)}


def _log_spaced(low: float, high: float, n: int = 6, *more: float) -> tuple[float, ...]:
    """n log-spaced values with both ends (3 significant digits), and further ones."""
    inner = {float(f"{value:.3g}") for value in np.geomspace(low, high, n)[1:-1]}
    return tuple(sorted(inner | {low, high} | set(more)))


def _desk(low: float, high: float) -> tuple[float, ...]:
    return tuple(v for i, v in enumerate(_log_spaced(low, high, 5)) if i != 1)


def _usual(dataset: str, model: str, low: float, high: float, **data: float) -> Row:
    """A row of the semi-synthetic grid: table S1's range of LRs, and a part of it on a desk.

    There a LR between the upper two, which takes minutes, stands beside the ends and the middle.
    """
    cap = 1000 if model == "fcn" else 100
    quick = {"fcn": (20,), "wide_resnet101_2": (1, 50)}.get(model, (2, 200))
    return Row(dataset, model, {
        "quick": Plan((low, high), (0,), *quick),
        "desk": Plan(_desk(low, high), (0, 1, 2), cap // 2 if model == "fcn" else cap),
        "paper": Plan(_log_spaced(low, high), (0, 1, 2), cap),
    }, data)  # fmt: skip


# those of the semi-synthetic desk plan, so that they are the same runs, and the high LR of S2
_DESK_LRS = {
    "colored_mnist": (0.001, 0.015, 0.15),
    "mnist_cifar": (*_desk(0.001, 0.25), 0.1),
    "double_mnist": _desk(0.001, 0.1),
}


def _interventions() -> tuple[Row, ...]:
    """Table S2: eight interventions on three data sets, ResNet18."""
    ours = {shown: name for name, shown in DATASETS.items()}
    rows = []
    for line in table("s2"):
        dataset, (name, knob) = ours[line["dataset"]], INTERVENTIONS[line["hyperparameter"]]
        low, high = float(line["value_min"]), float(line["value_max"])
        lr = HIGH_LR[dataset] if name == "high_lr_l2" else LOW_LR
        desk = _DESK_LRS[dataset] if name == "lr" else _log_spaced(low, high, 3)
        rows.append(Row(
            dataset, "resnet18", _both(desk, _log_spaced(low, high), 100),
            train={} if name == "lr" else {"lr": lr}, knob=knob, name=name,
        ))  # fmt: skip
    return tuple(rows)


def _quick_interventions() -> tuple[Row, ...]:
    """The same on a small network and stand-in data, where the low LR is one that learns."""
    return tuple(
        Row("colored_mnist", "fcn", {"quick": Plan(values, (0,), 8)},
            train={} if name == "lr" else {"lr": 0.2 if name == "high_lr_l2" else 0.02},
            knob=knob, name=name)
        for (name, knob), values in zip(INTERVENTIONS.values(), (
            (0.02, 0.2), (1e-3,), (0.1,), (0.9,), (1e-4,), (1e-2,), (5.0,), (1.0,),
        ), strict=True)
    )  # fmt: skip


_STANDARD_LRS = (0.01, 0.1)  # low and high on CIFAR-10, where table S1 has no row
_MORE_SEEDS = (0, 1, 2, 3, 4)  # where three seeds of a row left a claim undecided
_SWIN_LRS = (1e-7, 1e-4)  # table S1's range on CelebA; Waterbirds has no row
_PRETRAINED = {"weights": "imagenet"}


def _naturalistic(dataset: str, cap: int) -> tuple[Row, ...]:
    """A pretrained Swin-T, and its quick stand-ins: small images, networks without weights."""
    train, small = {"optimizer": "adamw"}, {"size": 32, "n_train": 200}
    quick = {"quick": Plan((1e-4, 1e-3), (0,), 2)}
    return (
        Row(dataset, "swin_t", _both(_log_spaced(*_SWIN_LRS, 3), _log_spaced(*_SWIN_LRS), cap),
            train=train, model_options=_PRETRAINED),
        Row(dataset, "swin_t", quick, small, train),
        Row(dataset, "resnet18", quick, small, train),
    )  # fmt: skip


def _schedules() -> tuple[Row, ...]:
    """Colored MNIST under other schedules, optimisers and ends; each under a name of its own."""
    wsd = {"optimizer": "psgd_kron", "schedule": "wsd", "stop_at_accuracy": None}
    sgd, adam = (0.001, 0.015, 0.15), (1e-4, 1e-3, 1e-2)
    rows = []
    for name, train, desk, paper, quick, cap in (
        ("step", {"schedule": "step"}, sgd, _log_spaced(0.001, 0.25), (0.02, 0.2), 100),
        ("adam", {"optimizer": "adam"}, adam, _log_spaced(1e-5, 1e-2), (1e-4, 1e-3), 100),
        ("longer", {"stop_at_loss": 5e-5}, sgd, _log_spaced(0.001, 0.25), (0.06, 0.2), 500),
    ):
        quickly = {"quick": Plan(quick, (0,), 30)}
        for model, plans in (("resnet18", _both(desk, paper, cap)), ("fcn", quickly)):
            rows.append(Row("colored_mnist", model, plans, train=train, name=name))
    return (
        # what those are compared with: the runs of figure 4
        Row("colored_mnist", "resnet18", _both(sgd, _log_spaced(0.001, 0.25, 6, 0.15), 100)),
        *rows,
        # figure 29; the schedule is trained to its end
        Row("colored_mnist", "resnet50",
            _both(_log_spaced(1e-6, 0.01, 3), _log_spaced(1e-6, 0.01), 30),
            train=wsd, name="psgd_kron_wsd"),
        Row("cifar100", "resnet18", {
            "paper": Plan(_log_spaced(1e-5, 1e-2), (0, 1, 2), 100),
        }, train={
            "optimizer": "adamw", "schedule": "cosine", "weight_decay": 0.01,
            "validation_share": 0.1, "select_by": "mean", "stop_at_accuracy": None,
        }, name="adamw_cosine"),
        # figure 30, left: the LR falls from high to low at an iteration; the LR throughout
        Row("cifar10", "resnet18", _both(_STANDARD_LRS, _STANDARD_LRS, 100, _MORE_SEEDS),
            record={"dynamics": 100}),
        Row("cifar10", "resnet18",
            _both((30, 100, 300, 1000), (100, 300, 1000, 3000, 5000), 100, _MORE_SEEDS),
            train={"schedule": "switch", "lr": _STANDARD_LRS[1], "switch_lr": _STANDARD_LRS[0]},
            knob="switch_at", name="switch"),
    )  # fmt: skip


EXPERIMENTS: dict[str, tuple[Row, ...]] = {
    # figure 3; five seeds, since they cost seconds each
    "synthetic": (
        Row("parity", "fcn", {
            "quick": Plan((0.01, 0.1, 0.75), (0, 1), 60),
            "desk": Plan(_log_spaced(0.01, 0.75), (0, 1, 2), 1000),
            "paper": Plan(_log_spaced(0.01, 0.75), (0, 1, 2, 3, 4), 1000),
        }, record={"attribution": 100}),
        # figure 15; at the default rho of 0.1 every LR ends near 100 % (see "choices")
        Row("moon_star", "fcn", {
            "quick": Plan((0.01, 0.2), (0,), 60),
            "paper": Plan(_log_spaced(0.01, 0.75), (0, 1, 2), 1000),
        }, {"rho": 0.005}),
    ),
    # figures 4 and 5: table S1's ranges, and the LRs of the comparison with other trainers
    "semi_synthetic": (
        Row("colored_mnist", "fcn", {
            "quick": Plan((0.02, 0.06, 0.2), (0, 1), 60),
            "desk": Plan((0.02, 0.1, 0.5), (0, 1, 2), 500),
            "paper": Plan(_log_spaced(0.001, 0.5, 6, 0.05, 0.1), (0, 1, 2), 1000),
        }),
        Row("colored_mnist", "resnet18", {
            "quick": Plan((0.01, 0.1), (0,), 15),
            "desk": Plan((0.001, 0.015, 0.15), (0, 1, 2), 100),
            "paper": Plan(_log_spaced(0.001, 0.25, 6, 0.15), (0, 1, 2), 100),
        }),
        _usual("colored_mnist", "cnn", 0.01, 0.35),
        _usual("colored_mnist", "resnet50", 0.001, 0.1),
        _usual("colored_mnist", "wide_resnet101_2", 0.001, 0.25),
        # seeds diverge at the range's top on a desk's data, so that a fourth LR is planned
        Row("double_mnist", "fcn", {
            "quick": Plan((0.02, 0.2), (0,), 40),
            "desk": Plan(_log_spaced(0.001, 0.5, 3, 0.1), (0, 1, 2), 500),
            "paper": Plan(_log_spaced(0.001, 0.5), (0, 1, 2), 1000),
        }),
        _usual("double_mnist", "cnn", 0.005, 0.4),
        _usual("double_mnist", "resnet18", 0.001, 0.1),
        _usual("double_mnist", "resnet50", 0.001, 0.1),
        _usual("double_mnist", "wide_resnet101_2", 0.001, 0.1),
        # the paper has more bias-conflicting samples for the FCN here
        _usual("mnist_cifar", "fcn", 0.001, 0.01, rho=0.25),
        _usual("mnist_cifar", "cnn", 0.001, 0.2),
        _usual("mnist_cifar", "resnet18", 0.001, 0.25),
        _usual("mnist_cifar", "resnet50", 0.005, 0.1),
        _usual("mnist_cifar", "wide_resnet101_2", 0.005, 0.1),
        _usual("corrupted_cifar10", "fcn", 0.0001, 0.005, rho=0.25),
        _usual("corrupted_cifar10", "cnn", 0.001, 0.1),
        _usual("corrupted_cifar10", "resnet18", 0.001, 0.5),
        _usual("corrupted_cifar10", "resnet50", 0.001, 0.1),
        _usual("corrupted_cifar10", "wide_resnet101_2", 0.001, 0.25),
    ),
    # figures 9, 12, 13, 17, 18: what happens along training, at a low and a high LR
    "mechanism": (
        Row("colored_mnist", "fcn", {
            "quick": Plan((0.02, 0.2), (0, 1), 40),
            "desk": Plan((0.02, 0.1), (0, 1, 2), 500),
        }, record={"dynamics": 50}),
        Row("double_mnist", "fcn", {
            "desk": Plan((0.0224, 0.1), (0, 1, 2), 500),
        }, record={"dynamics": 50, "attribution": 200, "neurons": 20}),
        Row("colored_mnist", "resnet18", _both((0.001, 0.15), (0.001, 0.15), 100, _MORE_SEEDS),
            record={"dynamics": 50}),
        Row("cifar10", "resnet18", _both(_STANDARD_LRS, _STANDARD_LRS, 100),
            record={"dynamics": 100}),
    ),
    # halves of CIFAR-10, on which the conflicting samples of the other half are found
    "crossfit": tuple(
        Row("cifar10", "resnet18", _both(_STANDARD_LRS, _STANDARD_LRS, 100, (10, 11)),
            {"half": half})
        for half in ("A", "B")
    ),
    # figure 27, and the galleries: where core and spurious feature have places of their own
    "attribution": (
        Row("double_mnist", "fcn", {
            "quick": Plan((0.02, 0.2), (0,), 40),
            "desk": Plan(_log_spaced(0.001, 0.5, 3, 0.1), (0, 1, 2), 500),
            "paper": Plan(_log_spaced(0.001, 0.5), (0, 1, 2), 1000),
        }),
        _usual("double_mnist", "resnet18", 0.001, 0.1),
    ),
    # figures 8, 10, 14, 35, 36: no spurious feature is known here
    "standard_classification": (
        Row("cifar10", "resnet18", {
            "quick": Plan((0.01, 0.1), (0,), 4),
            "desk": Plan((0.001, 0.01, 0.03, 0.1), _MORE_SEEDS, 100),
            "paper": Plan(_log_spaced(0.001, 0.25, 6, 0.1), tuple(range(10)), 100),
        }, record={"dynamics": 100}),
        Row("cifar100", "resnet18", {
            "quick": Plan((0.01, 0.1), (0,), 2, 400),
            "paper": Plan(_log_spaced(0.001, 0.25, 6, 0.1), tuple(range(10)), 100),
        }),
    ),
    # what our readings of the paper change: choices of data, varied one by one
    "choices": (
        *(
            Row("parity", "fcn", {"paper": Plan((0.01, 0.75), (0, 1), 1000)},
                dict(zip(("n_core", "n_spurious", "n_noise"), bits, strict=True)))
            for bits in (
                (3, 1, 40), (3, 1, 55), (4, 1, 33), (4, 1, 36), (4, 1, 38), (4, 1, 40), (4, 2, 28),
                (4, 2, 35), (5, 2, 40),
            )
        ),
        *(
            Row("moon_star", "fcn", {"paper": Plan((0.01, 0.316), (0, 1), 1000)}, data)
            for data in ({}, {"rho": 0.02}, {"rho": 0.01}, {"rho": 0.005})
        ),
        # share of conflicting samples, scale of the inputs, initialisation: settled together
        *(
            Row("colored_mnist", "fcn", {"paper": Plan((0.5,), (0,), 1000)},
                {"rho": rho} | scale, name="settings")
            for rho in (0.01, 0.0125, 0.015, 0.02, 0.025)
            for scale in ({}, {"standardise": False})
        ),
        *(
            Row("colored_mnist", "resnet18", {"paper": Plan(lrs, (0,), 100)},
                data, model_options=options, name="settings")
            for data, options, lrs in (
                ({"rho": 0.025}, {}, (0.001, 0.015, 0.15)),
                ({"rho": 0.02}, {}, (0.001, 0.015, 0.15)),
                ({"rho": 0.02}, {"init": "torch"}, (0.001, 0.015, 0.15, 0.25)),
                ({"rho": 0.0125}, {"init": "torch"}, (0.15,)),
                ({"rho": 0.0125, "standardise": False}, {"init": "torch"}, (0.15,)),
            )
        ),
        Row("colored_mnist", "cnn", {"paper": Plan((0.35,), (0,), 100)},
            {"rho": 0.0125, "standardise": False}, name="settings"),
        # what a desk's training sets, a sixth of the paper's, take away
        *(
            Row("colored_mnist", "resnet18", {"desk": Plan((0.015, 0.15), (0,), 100)},
                {"n_train": n})
            for n in (5_000, 10_000, 20_000, 60_000)
        ),
    ),
    # whether bf16 changes what a run ends with
    "precision": tuple(
        Row("colored_mnist", model, {"desk": Plan((0.1,), (0, 1, 2), 100)}, train=train)
        for model in ("fcn", "resnet18")
        for train in ({}, {"precision": "bf16"})
    ),
    # figures 6, 9 and 20, table S2
    "hyperparameters": (*_quick_interventions(), *_interventions()),
    # figures 7 and 19: worst groups
    "naturalistic": (*_naturalistic("celeba", 10), *_naturalistic("waterbirds", 100)),
    # figure 11; the paper names neither model nor LRs
    "imagenet": (
        Row("imagenet", "resnet18", {"quick": Plan((0.005, 0.05), (0,), 2)},
            {"size": 32, "n_train": 200}),
        Row("imagenet", "resnet18", {
            "desk": Plan(_log_spaced(0.001, 0.1, 3), (0, 1, 2), 100),
            "paper": Plan(_log_spaced(0.001, 0.1), (0, 1, 2), 90),
        }),
    ),
    # figures 23 to 25, 29 and 30; soups are made of several networks, not of one run
    "optimizers_schedules": _schedules(),
}  # fmt: skip

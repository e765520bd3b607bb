"""Long-form experiments and small data sets that the tests of figures and notebooks share."""

import numpy as np
import torch
import xarray as xr

from lrsc import RunConfig, TrainConfig
from lrsc.datasets import BiasedDataset, Split
from lrsc.measures import as_dataset

LRS = (0.01, 0.03, 0.1, 0.3)
MEASURES = {
    "unbiased_accuracy": (0.5, 0.9),
    "prunability": (0.4, 0.8),
    "activation_compressibility": (0.2, 0.6),
    "csi": (0.05, 0.2),
    "class_separation": (0.01, 0.3),
}


def experiment(lrs=LRS, seeds=(0, 1, 2), diverged=(), collapsed=(), model="fcn") -> xr.Dataset:
    """A long-form experiment; `diverged` and `collapsed` list (lr, seed) pairs."""
    runs = [(lr, seed) for lr in lrs for seed in seeds]
    rise = np.array([np.log(lr / 0.01) / np.log(100) + 0.02 * seed for lr, seed in runs])
    status = np.array(["converged"] * len(runs), dtype=object)
    kappa = np.arange(1, 10) / 10
    values = {name: low + (high - low) * rise for name, (low, high) in MEASURES.items()}
    curve = values["unbiased_accuracy"][:, None] * (1 - 0.5 * kappa**2)
    values |= {"accuracy_pruned_column": curve, "accuracy_pruned_magnitude": curve**2}
    for i, run in enumerate(runs):
        if run in collapsed:
            status[i] = "collapsed"
        if run in diverged:
            status[i] = "diverged"
            for array in values.values():
                array[i] = np.nan
    text = {
        "dataset": "parity", "model": model, "profile": "desk", "source_id": "generated",
        "device": "cpu",
    }  # fmt: skip
    coords = {name: ("run", np.full(len(runs), value, object)) for name, value in text.items()}
    coords |= {
        "lr": ("run", np.array([lr for lr, _ in runs])),
        "seed": ("run", np.array([seed for _, seed in runs], int)),
        "status": ("run", status),
        "n_train": ("run", np.full(len(runs), 10000)),
        "kappa": kappa,
    }
    variables = {
        name: (("run", "kappa")[: array.ndim], array, {"units": "1", "long_name": name})
        for name, array in values.items()
    }
    attrs = {"origin": "shipped", "file": "book/results/synthetic.nc", "experiment": "synthetic"}
    return xr.Dataset(variables, coords, attrs)


def images(dtype=torch.uint8, channels=3) -> BiasedDataset:
    y = torch.arange(60) % 3
    bias = torch.where(torch.arange(60) < 15, (y + 1) % 3, y)
    x = (torch.rand(60, channels, 8, 8, generator=torch.Generator().manual_seed(0)) * 255).to(dtype)
    split = Split(x, y, bias)
    return BiasedDataset("stripes", split, split, 3, "own")


def bits() -> BiasedDataset:
    y = torch.arange(40) % 2
    bias = torch.where(torch.arange(40) < 10, 1 - y, y)
    x = torch.randint(0, 2, (40, 9), generator=torch.Generator().manual_seed(0)).float() * 2 - 1
    core = torch.zeros(1, 9, dtype=torch.bool)
    core[:, :4] = True
    spurious = torch.zeros(1, 9, dtype=torch.bool)
    spurious[:, 4:6] = True
    split = Split(x, y, bias, core, spurious)
    return BiasedDataset("bits", split, split, 2, "generated")


def stored(name="0123456789abcdef", lr=0.1, seed=0, accuracy=0.5, **attrs):
    config = RunConfig("colored_mnist", "fcn", TrainConfig(lr=lr), seed=seed)
    found = as_dataset({
        "unbiased_accuracy": accuracy,
        "accuracy_pruned_column": np.linspace(0.9, 0.1, 9),
        "group_accuracy": np.eye(2),
    })  # fmt: skip
    found["representation"] = (("sample", "unit"), np.zeros((4, 3), np.float16))
    found.attrs = {
        "run_id": name, "config": config.to_json(), "status": "converged", "source_id": "digits",
        "wall_seconds": 1.0, "n_train": 1200,
    } | attrs  # fmt: skip
    return found


def draw(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text) if t.get_text() and t.get_visible()]


def assert_nothing_clipped(figure):
    from matplotlib.text import Text

    drawn = figure.get_tightbbox(draw(figure))  # inches, over all that is drawn
    width, height = figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= -0.01, drawn
    assert drawn.x1 <= width + 0.01 and drawn.y1 <= height + 0.01, drawn
    for text in figure.findobj(Text):
        assert not text.get_text() or text.get_fontsize() >= 10, text

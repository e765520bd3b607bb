"""Fixtures: tiny data sets and models, and real data only where $LRSC_DATA has them."""

import logging
import os
from pathlib import Path

import pytest
import torch

import lrsc
from lrsc.datasets import BiasedDataset, Split


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory):
    """What tests decode or draw is not kept in the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRSC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def own_logging():
    """What the command line does to the root logger ends with its test."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def digits() -> BiasedDataset:
    """Colored MNIST from the embedded digits."""
    return lrsc.datasets.load("colored_mnist", source="embedded")


@pytest.fixture(scope="session")
def parity() -> BiasedDataset:
    """A parity set that trains in a fraction of a second."""
    return lrsc.datasets.load("parity", n_train=1000, n_noise=10, n_core=3, n_spurious=1)


@pytest.fixture
def real_data() -> Path:
    """The data root with real MNIST; skips, with the reason, where it is not given."""
    root = os.environ.get("LRSC_DATA")
    if not root or not (Path(root) / "MNIST" / "raw").is_dir():
        pytest.skip("real MNIST: set LRSC_DATA to a folder that holds MNIST/raw")
    return Path(root)


@pytest.fixture
def own_dataset() -> BiasedDataset:
    """A user's own small image set: 60 samples, 3 classes, without source or options."""
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(60) % 3
    x = torch.randint(0, 256, (60, 3, 8, 8), generator=generator, dtype=torch.uint8)
    split = Split(x, y, bias=torch.where(torch.arange(60) % 5 == 0, (y + 1) % 3, y))
    return BiasedDataset("own", split, split, n_classes=3)


@pytest.fixture
def displayed_texts(monkeypatch) -> list[str]:
    """Texts of what the notebooks' helpers display, in order."""
    shown: list[str] = []
    monkeypatch.setattr(
        "IPython.display.display", lambda *objects: shown.extend(each.data for each in objects)
    )
    return shown

"""Double MNIST: the dim left digit is the class, the bright right digit the bias."""

import numpy as np

from lrsc.datasets.biased import BiasedDataset, compose, partners
from lrsc.datasets.raw import sources

VERSION = 1
find = sources.mnist
WIDTH = 28  # pixels of a digit


def build(
    source: sources.Source,
    rho: float = 0.025,
    seed: int = 0,
    n_train: int | None = None,
    dim: float = 0.5,
    standardise: bool = True,
) -> BiasedDataset:
    """Two digits side by side, N x 1 x 28 x 56 uint8; the left one `dim` times as bright.

    The right digit is drawn from its class in the same split of MNIST, each image once before any
    comes again. core_mask and spurious_mask are the left and the right half.
    """
    if not 0 < dim <= 1:
        raise ValueError(f"dim must be in (0, 1], found {dim!r}")
    grey, y, grey_test, y_test = source.content

    def paint(is_test, chosen, bias, rng):
        images, labels = (grey_test, y_test) if is_test else (grey, y)
        x = np.empty((len(chosen), 1, WIDTH, 2 * WIDTH), np.uint8)
        x[:, 0, :, :WIDTH] = np.rint(images[chosen] * np.float32(dim))
        x[:, 0, :, WIDTH:] = images[partners(bias, labels, rng)]
        left = np.arange(2 * WIDTH)[None, None, None] < WIDTH
        left = np.broadcast_to(left, (1, 1, WIDTH, 2 * WIDTH)).copy()
        return {"x": x, "core_mask": left, "spurious_mask": ~left}

    return compose(
        "double_mnist", source, (y, y_test), paint, rho=rho,
        rng=np.random.default_rng([VERSION, seed]), n_train=n_train, standardise=standardise,
        class_names=tuple("0123456789"),
    )  # fmt: skip

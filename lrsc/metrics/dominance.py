"""How neurons' dominance and spurious use change along training (fig. 18).

Tables are calls x neurons: a row a moment of training, in order, a column a neuron.
"""

import torch
from torch import Tensor

from lrsc.metrics.checks import tensor


def dominance_persistence(csi: Tensor, bsi: Tensor) -> dict[str, Tensor]:
    """At each call, the share of class-dominant (bias-dominant) neurons that are so at the end.

    csi, bsi: class and bias selectivity, calls x neurons. Class-dominant: CSI > BSI; all others are
    bias-dominant, as in the paper. Returns `class_dominant` (the share of class-dominant neurons),
    `class_kept` and `bias_kept`, one value per call; NaN where no neuron is of that kind. Raises
    ValueError for NaN, empty tables and shapes that differ. Fig. 18 (top).
    """
    csi, bsi = _tables("csi", csi, "bsi", bsi)
    of_class = csi > bsi
    at_end = of_class[-1]
    return {
        "class_dominant": of_class.double().mean(1),
        "class_kept": (of_class & at_end).sum(1) / of_class.sum(1),
        "bias_kept": (~of_class & ~at_end).sum(1) / (~of_class).sum(1),
    }


def update_response(
    gradient_norm: Tensor, share: Tensor, lags: int = 10, at_least: float = 0.99
) -> dict[str, Tensor]:
    """Neurons' spurious share around their largest updates, relative to its value before them.

    gradient_norm, share: calls x neurons; share may hold NaN where a neuron is inactive. Events:
    calls at which a neuron's gradient norm is in the top share 1 - at_least of its own values, at
    least `lags` calls from either end. Returns `lag` (-lags .. lags); `large`, the mean over events
    of the share at each lag minus that at lag 0 (the gradient is that of the step taken then);
    `other`, the same around all other calls as a control; and `events`, the number of events.
    Raises ValueError for tables that are too short. Fig. 18 (bottom).
    """
    norms, share = _tables("gradient_norm", gradient_norm, "share", share, nan=True)
    calls = len(norms)
    if not 0 < at_least < 1:
        raise ValueError(f"at_least must be a share in (0, 1), found {at_least!r}")
    if calls < 2 * lags + 2:
        raise ValueError(
            f"the tables hold {calls} calls, expected at least {2 * lags + 2} for lags={lags}: "
            "record the probe more often, or give fewer lags"
        )
    norms = norms.double().nan_to_num(0.0)
    middle = torch.arange(lags, calls - lags)
    large = norms[middle] >= norms.quantile(at_least, dim=0)
    large &= norms[middle] > 0
    around = torch.stack([share[middle + lag] - share[middle] for lag in range(-lags, lags + 1)])
    return {
        "lag": torch.arange(-lags, lags + 1),
        "large": around[:, large].nanmean(1),
        "other": around[:, ~large].nanmean(1),
        "events": large.sum(),
    }


def _tables(one: str, a: Tensor, other: str, b: Tensor, nan: bool = False) -> tuple[Tensor, Tensor]:
    a, b = tensor(one, a), tensor(other, b)
    if a.dim() != 2 or a.shape != b.shape:
        raise ValueError(
            f"{one} has shape {tuple(a.shape)} and {other} {tuple(b.shape)}, expected the same "
            "calls x neurons"
        )
    for name, values in ((one, a), (other, b)):
        if not nan and bool(values.isnan().any()):
            raise ValueError(
                f"{name} holds NaN, expected a number for every neuron and call; leave out calls "
                "at which nothing was recorded, and runs that diverged"
            )
    return a, b

"""Learning rate of each iteration, as the config's schedule says."""

import math

from lrsc.config import TrainConfig

CHANGE_AT = 1000  # iteration at which 'step' and 'switch' change the LR, in runs that are longer


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """LR of iteration `step` (from 0) of a run of at most `total` iterations.

    constant: config.lr. step, switch: another LR from iteration step_at or switch_at on.
    cosine, wsd: the first w = round(warmup * total) iterations rise linearly, lr (t + 1) / w; the
    LR then falls so as to reach 0 at iteration `total`, which is no longer trained: every iteration
    of the run has an LR > 0. cosine, for t >= w: lr (1 + cos(pi (t - w) / (total - w)))
    / 2 (Loshchilov and Hutter 2017, without restarts); wsd, in the last d = round(decay * total):
    lr (total - t) / d (Hu et al. 2024; linear as in Hägele et al. 2024).
    """
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "step":
        return config.lr * (config.step_factor if step >= _at(config.step_at, total) else 1.0)
    if config.schedule == "switch":
        low = config.lr / 100 if config.switch_lr is None else config.switch_lr
        return low if step >= _at(config.switch_at, total) else config.lr
    rising = round(config.warmup * total)
    up = (step + 1) / rising if step < rising else 1.0
    if config.schedule == "wsd":
        falling = round(config.decay * total)
        down = (total - step) / falling if step >= total - falling else 1.0
        return config.lr * min(up, down)
    if step < rising:
        return config.lr * up
    return config.lr * (1 + math.cos(math.pi * (step - rising) / (total - rising))) / 2


def check(config: TrainConfig, total: int) -> None:
    """Raise ValueError for a change of LR that a run of `total` iterations never reaches."""
    for name in ("step_at", "switch_at"):
        at = getattr(config, name)
        if at is not None and at >= total:
            raise ValueError(
                f"{name}={at!r} is never reached: max_epochs={config.max_epochs!r} epochs of this "
                f"data set are {total} iterations, counted from 0; lower {name} or raise max_epochs"
            )


def _at(given: int | None, total: int) -> int:
    if given is not None:
        return given
    return CHANGE_AT if total > CHANGE_AT else total // 2

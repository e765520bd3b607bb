"""Optimisers by name, sharpness-aware minimisation, and what their steps need."""

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lrsc.config import TrainConfig
from lrsc.models.draws import Draws

ETA = 0.01  # added to |w| in ASAM, as published
_KRON_NEEDS = {"pytorch_optimizer": "pytorch-optimizer", "opt_einsum": "opt-einsum"}
_KRON_NOISE = 0x4B524F4E  # sets Kron's noise apart from what is seeded with the seed alone


def build(
    config: TrainConfig,
    parameters: Iterable[nn.Parameter],
    device_type: str,
    seed: int | None = None,
) -> torch.optim.Optimizer:
    """The optimiser that config.optimizer names, with the config's LR and weight decay.

    sgd, adam, adamw: torch's own, fused where the device ('cpu', 'cuda') has it. psgd_kron:
    `Kron` of the library pytorch_optimizer with its own defaults (momentum 0.9; weight decay of
    matrices and filters only), Li 2018; see `_kron`. Each resumes bit for bit from its state_dict.
    seed: of Kron's draws, by default torch's own.

    Raises ValueError if a package that Kron needs is missing.
    """
    decay = config.weight_decay
    fused = device_type in ("cpu", "cuda")  # one pass over the parameters
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, config.lr, config.momentum, weight_decay=decay, fused=fused
        )
    if config.optimizer == "psgd_kron":
        return _kron(config, parameters, torch.initial_seed() if seed is None else seed)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(parameters, config.lr, config.betas, weight_decay=decay, fused=fused)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give all parameter groups this LR."""
    for group in optimizer.param_groups:
        group["lr"] = lr


class SharpnessAware:
    """(Adaptive) sharpness-aware minimisation: the gradient of a step is that at w + epsilon.

    With g the gradient at w: epsilon = rho g / |g| (SAM, Foret et al. 2021, equation 2, p = 2), or,
    adaptive, epsilon = rho T^2 g / |T g| with T = |w| + eta, element by element, eta = 0.01 (ASAM,
    Kwon et al. 2021, algorithm 1), the norm being that of all parameters together. A zero gradient
    moves nothing. Use: gradients at w; ascend(); gradients at w + epsilon; restore(); the
    optimiser's step.

    Not pytorch_optimizer's SAM: its plain form is the published one, but its adaptive form has
    eta = 0, so that a weight of exactly 0 never moves. The authors' own code has T = 1 for biases
    and other parameters not called 'weight'; here, as in the paper, T is the same for all.

    Raises ValueError for a rho that is not >= 0.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], rho: float, adaptive: bool) -> None:
        if not rho >= 0:
            raise ValueError(f"rho must be a number >= 0, found {rho!r}")
        self.rho, self.adaptive = rho, adaptive
        self.parameters: list[Tensor] = list(parameters)
        self.before: list[Tensor] = []

    @torch.no_grad()
    def ascend(self) -> None:
        """Move the weights to w + epsilon by their current gradients; w is remembered."""
        self.before = self.before or [torch.empty_like(w) for w in self.parameters]
        torch._foreach_copy_(self.before, self.parameters)
        used = [w for w in self.parameters if w.grad is not None]
        if used:
            torch._foreach_add_(used, self._epsilon(used))

    @torch.no_grad()
    def restore(self) -> None:
        """Put w back, bit for bit."""
        torch._foreach_copy_(self.parameters, self.before)

    def _epsilon(self, weights: list[Tensor]) -> tuple[Tensor, ...]:
        moves = tuple(w.grad for w in weights if w.grad is not None)
        if self.adaptive:
            scales = torch._foreach_abs(weights)
            torch._foreach_add_(scales, ETA)
            moves = torch._foreach_mul(moves, scales)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(moves)))
        if self.adaptive:
            torch._foreach_mul_(moves, scales)
        return torch._foreach_mul(moves, torch.where(norm > 0, self.rho / norm, 0.0))


@contextlib.contextmanager
def frozen_statistics(net: nn.Module) -> Iterator[None]:
    """Context in which BatchNorm normalises as before but leaves its running statistics alone."""
    layers = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    try:
        for layer in layers:
            layer.track_running_stats = False
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def _kron(
    config: TrainConfig, parameters: Iterable[nn.Parameter], seed: int
) -> torch.optim.Optimizer:
    """Kron whose noise is a function of the seed and the step, and of nothing else.

    The library draws from torch's and NumPy's global generators. Here each step draws from one of
    its own, and seeds NumPy's and puts it back: a state_dict holds all that a resumed run needs,
    processes that share a run draw the same, and nobody else's draws change. Without opt-einsum
    torch contracts Kron's products from left to right: 25 GB for a layer of 100 x 784.
    """
    missing = [name for module, name in _KRON_NEEDS.items() if not importlib.util.find_spec(module)]
    if missing:
        raise ValueError(
            f"optimizer='psgd_kron' needs packages that are not installed: {', '.join(missing)}; "
            f"pip install {' '.join(missing)}"
        )
    from pytorch_optimizer import Kron

    class OwnNoiseKron(Kron):
        def step(self, closure=None):
            group = self.param_groups[0]
            with _noise(group["seed"], group.get("step", 0), group["params"][0].device):
                return super().step(closure)

    optimizer = OwnNoiseKron(parameters, lr=config.lr, weight_decay=config.weight_decay)
    optimizer.param_groups[0]["seed"] = seed
    return optimizer


@contextlib.contextmanager
def _noise(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Draws of a step from generators of its own, and NumPy's put back as it was afterwards."""
    key = (seed * 0x9E3779B1 + step * 0x85EBCA6B + _KRON_NOISE) & 0xFFFFFFFF
    with Draws(key, device).inside():  # one at a time, for NumPy's generator too
        before = np.random.get_state()
        np.random.seed(key)
        try:
            yield
        finally:
            np.random.set_state(before)

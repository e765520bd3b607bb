"""Settings of torch that a caller may have changed: precision, gradients, inference mode."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def matmul_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Context of products in single precision, or in TF32 on a GPU if the config says so.

    Overrides torch.autocast and torch.set_float32_matmul_precision, and restores them.
    """
    kind = "cuda" if device.type == "cuda" else "cpu"
    backends: Any = torch.backends
    if kind == "cuda":
        parts, name = [backends.cuda.matmul, backends.cudnn], "allow_tf32"
    else:
        known = backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn
        parts = [part for part in known if part.fp32_precision not in ("none", "ieee")]
        name = "fp32_precision"
    value = precision == "tf32" if kind == "cuda" else "ieee"
    before, autocast = [getattr(part, name) for part in parts], torch.is_autocast_enabled(kind)
    # not torch.autocast(enabled=False), in which another one would keep its weights of before
    try:
        torch.set_autocast_enabled(kind, False)
        for part in parts:
            setattr(part, name, value)
        yield
    finally:
        torch.set_autocast_enabled(kind, autocast)
        for part, asked in zip(parts, before, strict=True):
            setattr(part, name, asked)


@contextlib.contextmanager
def with_gradients() -> Iterator[None]:
    """Context in which gradients are recorded, even if the caller switched them off in this thread.

    Raises ValueError for a default type other than float32, which all threads share.
    """
    if torch.get_default_dtype() != torch.float32:
        raise ValueError(
            f"torch's default type is {torch.get_default_dtype()}, expected torch.float32: call "
            "torch.set_default_dtype(torch.float32); TrainConfig(precision='fp64') trains in double"
        )
    with torch.inference_mode(False), torch.enable_grad():
        yield

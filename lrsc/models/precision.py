"""Settings of torch that a caller may have changed: TF32, gradients, inference mode, types."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def matmul_precision(precision: str, device: torch.device) -> Iterator[None]:
    """TF32 on a GPU on or off, as the config says; as it was afterwards."""
    if device.type != "cuda":
        yield
        return
    kinds: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [kind.allow_tf32 for kind in kinds]
    try:
        for kind in kinds:
            kind.allow_tf32 = precision == "tf32"
        yield
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.allow_tf32 = value


@contextlib.contextmanager
def with_gradients() -> Iterator[None]:
    """Inside, gradients are recorded, whatever the caller has switched off in this thread.

    Raises ValueError for a default type other than float32, which all threads share.
    """
    if torch.get_default_dtype() != torch.float32:
        raise ValueError(
            f"torch's default type is {torch.get_default_dtype()}, expected torch.float32: call "
            "torch.set_default_dtype(torch.float32); TrainConfig(precision='fp64') trains in double"
        )
    with torch.inference_mode(False), torch.enable_grad():
        yield

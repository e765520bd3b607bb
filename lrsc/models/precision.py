"""Settings of torch that a caller may have changed: precision, gradients, inference mode."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def matmul_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Products in single precision, on a GPU in TF32 as the config says; as it was afterwards.

    Whatever the caller has set: torch.autocast, torch.set_float32_matmul_precision.
    """
    cuda = device.type == "cuda"
    asked = "highest" if cuda else torch.get_float32_matmul_precision()
    kinds: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn) if cuda else ()
    before = [kind.allow_tf32 for kind in kinds]
    # not torch.autocast(enabled=False), in which another one would keep its weights of before
    kind_of_device = "cuda" if cuda else "cpu"
    autocast = torch.is_autocast_enabled(kind_of_device)
    try:
        torch.set_autocast_enabled(kind_of_device, False)
        if asked != "highest":
            torch.set_float32_matmul_precision("highest")
        for kind in kinds:
            kind.allow_tf32 = precision == "tf32"
        yield
    finally:
        torch.set_autocast_enabled(kind_of_device, autocast)
        if asked != "highest":
            torch.set_float32_matmul_precision(asked)
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

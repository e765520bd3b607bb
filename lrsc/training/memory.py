"""Memory that is free, and what is said and done when there is none."""

import gc

import torch

from lrsc.config import TrainConfig
from lrsc.errors import OutOfMemory


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return _free_host()


def _free_host() -> int:
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 2**62  # not told on this system: an out-of-memory then makes the group smaller


def free(device: torch.device) -> None:
    """Give memory back that nothing holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def advice(error: str, config: TrainConfig) -> OutOfMemory:
    """The error a user sees, with the settings that need less memory."""
    return OutOfMemory(
        f"out of memory in training: {error.partition(chr(10))[0]}\n"
        f"What needs less: a smaller batch_size (now {config.batch_size}), more parts of a "
        f"batch (accumulation, now {config.accumulation}; the update stays that of the whole "
        f"batch), or precision='bf16' (now {config.precision!r})."
    )

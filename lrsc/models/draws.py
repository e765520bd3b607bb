"""Random draws of a run: from generators of its own, whatever else draws in the process.

Torch's layers draw their weights and their dropout from the process's generators, which all
threads share. While a thread has entered `Draws`, its draws come from that object's instead.
"""

import functools
import threading
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_one_at_a_time = threading.Lock()  # for what can draw from the process's generators only


class Draws(TorchDispatchMode):
    """Generators of the CPU and, where that is the device, of a GPU.

    They give what torch's own give after `torch.manual_seed(seed)`. Operations that are given a
    generator by their caller keep it. drawn: whether anything was drawn.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        super().__init__()
        devices = {d.type: d for d in (torch.device("cpu"), device)}
        self.generators = {kind: torch.Generator(d) for kind, d in devices.items()}
        self.drawn = False
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start over."""
        for generator in self.generators.values():
            generator.manual_seed(seed)

    def state(self) -> tuple[Tensor, Tensor | None]:
        """State of the CPU's generator, and of the GPU's."""
        cuda = self.generators.get("cuda")
        return self.generators["cpu"].get_state(), None if cuda is None else cuda.get_state()

    def set_state(self, state: tuple[Tensor, Tensor | None]) -> None:
        """Go on from a state."""
        for kind, value in zip(("cpu", "cuda"), state, strict=True):
            if value is not None:
                self.generators[kind].set_state(value)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every operation of torch passes here; one that draws is told where from."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator"):
            return func(*args, **kwargs)
        self.drawn = True
        where = next((a.device for a in args if isinstance(a, Tensor)), kwargs.get("device"))
        generator = self.generators[torch.device(where or "cpu").type]
        if (taking := _with_generator(func)) is not None:
            return taking(*args, **(kwargs | {"generator": generator}))
        # dropout fused with something else on a GPU
        devices = [generator.device] if generator.device.type == "cuda" else []
        with _one_at_a_time, torch.random.fork_rng(devices):
            torch.manual_seed(int(torch.randint(2**62, (), generator=self.generators["cpu"])))
            return func(*args, **kwargs)


@functools.cache
def _with_generator(func: Any) -> Any:
    """The operation, or its overload, that can be told its generator; None if there is none."""
    name, packet = func._overloadname, func.overloadpacket
    for other in (name, name.replace("low", "low_generator"), f"{name}_generator", "generator"):
        if other in packet.overloads() and any(
            a.name == "generator" for a in getattr(packet, other)._schema.arguments
        ):
            return getattr(packet, other)
    return None

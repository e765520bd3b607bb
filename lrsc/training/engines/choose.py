"""Which engine trains a group of runs, in how many lanes, and how many side by side.

`reference`: one run after the other, with all threads. `threads`: the reference loop in one
single-threaded lane a core. `stacked`: fully connected networks in batched products, small ones in
one lane with all threads, large ones a network at a time in one lane a core; on a GPU as CUDA
graphs. `graphs`: a CUDA graph for each run. What wins where was measured: benchmarks/replicas.py.
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lrsc import models
from lrsc.config import TrainConfig
from lrsc.errors import check_names, is_whole, shown
from lrsc.models.draws import Draws
from lrsc.training import distributed
from lrsc.training.engines.graphs import Graphs
from lrsc.training.engines.reference import Reference
from lrsc.training.engines.stacked import Stacked
from lrsc.training.memory import free_memory
from lrsc.training.run import Job

ENGINES = ("auto", "reference", "threads", "stacked", "graphs")
CACHE = 4 * 2**20  # bytes of weights for a core: of smaller networks several go together
MOST = 64  # replicas side by side in a lane
SHARE = 0.8  # of the free memory that replicas may take


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a group of runs is trained: `width` side by side in each of `lanes`.

    single: with one torch thread a lane, else all.
    """

    engine: str
    lanes: int
    width: int
    single: bool = False

    def make(self, job: Job) -> Reference:
        """The engine of one lane."""
        return {"stacked": Stacked, "graphs": Graphs}.get(self.engine, Reference)(job)


def plan(
    job: Job, configs: Sequence[TrainConfig], engine: str = "auto", replicas: int | None = None
) -> Plan:
    """Choose for runs of one job; engine and replicas (side by side, all lanes) override.

    Raises ValueError for an engine that does not exist or cannot train these runs, with the
    reason, and for replicas < 1.
    """
    check_names("engine", [engine], ENGINES)
    if replicas is not None and not is_whole(replicas, 1):
        raise ValueError(f"replicas must be a whole number >= 1 or None, found {shown(replicas)}")
    # on a GPU a graph is worth it for a single run too
    one = (len(configs) == 1 or replicas == 1) and job.device.type != "cuda"
    alone = one or distributed.world() > 1
    if engine == "reference" or job.ready or (engine == "auto" and alone):
        return Plan("reference", 1, 1)
    model = _look_at(job)
    reasons = {name: _unfit(name, job, configs, model) for name in ENGINES[2:]}
    if engine == "auto":
        preferred = ("stacked", "graphs" if job.device.type == "cuda" else "threads")
        fit = [name for name in preferred if reasons[name] is None]
        engine = fit[0] if fit else "reference"
    elif reasons[engine] is not None:
        raise ValueError(
            f"engine={engine!r} cannot train these runs: {reasons[engine]}; use engine='auto'"
        )
    if engine == "reference":
        return Plan("reference", 1, 1)
    return _sized(engine, job, len(configs), replicas, model)


@dataclasses.dataclass(frozen=True)
class _Model:
    """What one training pass of a batch shows of a model."""

    stackable: bool
    noisy: bool
    synchronous: str  # what it does that waits for the device, on a GPU
    weights: int  # bytes
    saved: int  # bytes that the forward pass keeps for the backward pass


def _look_at(job: Job) -> _Model:
    draws = Draws(0, job.device)
    with draws.inside():
        net = job.factory().to(job.device).train()
        x = job.train.inputs(job.train.x[: job.batch].to(job.device))
        before, kept = draws.state(), dict[int, int]()

        def keep(t: Tensor) -> Tensor:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            result = models.logits_of(net(x))
        noisy = not draws.is_in(before)
        weights = sum(p.numel() * p.element_size() for p in net.parameters())
        synchronous = _waits(lambda: models.logits_of(net(x)).sum().backward()) if x.is_cuda else ""
        del result
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    saved = sum(size for place, size in kept.items() if place not in own)
    return _Model(models.linear_layers(net) is not None, noisy, synchronous, weights, saved)


def _waits(call: Callable[[], None]) -> str:
    """What torch says of a call that waits for the GPU, which no CUDA graph can hold."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return ""


def _unfit(name: str, job: Job, configs: Sequence[TrainConfig], model: _Model) -> str | None:
    """Why an engine cannot train these runs; None if it can."""
    optimizers = {c.optimizer for c in configs}
    if distributed.world() > 1:
        return "several processes share each run"
    if not isinstance(job.train.x, Tensor):
        return "the images stream from disk"
    if job.train.augment is not None:
        return "the training samples are augmented"
    if model.noisy:
        return "the model draws random numbers in training"
    if "psgd_kron" in optimizers:
        return "optimizer='psgd_kron' draws random numbers"
    if name == "threads" and job.device.type != "cpu":
        return f"it is for the CPU, the device is {str(job.device)!r}"
    if name == "graphs" and job.device.type != "cuda":
        return f"CUDA graphs need a GPU, the device is {str(job.device)!r}"
    if name == "graphs" and model.synchronous:
        return f"its training step waits for the device ({model.synchronous})"
    if name == "stacked":
        if not model.stackable:
            return "the model is not a chain of linear layers with ReLUs between"
        if optimizers != {"sgd"}:
            return f"it knows SGD only, found optimizer={min(optimizers - {'sgd'})!r}"
        if any(c.sam_rho or c.asam_rho for c in configs):
            return "it knows no sharpness-aware minimisation (sam_rho, asam_rho)"
        if job.keep_zeros:
            return "it moves all weights (keep_zeros=True)"
        if any(c.accumulation > 1 for c in configs):
            return "it takes each batch whole (accumulation=1)"
    return None


def _sized(engine: str, job: Job, runs: int, replicas: int | None, model: _Model) -> Plan:
    cuda, threads = job.device.type == "cuda", torch.get_num_threads()
    small = engine == "stacked" and 2 * model.weights <= CACHE
    lanes = 1 if cuda or small else max(1, min(threads, runs))
    each = MOST if cuda else min(MOST, CACHE * threads // model.weights) if small else 1
    # weights, gradients and up to two tensors of an optimiser; activations and their gradients
    room = int(SHARE * free_memory(job.device) / (4 * model.weights + 2 * model.saved + 1))
    most = max(1, min(runs, room, each * lanes)) if replicas is None else min(runs, replicas)
    lanes = min(lanes, most)
    width = 1 if engine == "threads" else -(-most // lanes)
    return Plan(engine, lanes, width, single=engine == "threads" or lanes > 1)

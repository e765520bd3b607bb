"""A training step that reads and writes fixed places on the device, so that a CUDA graph holds it.

The samples of many steps, their learning rates and the number of the step lie on the device; one
call does gather, forward pass, backward pass, update and the record of the logits, without the
host. On a GPU the whole is captured once and replayed; elsewhere it is called as it is.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lrsc import schedules
from lrsc.training.run import Job, Run

WARM = 3  # calls before a capture: libraries choose their kernels and take their memory in them

Body = Callable[[Tensor, Tensor, Tensor, Callable[[], None] | None], Tensor]


class Static:
    """The step of R runs: body(x, y, lrs, look) -> logits, of R * batch samples, or as views.

    places: tensors that the warm-up before a capture changes and that are put back after it.
    """

    def __init__(
        self, job: Job, runs: Sequence[Run], body: Body, places: Callable[[], list[Tensor]]
    ) -> None:
        self.job, self.runs, self.body, self.places = job, runs, body, places
        self.graph: torch.cuda.CUDAGraph | None = None
        device, rows = job.device, len(runs) * job.batch
        self.room = 0
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        x = job.train.x
        assert isinstance(x, Tensor)  # `engines` leaves what streams from disk to the reference
        self.samples = x
        self.raw = torch.empty((rows, *x.shape[1:]), dtype=x.dtype, device=device)
        self.inputs = (
            self.raw if x.dtype == torch.float32 else torch.empty(self.raw.shape, device=device)
        )
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def load(self, parts: Tensor, n: int) -> None:
        """Prepare n steps: parts are their samples, n x R x batch."""
        if n > self.room:  # of a graph for good: moved places would cost another capture
            self._make_room(n if self.stream is None else max(n, self.job.epoch))
        self.order[:n] = parts.flatten(1)
        self.lrs[:n] = learning_rates(self.runs, n).to(self.lrs)
        self.position.zero_()

    def step(self, look: Callable[[], None] | None = None) -> None:
        """The next step; with probes it is called as it is, so that they see the gradients."""
        if self.stream is None or look is not None:
            self._one(look)
            return
        (self.graph or self._capture()).replay()

    def _one(self, look: Callable[[], None] | None = None) -> None:
        index = self.order.index_select(0, self.position)[0]
        train = self.job.train
        torch.index_select(self.samples, 0, index, out=self.raw)
        x = train.inputs(self.raw, out=self.inputs) if self.raw is not self.inputs else self.raw
        lrs = self.lrs.index_select(0, self.position)[0]
        logits = self.body(x, train.y.index_select(0, index), lrs, look)
        self.logits.index_copy_(0, self.position, logits.detach().reshape(self.logits[:1].shape))
        self.position.add_(1)

    def _make_room(self, n: int) -> None:
        job, runs = self.job, self.runs
        self.order = torch.zeros((n, len(runs) * job.batch), dtype=torch.int64, device=job.device)
        self.lrs = torch.zeros((n, len(runs)), dtype=runs[0].dtype, device=job.device)
        self.logits = torch.empty(
            (n, len(runs), job.batch, job.dataset.n_classes),
            dtype=runs[0].dtype, device=job.device,
        )  # fmt: skip
        self.room, self.graph = n, None  # the places have moved

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Record the step: some calls to warm up, undone, then one that is not executed."""
        stream = self.stream
        assert stream is not None
        stream.wait_stream(torch.cuda.current_stream(self.job.device))
        with torch.cuda.stream(stream):
            # the capture may come after steps with probes, which are not replayed
            at, before = self.position.clone(), [place.clone() for place in self.places()]
            for _ in range(WARM):
                self.position.copy_(at)
                self._one()
            after = self.places()
            for place in after[len(before) :]:  # an optimiser's state, which it has made: fresh
                place.zero_()
            for place, value in zip(after, before, strict=False):
                place.copy_(value)
            self.position.copy_(at)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            self._one()
        self.graph = graph
        return graph


def learning_rates(runs: Sequence[Run], n: int) -> Tensor:
    """LR of each of the next n steps of each run, n x R, float64, on the host."""
    if all(run.config.schedule == "constant" for run in runs):
        return torch.tensor([run.config.lr for run in runs], dtype=torch.float64).expand(n, -1)
    return torch.tensor(
        [
            [schedules.learning_rate(run.config, run.done + i, run.total) for run in runs]
            for i in range(n)
        ],
        dtype=torch.float64,
    )

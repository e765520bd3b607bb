"""The stacked engine: fully connected networks side by side, each product one for all of them.

Forward and backward pass are written out. Where the update is plain SGD, it happens inside the
product that gives the gradient (w - lr g^T a), and no gradient is ever stored.
"""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lrsc import models
from lrsc.training import evaluation
from lrsc.training.engines.reference import Reference
from lrsc.training.engines.static import Static
from lrsc.training.run import Job, Run


class Stacked(Reference):
    """SGD of chains of linear layers; LR, momentum, penalties, focal gamma of each run its own."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.runs: list[Run] = []

    def advance(
        self, runs: Sequence[Run], n: int, due: Callable[[int], bool]
    ) -> tuple[Tensor, Tensor]:
        """At most n steps of every run, as `Reference.advance` does one's."""
        if self.runs != list(runs):
            self._gather(runs)
        parts = torch.stack([run.parts(n) for run in runs], 1)
        self.static.load(parts, n)
        done = 0
        while done < n:
            looks = {k: look for k, run in enumerate(runs) if (look := run.due(run.done + done))}
            self.static.step(functools.partial(self._look, looks) if looks else None)
            done += 1
            if due(done):
                break
        return self.static.logits[:done], parts[:done]

    def forward(self, runs: Sequence[Run]) -> evaluation.Forward:
        """Logits of the runs' networks."""
        if self.runs == list(runs):
            return self.stack.logits
        if all(run in self.runs for run in runs):
            return self.stack.take([self.runs.index(run) for run in runs]).logits
        return models.Stack([run.net for run in runs]).logits

    def leave(self, runs: Sequence[Run]) -> None:
        """Give the runs weights of their own again."""
        for run in runs:
            models.unbind(run.net)
            for state in run.optimizer.state.values():
                state.update({k: v.clone() for k, v in state.items() if isinstance(v, Tensor)})
        if any(run in self.runs for run in runs):
            self.runs = []
            del self.static  # which holds this engine: no cycle keeps the stacks

    def _gather(self, runs: Sequence[Run]) -> None:
        """Stack the runs' weights and momentum, which from now on are views of the stacks."""
        self.runs = list(runs)
        self.stack = models.Stack([run.net for run in runs])
        self.stack.bind()
        self.weights = [w for w in [*self.stack.weights, *self.stack.biases] if w is not None]
        weight = self.weights[0]

        def of_runs(name: str) -> Tensor | None:  # None where it is 0 in all of them
            values = [getattr(run.config, name) for run in runs]
            found = torch.tensor(values, dtype=weight.dtype, device=weight.device)[:, None, None]
            return found if any(values) else None

        self.decay, self.l1, self.l2 = of_runs("weight_decay"), of_runs("l1"), of_runs("l2")
        self.momentum, self.gamma = of_runs("momentum"), of_runs("focal_gamma")
        self.plain = self.decay is self.l1 is self.l2 is self.momentum is None
        self.half = runs[0].config.precision == "bf16"
        self.velocities = [] if self.momentum is None else self._velocities()
        self.gradients: list[Tensor] = []
        widths = [layer[0].out_features for layer in self.stack.layers]
        rows = (len(runs), self.job.batch)
        # places for what every step computes: fresh memory each time costs as much as a product
        self.activations = [torch.empty((*rows, w), dtype=weight.dtype, device=weight.device)
                            for w in widths]  # fmt: skip
        self.slopes = [torch.empty_like(a) for a in self.activations[:-1]]
        self.eye = torch.eye(widths[-1], dtype=weight.dtype, device=weight.device)
        self.static = Static(
            self.job, self.runs, self._body, lambda: [*self.weights, *self.velocities]
        )

    def _velocities(self) -> list[Tensor]:
        """Momentum buffers, zero where a run has none yet, bound to the runs' optimisers."""
        found = [torch.zeros_like(w) for w in self.weights]
        for k, run in enumerate(self.runs):
            for place, parameter in zip(found, self._parameters(k), strict=True):
                state = run.optimizer.state[parameter]
                own = place[k].view(parameter.shape)
                if state.get("momentum_buffer") is not None:
                    own.copy_(state["momentum_buffer"])
                state["momentum_buffer"] = own
        return found

    def _parameters(self, k: int) -> list[torch.nn.Parameter]:
        """Parameters of run k in the order of `weights`."""
        layers = [row[k] for row in self.stack.layers]
        biases = [layer.bias for layer in layers if layer.bias is not None]
        return [*(layer.weight for layer in layers), *biases]

    @torch.no_grad()
    def _body(
        self, x: Tensor, y: Tensor, lrs: Tensor, look: Callable[[], None] | None = None
    ) -> Tensor:
        rows = len(self.runs), self.job.batch
        inputs = [x.view(*rows, -1).to(self.weights[0].dtype)]
        for weight, bias, a in zip(
            self.stack.weights, self.stack.biases, self.activations, strict=True
        ):
            self._product(inputs[-1], weight.mT, a, bias)
            if a is not self.activations[-1]:
                inputs.append(a.relu_())
        logits = self.activations[-1]
        g = self._slope(logits, y.view(rows))
        if self.plain and look is None and not self.half:
            self._descend(g.mul_(lrs[:, None, None]), inputs)
        else:
            self._gradients_of(g, inputs)
            if look is not None:
                look()
            self._update(lrs[:, None, None])
        return logits

    def _slope(self, logits: Tensor, y: Tensor) -> Tensor:
        """Gradient of each run's mean loss with respect to its logits."""
        log_p = torch.log_softmax(logits, 2)
        p = log_p.exp()
        g = (p - self.eye[y]).mul_(1 / self.job.batch)
        if self.gamma is not None:
            entropy = -log_p.gather(2, y[:, :, None])
            g.mul_(_focal_slope(entropy, self.gamma))
        return g

    def _descend(self, g: Tensor, inputs: list[Tensor]) -> None:
        """Plain SGD; g is times the LR already."""
        for i in reversed(range(len(inputs))):
            back = self._back(g, i, inputs) if i else None  # with the weights before the update
            weight, bias = self.stack.weights[i], self.stack.biases[i]
            weight.baddbmm_(g.mT, inputs[i], alpha=-1)
            if bias is not None:
                bias.sub_(g.sum(1, keepdim=True))
            if back is not None:
                g = back

    def _gradients_of(self, g: Tensor, inputs: list[Tensor]) -> None:
        if not self.gradients:
            self.gradients = [torch.empty_like(w) for w in self.weights]
        biases = iter([i for i, b in enumerate(self.stack.biases) if b is not None])
        place = {i: len(inputs) + k for k, i in enumerate(biases)}
        for i in reversed(range(len(inputs))):
            self._product(g.mT, inputs[i], self.gradients[i])
            if i in place:
                torch.sum(g, 1, keepdim=True, out=self.gradients[place[i]])
            if i:
                g = self._back(g, i, inputs)
        for weight, gradient in zip(self.weights, self.gradients, strict=True):
            if self.l2 is not None:
                gradient.addcmul_(weight, self.l2)
            if self.l1 is not None:
                gradient.addcmul_(weight.sign(), self.l1)

    def _update(self, lrs: Tensor) -> None:
        if self.decay is not None:
            for weight, gradient in zip(self.weights, self.gradients, strict=True):
                gradient.addcmul_(weight, self.decay)
        moves = self.gradients
        if self.momentum is not None:
            for velocity, gradient in zip(self.velocities, self.gradients, strict=True):
                velocity.mul_(self.momentum).add_(gradient)
            moves = self.velocities
        for weight, move in zip(self.weights, moves, strict=True):
            weight.addcmul_(move, -lrs)

    def _back(self, g: Tensor, i: int, inputs: list[Tensor]) -> Tensor:
        """Gradient with respect to the values before layer i's ReLU."""
        slope = self._product(g, self.stack.weights[i], self.slopes[i - 1])
        return torch.ops.aten.threshold_backward.grad_input(slope, inputs[i], 0, grad_input=slope)

    def _product(self, a: Tensor, b: Tensor, out: Tensor, bias: Tensor | None = None) -> Tensor:
        if self.half:
            found = torch.bmm(a.bfloat16(), b.bfloat16())
            return out.copy_(found if bias is None else found + bias.bfloat16())
        return torch.bmm(a, b, out=out) if bias is None else torch.baddbmm(bias, a, b, out=out)

    def _look(self, looks: dict[int, Callable[[], None]]) -> None:
        """Call probes; every parameter of their runs has its gradient meanwhile."""
        for k, look in looks.items():
            parameters = self._parameters(k)
            for parameter, gradient in zip(parameters, self.gradients, strict=True):
                parameter.grad = gradient[k].view(parameter.shape)
            with torch.enable_grad():
                look()
            for parameter in parameters:
                parameter.grad = None


def _focal_slope(entropy: Tensor, gamma: Tensor) -> Tensor:
    """d (1 - p)^gamma e / d e with p = exp(-e), as `losses.classification` has it; 1 at gamma 0."""
    least = torch.finfo(entropy.dtype).tiny
    e = entropy.clamp_min(least)
    rest = -torch.expm1(-e)
    inner = gamma * rest ** (gamma - 1) * torch.exp(-e) * entropy
    slope = rest**gamma + torch.where(entropy > least, inner, 0.0)
    return torch.where(gamma == 0, 1.0, slope)

"""What is recorded of the steps, decided at the end of an epoch, and done at the end of a run."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lrsc.metrics import loss_ratio
from lrsc.training import distributed, evaluation
from lrsc.training.engines.reference import Reference
from lrsc.training.run import Run


@torch.inference_mode()
def record(runs: Sequence[Run], logits: Tensor, chosen: Tensor) -> None:
    """Add the curves of some steps: logits steps x R x batch x K, chosen their samples."""
    logits, chosen = distributed.gather(logits, 2), distributed.gather(chosen, 2)
    train = runs[0].job.train
    y = train.y[chosen]
    losses = F.cross_entropy(logits.flatten(0, 2), y.flatten(), reduction="none").view(y.shape)
    right = (logits.argmax(3) == y).sum((0, 2))
    curves, finite = {"loss": losses.mean(2)}, losses.isfinite().all(0).all(1)
    if train.bias is not None:
        if train.bias_unknown is not None:
            losses = torch.where(train.known[chosen], losses, 0.0)
        curves["loss_ratio"] = loss_ratio(losses, train.conflicting[chosen])
    for k, run in enumerate(runs):
        for name, curve in curves.items():
            run.curves.setdefault(name, []).append(curve[:, k].clone())
        run.right += right[k]
        run.finite &= finite[k]


def decide(engine: Reference, runs: list[Run], poll: Callable[[], None]) -> None:
    """What is decided at the end of an epoch; a signal during its evaluations repeats them."""
    # the epoch's only host synchronisation beside the evaluations
    finite = torch.stack([run.finite for run in runs]).tolist()
    fine = [run for run, is_finite in zip(runs, finite, strict=True) if is_finite]
    validation = {
        run: evaluation.validation_accuracy(run.net, run.job.val, run.config.select_by, poll)
        for run in fine
        if run.job.val is not None
    }
    asking = {run: s for run in fine if (s := run.config.stop_at_accuracy) is not None}
    accuracy = _accuracies(engine, list(asking), list(asking.values()), poll)
    converged = {run: _converged(run, accuracy.get(run), poll) for run in fine}
    for run in runs:
        run.status = "diverged" if run not in converged else "cap"
        if converged.get(run):
            run.status = "converged"
        run.accuracy = accuracy.get(run, run.accuracy)
        run.curves.setdefault("accuracy", []).append((run.right / run.seen).float())
        run.epochs, run.seen = run.epochs + 1, 0
        run.right.zero_()
        if run in validation:
            _select(run, validation[run])
        run.tell(**{"validation_accuracy": validation[run]} if run in validation else {})


def _accuracies(
    engine: Reference, runs: list[Run], enough: list[float], poll: Callable[[], None]
) -> dict[Run, float]:
    if not runs:
        return {}
    found = evaluation.training_accuracies(
        lambda which: engine.forward([runs[k] for k in which]), runs[0].job.train, enough, poll
    )
    return dict(zip(runs, found, strict=True))


def _converged(run: Run, accuracy: float | None, poll: Callable[[], None]) -> bool:
    """Whether all rules that are given hold."""
    config = run.config
    rules = []
    if accuracy is not None and config.stop_at_accuracy is not None:
        rules.append(accuracy >= config.stop_at_accuracy)
    if config.stop_at_loss is not None and all(rules):
        loss = evaluation.training_loss(run.net, run.job.train, poll)
        rules.append(loss <= config.stop_at_loss)
    return bool(rules) and all(rules)


def _select(run: Run, accuracy: float) -> None:
    run.curves.setdefault("validation_accuracy", []).append(torch.tensor(accuracy))
    if run.config.select_by is not None and accuracy > run.best["accuracy"]:
        weights = {name: value.detach().clone() for name, value in run.net.state_dict().items()}
        run.best = {"epoch": run.epochs, "accuracy": accuracy, "weights": weights}


def finish(engine: Reference, runs: list[Run], poll: Callable[[], None]) -> None:
    """The last probes, the selected weights, and the accuracy that a run at its cap ends with."""
    asking = []
    for run in runs:
        if run.status == "diverged":
            run.accuracy, run.best["epoch"] = float("nan"), None
            continue
        if run.job.probes and not run.probed:
            for p in run.net.parameters():
                p.grad = None
            run.look(list(run.job.probes), run.done)
            run.probed = True
        if run.best["weights"]:
            run.net.load_state_dict(run.best["weights"])
        if run.status == "cap" or run.best["weights"]:
            asking.append(run)
    for run, accuracy in _accuracies(engine, asking, [0.0] * len(asking), poll).items():
        run.accuracy = accuracy
    for run in runs:
        run.seconds_before = run.seconds
        run.best["weights"] = {}
        run.finished = True

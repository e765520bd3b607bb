"""The paper's tables S1 and S2, what their names are called here, and a list of its figures."""

import csv
from pathlib import Path

# table S2's names -> ours, the field of TrainConfig that is swept, and the rest of the training
HIGH_LR = {"colored_mnist": 0.15, "mnist_cifar": 0.1, "double_mnist": 0.25}  # S2's largest LRs
INTERVENTIONS = {
    "Learning Rate": ("lr", "lr"),
    "High LR + L2 Reg.": ("high_lr_l2", "l2"),
    "Batch Size": ("batch_size", "batch_size"),
    "Momentum": ("momentum", "momentum"),
    "L1 Regularization": ("l1", "l1"),
    "L2 Regularization": ("l2", "l2"),
    "(Focal Loss)": ("focal_gamma", "focal_gamma"),
    "(ASAM)": ("asam_rho", "asam_rho"),
}
DATASETS = {
    "parity": "Parity", "moon_star": "Moon-Star", "colored_mnist": "Colored MNIST",
    "double_mnist": "Double MNIST", "mnist_cifar": "MNIST-CIFAR",
    "corrupted_cifar10": "Cor. CIFAR-10", "celeba": "CelebA",
}  # fmt: skip
MODELS = {
    "fcn": "FCN", "cnn": "CNN", "resnet18": "ResNet18", "resnet50": "ResNet50",
    "wide_resnet101_2": "Wide ResNet101-2", "swin_t": "Swin Transformer",
}  # fmt: skip
MEASURES = {  # ours -> the tables'
    "unbiased_accuracy": "test_accuracy", "prunability": "prunability",
    "activation_compressibility": "activation_compressibility", "csi": "csi",
    "class_separation": "class_separation",
}  # fmt: skip


def table(name: str) -> list[dict[str, str]]:
    """The rows of one of the paper's tables ('s1', 's2'), in its order, as they are written.

    'figures': its figures and tables, what each shows and where that is here; `rows` are patterns
    of `experiments.row_keys`, experiment first, and names of results that are made of several runs.
    """
    with open(Path(__file__).parent / "tables" / f"table_{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def ranges(line: dict[str, str]) -> dict[str, tuple[float, float]]:
    """What a row of a table has: the range of the swept `value`, and of each measure.

    Keys are the names of the result variables; accuracies are fractions.
    """
    swept = "lr" if "lr_min" in line else "value"
    found = {}
    for ours, theirs in {"value": swept, **MEASURES}.items():
        if f"{theirs}_min" in line:
            scale = 100 if ours == "unbiased_accuracy" else 1
            found[ours] = float(line[f"{theirs}_min"]) / scale, float(line[f"{theirs}_max"]) / scale
    return found


def reference(dataset: str, model: str) -> dict[str, tuple[float, float]] | None:
    """Table S1's range of each measure for a data set and model, or None if it has no such row.

    As `ranges`, with the range of LRs as `lr`.
    """
    shown = DATASETS.get(dataset), MODELS.get(model)
    found = next((r for r in table("s1") if (r["dataset"], r["model"]) == shown), None)
    if found is None:
        return None
    known = ranges(found)
    return {"lr": known.pop("value"), **known}

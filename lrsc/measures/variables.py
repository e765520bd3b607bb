"""Every variable of a result, once: unit, what it is, how figures call and show it.

A new metric is a function in `metrics` and a line here.
"""

from typing import NamedTuple


class Variable(NamedTuple):
    """What a result holds under a name.

    label: what figures call it, empty where none shows it alone. dims: beside `run` and
    `statistics`. of: 'network', 'training', or 'filters', whose norms are raw material. percent:
    stored as a fraction, shown in percent.
    """

    units: str
    long_name: str
    label: str = ""
    dims: tuple[str, ...] = ()
    of: str = "network"
    percent: bool = False

    @property
    def attrs(self) -> dict[str, str]:
        """Attributes in a result file."""
        return {"units": self.units, "long_name": self.long_name}


VARIABLES = {
    "unbiased_accuracy": Variable(
        "1", "accuracy on the unbiased test set", "Unbiased accuracy", percent=True,
    ),
    "worst_group_accuracy": Variable(
        "1", "lowest accuracy of a (class, bias) group of the test set",
        "Worst-group accuracy", percent=True,
    ),
    "adjusted_average": Variable(
        "1", "group accuracies weighted by the training shares of the groups",
        "Adjusted average accuracy", percent=True,
    ),
    "group_accuracy": Variable(
        "1", "accuracy of each (class, bias) group of the test set",
        "", ("class", "bias"), percent=True,
    ),
    "test_loss": Variable("nat", "mean cross-entropy on the unbiased test set"),
    "activation_compressibility": Variable(
        "1", "mean (2, 0.1)-compressibility of the representation", "Activation compressibility"
    ),
    "sparsity": Variable("1", "mean share of exact zeros in the representation", "Sparsity"),
    "pq_index": Variable("1", "mean PQ-index (p = 0.5, q = 1) of the representation", "PQ-index"),
    "class_separation": Variable(
        "1", "class separation R2 of the representation", "Class separation"
    ),
    "csi": Variable("1", "class-selectivity index, mean over active neurons", "Class selectivity"),
    "csi_all": Variable("1", "class-selectivity index, mean over all neurons"),
    "bsi": Variable("1", "bias-selectivity index, mean over active neurons", "Bias selectivity"),
    "bsi_all": Variable("1", "bias-selectivity index, mean over all neurons"),
    "prunability": Variable(
        "1", "mean over kappa of accuracy after / before column pruning", "Prunability"
    ),
    "prunability_magnitude": Variable(
        "1", "mean over kappa of accuracy after / before magnitude pruning",
        "Prunability (magnitude)",
    ),
    "prunability_corrected": Variable(
        "1", "prunability by columns with chance taken off accuracies",
        "Prunability, chance taken off",
    ),
    "prunability_magnitude_corrected": Variable("1", "prunability by magnitude, chance taken off"),
    "chance": Variable("1", "chance level: share of the most frequent class of the test labels"),
    "accuracy_pruned_column": Variable(
        "1", "unbiased accuracy after column pruning of a share kappa",
        "", ("kappa",), percent=True,
    ),
    "accuracy_pruned_magnitude": Variable(
        "1", "unbiased accuracy after magnitude pruning", "", ("kappa",), percent=True,
    ),
    "attribution_entropy": Variable(
        "nat", "entropy of the Integrated Gradients map, mean over samples",
        "Entropy of the map, IG (nat)",
    ),
    "attribution_core": Variable(
        "1", "share of Integrated Gradients on the core region", "Share on the core region, IG"
    ),
    "attribution_spurious": Variable("1", "share of Integrated Gradients on the spurious region"),
    "attribution_noise": Variable("1", "share of Integrated Gradients outside both regions"),
    "deeplift_entropy": Variable(
        "nat", "entropy of the DeepLIFT map, mean over samples",
        "Entropy of the map, DeepLIFT (nat)",
    ),
    "deeplift_core": Variable(
        "1", "share of DeepLIFT on the core region", "Share on the core region, DeepLIFT"
    ),
    "deeplift_spurious": Variable("1", "share of DeepLIFT on the spurious region"),
    "deeplift_noise": Variable("1", "share of DeepLIFT outside both regions"),
    "completeness_error": Variable(
        "1", "mean |sum of Integrated Gradients - logit difference|, in logits"
    ),
    "completeness_error_deeplift": Variable(
        "1", "mean |sum of DeepLIFT - logit difference|, in logits"
    ),
    "attribution_agreement": Variable("1", "rank correlation of the maps of both methods, mean"),
    "train_accuracy": Variable(
        "1", "accuracy on the training set, eval mode",
        "Training accuracy", (), "training", percent=True,
    ),
    "max_loss_ratio": Variable(
        "1", "largest bias-conflicting share of a mini-batch's loss in training",
        "Largest loss ratio (mini-batch)", (), "training",
    ),
    "max_loss_ratio_fixed": Variable(
        "1", "the same on 1000 fixed training samples, every 200 steps",
        "Largest loss ratio (fixed sample)", (), "training",
    ),
    "epochs": Variable("1", "epochs trained", "", (), "training"),
    "steps": Variable("1", "steps trained", "", (), "training"),
    "activation_compressibility_at": Variable(
        "1", "mean (q, kappa)-compressibility of the representation", "", ("q", "kept"), "filters"
    ),
    "filter_compressibility": Variable(
        "1", "compressibility of the filter norms, mean over layers",
        "Compressibility of the filter norms", ("q", "kept"), "filters",
    ),
    "filter_compressibility_network": Variable(
        "1", "compressibility of all filter norms together", "", ("q", "kept"), "filters"
    ),
    "filter_sparsity": Variable(
        "1", "share of filters that are zero, mean over layers",
        "Share of filters that are zero", (), "filters",
    ),
    "filter_pq_index": Variable(
        "1", "PQ-index of the filter norms, mean over layers",
        "PQ-index of the filter norms", (), "filters",
    ),
    "filter_pq_index_network": Variable(
        "1", "PQ-index of all filter norms together", "", (), "filters"
    ),
    "filter_norm_spread": Variable(
        "1", "standard deviation over mean of the filter norms, mean over layers", "", (), "filters"
    ),
}  # fmt: skip
PRUNABILITY = {"column": "prunability", "magnitude": "prunability_magnitude"}  # by method
OF_TRAINING = tuple(name for name, about in VARIABLES.items() if about.of == "training")
OF_NETWORK = tuple(name for name, about in VARIABLES.items() if about.of == "network")
SINGLE = (*OF_TRAINING, "chance")  # the same whatever the statistics of batch normalisation

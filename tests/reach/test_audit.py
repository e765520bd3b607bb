"""Audits: numbers against plain computations, the page, the commands, and bad input."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lrsc
from lrsc import cli, datasets
from lrsc.datasets import BiasedDataset, Split


def digits(n: int, rho: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noisy images of two classes, a bright half each, with a border whose colour is the bias."""
    draw = np.random.default_rng(seed)
    y = np.arange(n) % 2
    b = np.where(draw.random(n) < rho, 1 - y, y)
    x = draw.integers(0, 120, (n, 3, 16, 16))
    x[y == 0, :, 2:8], x[y == 1, :, 8:14] = 200, 200
    for value, channel in ((0, 0), (1, 2)):
        x[b == value, channel, :, :2] = 255
    return x.astype(np.uint8), y, b


@pytest.fixture(scope="module")
def data() -> BiasedDataset:
    return datasets.from_arrays(digits(200, 0.1, 0), digits(150, 0.5, 1), name="bars")


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8),
        nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(data) -> lrsc.Trained:
    config = lrsc.TrainConfig(lr=0.1, max_epochs=3, batch_size=20)
    return lrsc.fit(small, data, config, progress=False)[0]


@pytest.fixture(scope="module")
def audited(trained, data) -> lrsc.Audit:
    return lrsc.audit(trained, data, name="mine")


def value(audited: lrsc.Audit, name: str, key: str = "value") -> float:
    return float(audited.dataset.sel(measure=name)[key])


def test_accuracies_are_those_of_the_labels(trained, data, audited):
    predicted = lrsc.models.predict(trained.model, data.test).argmax(1)
    right = (predicted == data.test.y).double()
    aligned = data.test.bias == data.test.y
    groups = [
        right[(data.test.y == k) & (data.test.bias == b)].mean() for k in (0, 1) for b in (0, 1)
    ]
    assert value(audited, "unbiased_accuracy") == pytest.approx(float(right.mean()))
    assert value(audited, "aligned_accuracy") == pytest.approx(float(right[aligned].mean()))
    assert value(audited, "conflicting_accuracy") == pytest.approx(float(right[~aligned].mean()))
    assert value(audited, "worst_group_accuracy") == pytest.approx(float(min(groups)))
    assert value(audited, "gap") == pytest.approx(float(right.mean() - min(groups)))
    assert audited.dataset["group_value"].values == pytest.approx([float(g) for g in groups])
    assert int(audited.dataset["group_samples"].sum()) == len(data.test)


def test_other_numbers_are_those_of_measure(trained, data, audited):
    found = lrsc.measure(trained, data, methods=["column"], statistics=["running", "recalibrated"])
    running = found.sel(statistics="running")
    for name in ("csi", "bsi", "class_separation", "activation_compressibility", "prunability",
                 "prunability_corrected"):  # fmt: skip
        assert value(audited, name) == pytest.approx(float(running[name]), abs=1e-6), name
    curve = audited.dataset["accuracy_pruned"].sel(statistics="recalibrated").values
    expected = found["accuracy_pruned_column"].sel(statistics="recalibrated").values
    assert curve[1:] == pytest.approx(expected)


def test_every_number_has_its_interval_and_samples(audited):
    rows = audited.dataset[["value", "low", "high", "samples"]].to_dataframe()
    assert (rows.low <= rows.value + 1e-9).all()
    assert (rows.value <= rows.high + 1e-9).all()
    assert (rows.samples > 0).all()


def test_the_interval_of_an_accuracy_is_that_of_a_plain_bootstrap(trained, data, audited):
    predicted = lrsc.models.predict(trained.model, data.test).argmax(1)
    right = (predicted == data.test.y).double().numpy()
    draw = np.random.default_rng(5)
    again = [right[draw.integers(0, len(right), len(right))].mean() for _ in range(4000)]
    expected = np.quantile(again, [0.025, 0.975])
    found = [value(audited, "unbiased_accuracy", key) for key in ("low", "high")]
    assert found == pytest.approx(expected, abs=0.015)


def test_shares_of_nothing_and_of_all_have_an_interval_of_some_width():
    from scipy import stats

    from lrsc.reach.audit import _Found, _wilson

    for k, n in ((0, 10), (7, 7), (0, 1)):
        expected = stats.binomtest(k, n).proportion_ci(method="wilson")
        assert _wilson(k / n, n) == pytest.approx((expected.low, expected.high), abs=1e-4)
    found = _Found(None, None, notes=[])
    found.add("unbiased_accuracy", 1.0, torch.ones(50), 7, "Accuracy, all samples")
    assert found.rows[0]["low"] < 0.7 < found.rows[0]["high"] == pytest.approx(1)


def test_the_text_names_measures_and_samples(audited):
    text = str(audited)
    assert text.startswith("mine on bars")
    assert "150 samples" in text
    assert "Prunability" in text


def test_the_page_needs_nothing_else_and_reads_in_both_themes(audited, tmp_path):
    path = audited.to_html(tmp_path / "report.html")
    text = path.read_text()
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', text)
    assert text.count("<svg") == 2  # samples and the curve: no run of these data is stored
    for part in ("prefers-color-scheme: dark", "@media print", "mine on bars", "150", "Latency"):
        assert part in text
    assert not re.search(r"\bnan\b", re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL))


def test_two_networks_stand_side_by_side(audited, data, tmp_path):
    torch.manual_seed(1)
    other = lrsc.audit(small(), data, quick=True, name="<random>")
    text = audited.to_html(tmp_path / "both.html", other).read_text()
    assert "<th class=n>mine</th><th class=n>&lt;random&gt;</th>" in text
    assert "<random>" not in text
    elsewhere = datasets.from_arrays(digits(200, 0.1, 2), digits(150, 0.5, 1), name="others")
    foreign = lrsc.audit(small(), elsewhere, quick=True)
    with pytest.raises(ValueError, match="same data"):
        audited.to_html(tmp_path / "both.html", foreign)


def test_without_bias_labels_what_needs_them_is_left_out_and_said_so(trained):
    plain = datasets.from_arrays(digits(200, 0.1, 0)[:2], digits(60, 0.5, 1)[:2])
    found = lrsc.audit(trained, plain, quick=True)
    assert "worst_group_accuracy" not in found.dataset["measure"].values
    assert "group" not in found.dataset.dims
    assert "No bias labels" in str(found)


def test_small_groups_are_marked_and_not_hidden(trained, tmp_path):
    x, y, b = digits(60, 0.05, 3)
    few = datasets.from_arrays(digits(200, 0.1, 0), (x, y, b))
    found = lrsc.audit(trained, few, quick=True)
    assert found.dataset["group_samples"].min() < 10
    assert "fewer than 10" in str(found)
    assert re.search(r"<td class=n>\d\*</td>", found.to_html(tmp_path / "few.html").read_text())


class Wrapped(nn.Module):
    """Returns what image classifiers of Hugging Face do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, pixel_values):
        return {"logits": self.net(pixel_values), "hidden_states": None}


def test_outputs_of_other_libraries_are_unwrapped(data, audited):
    torch.manual_seed(0)
    wrapped = Wrapped()
    found = lrsc.audit(wrapped, data, quick=True)
    plain = lrsc.audit(wrapped.net, data, quick=True)
    assert value(found, "unbiased_accuracy") == value(plain, "unbiased_accuracy")
    assert value(found, "prunability") == value(plain, "prunability")


def test_networks_that_cannot_be_traced_are_audited_without_shrinking(data):
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small()

        def forward(self, x):
            return self.net(x if float(x.detach().mean()) < 1e9 else -x)

    found = lrsc.audit(Branching(), data, quick=True)
    assert "cost" not in found.dataset
    assert "Shrinking is left out" in str(found)


def test_what_is_not_defined_is_said_and_the_largest_of_the_worst_groups_is_named(data, tmp_path):
    net = small()
    nn.init.zeros_(net[-1].weight)
    with torch.no_grad():
        net[-1].bias.copy_(torch.tensor([1.0, 0.0]))  # class 0 for all: right by chance
    found = lrsc.audit(net, data, quick=True)
    assert np.isnan(value(found, "prunability_corrected"))
    assert np.isnan(value(found, "prunability_corrected", "low"))
    assert "(not defined; 150 samples)" in str(found) and "nan" not in str(found)
    assert "Not defined: Prunability, chance taken off" in found.dataset.attrs["note"]
    sizes = [int(((data.test.y == 1) & (data.test.bias == b)).sum()) for b in (0, 1)]
    assert value(found, "worst_group_accuracy") == 0
    assert value(found, "worst_group_accuracy", "samples") == max(sizes) > min(sizes)
    text = found.to_html(tmp_path / "page.html").read_text()
    assert not re.search(r"\bnan\b", re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL))


def test_selectivity_of_few_samples_lies_within_its_interval():
    draw = np.random.default_rng(0)
    split = Split(draw.normal(size=(40, 8)).astype(np.float32), np.arange(40) % 2)
    net = nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 2))
    found = lrsc.audit(net, BiasedDataset("noise", split, split, 2), quick=True)
    for name in ("csi", "class_separation"):  # twice the same sample makes classes look apart
        low, middle, high = (value(found, name, key) for key in ("low", "value", "high"))
        assert low < middle < high


def test_vectors_have_no_gallery():
    draw = np.random.default_rng(0)
    y = np.arange(80) % 2
    split = Split(draw.normal(size=(80, 6)).astype(np.float32), y, y)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    found = lrsc.audit(net, BiasedDataset("vectors", split, split, 2), quick=True)
    assert "image" not in found.dataset


def test_bad_input_is_refused_by_name(trained, data):
    with pytest.raises(ValueError, match="network or one run of fit"):
        lrsc.audit("resnet18", data)
    with pytest.raises(ValueError, match="must be a BiasedDataset"):
        lrsc.audit(trained, data.test)
    with pytest.raises(ValueError, match="one logit a class"):
        lrsc.audit(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), data)


@pytest.fixture
def folder(tmp_path):
    """Images in class folders, with a list of their groups."""
    lines = ["file_name,group"]
    for part, (x, y, b) in {"train": digits(60, 0.1, 0), "test": digits(60, 0.5, 1)}.items():
        for k in range(len(x)):
            name = f"{part}/{'ab'[y[k]]}/{k}.png"
            (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x[k].transpose(1, 2, 0)).save(tmp_path / "images" / name)
            lines.append(f"{name},{'ab'[b[k]]}")
    (tmp_path / "groups.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_checkpoints_are_audited_on_a_folder_by_the_command(folder, capsys):
    made = lrsc.models.build("resnet18", (3, 16, 16), 2)
    torch.save(made.state_dict(), folder / "low.pt")
    state = {f"module.{name}": value for name, value in made.state_dict().items()}
    torch.save({"state_dict": state}, folder / "high.ckpt")
    code = cli.main([
        "audit", str(folder / "low.pt"), str(folder / "high.ckpt"), "--data",
        str(folder / "images"), "--groups", str(folder / "groups.csv"), "--model", "resnet18",
        "--html", str(folder / "report.html"), "--quick",
    ])  # fmt: skip
    out = capsys.readouterr().out
    assert code == 0
    assert "low on images" in out and "high on images" in out
    assert "class a, bias b" in (folder / "report.html").read_text()


def test_weights_of_another_model_are_refused_by_the_command(folder, capsys):
    torch.save(lrsc.models.build("cnn", (3, 16, 16), 2).state_dict(), folder / "cnn.pt")
    code = cli.main([
        "audit", str(folder / "cnn.pt"), "--data", str(folder / "images"), "--model", "resnet18",
    ])  # fmt: skip
    assert code == 2
    assert "does not hold weights of 'resnet18'" in capsys.readouterr().err


def test_the_command_names_the_largest_useful_lr(tmp_path, capsys):
    code = cli.main([
        "tune", "--data", "parity", "--data-option", "n_train=500", "--model", "fcn", "--budget",
        "1200", "--seeds", "0", "--plot", str(tmp_path / "lr.png"),
    ])  # fmt: skip
    assert code == 0
    assert "largest useful LR" in capsys.readouterr().out
    assert (tmp_path / "lr.png").is_file()

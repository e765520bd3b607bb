"""Audits of other libraries' classifiers, on a folder of images with a coloured border."""

import importlib
import types

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lrsc
from lrsc import datasets
from lrsc.datasets import BiasedDataset

AUDIT = importlib.import_module("lrsc.reach.audit")  # beside the function of its name
TOLD = {
    "unbiased_accuracy", "aligned_accuracy", "conflicting_accuracy", "worst_group_accuracy", "gap",
    "csi", "bsi", "class_separation", "activation_compressibility", "sparsity",
    "attribution_entropy", "prunability", "prunability_corrected",
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> BiasedDataset:
    """Two classes, the upper or lower half bright; the border goes with them in training."""
    place, lines = tmp_path_factory.mktemp("bordered"), ["file_name,group"]
    draw = np.random.default_rng(0)
    for part in ("train", "test"):
        for k in range(40):
            y = k % 2
            bias = y if part == "train" and k % 20 else k // 2 % 2
            x = draw.integers(0, 120, (32, 32, 3)).astype(np.uint8)
            x[4:16] += np.uint8(100 * (1 - y))
            x[16:28] += np.uint8(100 * y)
            x[:3] = x[-3:] = ((255, 0, 0), (0, 0, 255))[bias]
            name = f"{part}/{'ab'[y]}/{k}.png"
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x).save(place / name)
            lines.append(f"{name},{('red', 'blue')[bias]}")
    (place / "metadata.csv").write_text("\n".join(lines) + "\n")
    return datasets.from_folder(place)


class Classifier(nn.Module):
    """As Hugging Face's: the head is made first, labels may be given, an object comes back."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(16, 2)
        self.stem, self.body = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.norm = nn.BatchNorm2d(16)

    def forward(self, pixel_values, labels=None):
        hidden = self.norm(self.body(self.stem(pixel_values).relu())).relu()
        logits = self.classifier(hidden.mean((2, 3)))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return types.SimpleNamespace(logits=logits, loss=loss)


def build(name: str) -> nn.Module:
    if name == "classifier":
        return Classifier()
    module, _, function = name.partition(":")
    library = module.partition(".")[0]
    pytest.importorskip(library, reason=f"{library} is not installed, no dependency of lrsc's")
    options = {"img_size": 32} if function == "test_vit" else {}
    return lrsc.models.build(name, (3, 32, 32), 2, **options)


@pytest.mark.parametrize(
    "name",
    ["classifier", "torchvision.models:mobilenet_v3_small", "timm.models:test_resnet",
     "timm.models:test_vit"],
)  # fmt: skip
def test_an_audit_has_all_parts(name, data, tmp_path, monkeypatch):
    monkeypatch.setattr(AUDIT, "QUICK", AUDIT.Size(40, 20, 40, 2, 1))
    monkeypatch.setattr(AUDIT, "SHOWN", 2)
    torch.manual_seed(0)
    net = build(name)
    found = lrsc.audit(net, data, quick=True)
    assert set(found.dataset["measure"].values.tolist()) >= TOLD
    assert {"accuracy_pruned", "image", "map"} <= set(found.dataset)
    assert found.dataset.sizes["group"] == 4
    # what follows shapes cannot be traced, and is said to be left out
    follows_shapes = name.endswith("test_vit")
    assert ("cost" in found.dataset) is not follows_shapes
    assert ("Shrinking is left out" in found.dataset.attrs["note"]) is follows_shapes
    with torch.no_grad():
        logits = lrsc.models.logits_of(net.eval()(data.test.inputs(data.test.x[:])))
    right = (logits.argmax(1) == data.test.y).double()
    expected = [
        float(right[(data.test.y == k) & (data.test.bias == b)].mean())
        for k in (0, 1) for b in (0, 1)
    ]  # fmt: skip
    assert found.dataset["group_value"].values == pytest.approx(expected)
    assert "class b, bias red" in found.to_html(tmp_path / "page.html").read_text()

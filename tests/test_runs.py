"""The name of a run is that of all it depends on."""

import pytest
import torch

import lrsc
from lrsc.config import RunConfig
from lrsc.errors import DataMissing
from lrsc.runs import identify


def test_a_file_of_weights_names_the_run_by_its_content(tmp_path, monkeypatch):
    net = lrsc.models.build("resnet18", (3, 28, 28), 10)
    names = {}
    for k, folder in enumerate(("a", "b", "c")):
        (tmp_path / folder).mkdir()
        state = {n: v * 0 if k == 1 else v for n, v in net.state_dict().items()}
        torch.save(state, tmp_path / folder / "w.pt")
    config = RunConfig("parity", "resnet18", model_options={"weights": "w.pt"})
    for folder in ("a", "b", "c"):
        monkeypatch.chdir(tmp_path / folder)
        names[folder] = identify(config)
    assert names["a"] == names["c"] != names["b"]
    torch.save(net.fc.state_dict(), tmp_path / "c" / "w.pt")
    assert identify(config) not in names.values()
    (tmp_path / "c" / "w.pt").unlink()
    with pytest.raises(DataMissing, match=r"weights='w\.pt' is not a file"):
        identify(config)
    plain = [RunConfig("parity", "resnet18", model_options=o) for o in ({}, {"weights": None})]
    assert identify(plain[0]) == identify(plain[1])

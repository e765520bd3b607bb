"""Pretrained weights: found on disk and verified, never downloaded here."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lrsc import errors, files
from lrsc.datasets.raw.download import digest
from lrsc.datasets.raw.sources import data_root
from lrsc.errors import DataMissing


def load(net: nn.Module, name: str, weights: str | Path) -> None:
    """Fill a torchvision model with weights; a head of another number of classes stays random.

    weights: 'imagenet' is torchvision's IMAGENET1K_V1, looked for in `folders()`; else the path
    of a state_dict file, of which only tensors are read. A file under a name that torchvision
    published must have the SHA-256 that its name says. Raises DataMissing if the file is absent,
    ValueError if it is damaged or holds anything but weights of this model.
    """
    path = _imagenet(name) if weights == "imagenet" else _given(weights)
    _fill(net, read(path, addresses(name)), path)


def folders() -> list[Path]:
    """Where published weights are looked for: torch.hub's folder, `weights` in the data root."""
    return [Path(torch.hub.get_dir()) / "checkpoints", data_root() / "weights"]


def on_disk(address: str) -> Path | None:
    """The file of an address in one of the `folders`; None where there is none."""
    paths = (folder / Path(address).name for folder in folders())
    return next((path for path in paths if path.is_file()), None)


def addresses(name: str) -> list[str]:
    """Addresses of the weights that torchvision publishes for a model, IMAGENET1K_V1 first."""
    from torchvision.models import get_model_weights

    return [version.url for version in get_model_weights(name)]


def _imagenet(name: str) -> Path:
    address = addresses(name)[0]
    found, file = on_disk(address), Path(address).name
    if found is None:
        raise DataMissing(
            f"weights='imagenet' of {name!r} need {file} (SHA-256 {_published_hash(file)}...), "
            f"which is not in {' or '.join(map(str, folders()))}. Get it from {address} and put it "
            "into one of these folders; or use weights=None, which are random."
        )
    return found


def _given(weights: str | Path) -> Path:
    if not isinstance(weights, str | Path):
        raise ValueError(
            f"weights must be None, 'imagenet' or the path of a state_dict file, found {weights!r}"
        )
    if not (found := errors.path("weights", weights)).is_file():
        raise DataMissing(
            f"weights={str(weights)!r} is not a file: expected None, 'imagenet' or the path of a "
            "state_dict file, as in torch.save(model.state_dict(), path)"
        )
    return found


def _verify_published(path: Path) -> None:
    """Raise ValueError unless a published file has the SHA-256 that its name says."""
    expected, found = _published_hash(path.name), digest(path)
    if not found.startswith(expected):
        raise ValueError(
            f"checksum of {path} is wrong: SHA-256 found {found[: len(expected)]}..., expected "
            f"{expected}..., as its name says. The file is truncated or altered: fetch it again."
        )


def _published_hash(file: str) -> str:
    """The 8 hexadecimal digits of the SHA-256 in torchvision's file names."""
    found = re.search(r"-([0-9a-f]{8})\.pth$", file)
    if found is None:
        raise ValueError(f"the file name {file!r} holds no checksum, expected <model>-<8 hex>.pth")
    return found[1]


def read(path: Path, published: Sequence[str] = ()) -> dict[str, Tensor]:
    """A state_dict from a file, of which only tensors are read; ValueError for anything else.

    published: addresses; a file under the name of one must have the SHA-256 that its name says.
    """
    if path.name in [Path(address).name for address in published]:
        _verify_published(path)
    try:
        state = files.load(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"weights file {error}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        held = list(state)[:5] if isinstance(state, dict) else type(state).__name__
        raise ValueError(
            f"weights file {path} must hold a state_dict (parameter name -> tensor), found {held}"
        )
    return state


def _fill(net: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load all of a state_dict but a head of another number of classes."""
    own = net.state_dict()
    head = [name for name, m in net.named_modules() if isinstance(m, nn.Linear)][-1]
    left_random = _other_head(own, state, head)
    for name in left_random:
        state.pop(name, None)
    for name, value in state.items():
        if name in own and value.shape != own[name].shape:
            raise ValueError(
                f"weights file {path} is of another model: parameter {name!r} has shape "
                f"{tuple(value.shape)}, expected {tuple(own[name].shape)}"
            )
    found = net.load_state_dict(state, strict=False)
    missing = [name for name in found.missing_keys if name not in left_random]
    if missing or found.unexpected_keys:
        raise ValueError(
            f"weights file {path} is of another model: {len(missing)} parameters are missing "
            f"{missing[:3]}, {len(found.unexpected_keys)} unknown {found.unexpected_keys[:3]}"
        )


def _other_head(own: dict[str, Tensor], state: dict[str, Tensor], head: str) -> tuple[str, ...]:
    """Names of the head's parameters if only its number of classes differs."""
    weight, held = own[f"{head}.weight"], state.get(f"{head}.weight")
    if held is None or held.shape[1:] != weight.shape[1:] or len(held) == len(weight):
        return ()
    return f"{head}.weight", f"{head}.bias"

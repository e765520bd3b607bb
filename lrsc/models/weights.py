"""Pretrained weights: found on disk and verified, never downloaded here."""

import pickle
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrsc import errors, files
from lrsc.datasets.raw.download import digest
from lrsc.datasets.raw.sources import data_root
from lrsc.errors import DataMissing, shown

# under which name training programs save a state_dict, and what wrapped networks put before names
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")


def load(net: nn.Module, name: str, weights: str | Path) -> None:
    """Fill a torchvision model with weights; a head of another number of classes stays random.

    weights: 'imagenet' is torchvision's IMAGENET1K_V1, looked for in `folders()`; else the path
    of a state_dict file or checkpoint (`unwrapped`), of which only tensors are read. A file under a
    name that torchvision published must have the SHA-256 that its name says. Raises DataMissing if
    the file is absent, ValueError if it is damaged or holds anything but weights of this model.
    """
    path = _imagenet(name) if weights == "imagenet" else given(weights)
    fill(net, path, addresses(name), any_head=True)


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


def given(weights: str | Path) -> Path:
    """The file of weights that a user names; DataMissing where there is none."""
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


def read(path: Path, published: Sequence[str] = (), own: Collection[str] = ()) -> dict[str, Tensor]:
    """A state_dict from a file, of which only tensors are read; ValueError for anything else.

    published: addresses; a file under the name of one must have the SHA-256 that its name says.
    own: names of the model's parameters, for `unwrapped`.
    """
    if path.name in [Path(address).name for address in published]:
        _verify_published(path)
    try:
        state = unwrapped(files.load(path), own)
    except (ValueError, OSError) as error:
        foreign = isinstance(error.__cause__, pickle.UnpicklingError)
        to_do = ". Save tensors alone: torch.save(model.state_dict(), path)" if foreign else ""
        raise ValueError(f"weights file {error}{to_do}") from error
    if not isinstance(state, dict) or not all(
        isinstance(n, str) and isinstance(v, Tensor) for n, v in state.items()
    ):
        held = shown(list(state)[:5]) if isinstance(state, dict) else type(state).__name__
        raise ValueError(
            f"weights file {path} must hold a state_dict (parameter name -> tensor), by itself or "
            f"under one of the names {', '.join(WRAPPERS)}; found {held}"
        )
    return state


def unwrapped(content: Any, own: Collection[str]) -> Any:
    """The state_dict in what programs save: in a dictionary, or of a network within another.

    A prefix of DataParallel, torch.compile or Lightning is taken off where all names have it and
    none of the model's own. What is no such dictionary comes back as it is.
    """
    for _ in WRAPPERS:
        inner = (content.get(w) for w in WRAPPERS) if isinstance(content, dict) else ()
        content = next((held for held in inner if isinstance(held, dict)), content)

    def is_wrapped_by(prefix: str) -> bool:
        alien = all(isinstance(name, str) and name.startswith(prefix) for name in content)
        return alien and not any(name.startswith(prefix) for name in own)

    if isinstance(content, dict) and "n_averaged" not in own:  # torch's AveragedModel counts
        content = {name: value for name, value in content.items() if name != "n_averaged"}
    while isinstance(content, dict) and content:
        prefix = next(filter(is_wrapped_by, PREFIXES), "")
        if not prefix:
            break
        content = {name.removeprefix(prefix): value for name, value in content.items()}
    return content


def fill(net: nn.Module, path: Path, published: Sequence[str] = (), any_head: bool = False) -> None:
    """Load a file of weights into a network; published as in `read`.

    any_head: a head of another number of classes stays as it is. Raises ValueError, which counts
    what differs, for weights of another model.
    """
    own = net.state_dict()
    state = read(path, published, own)
    left = _other_head(net, state) if any_head else ()
    for name in left:
        state.pop(name, None)
    other = {n: v.shape for n, v in state.items() if n in own and v.shape != own[n].shape}
    for name in other:
        del state[name]
    found = net.load_state_dict(state, strict=False)
    missing = [name for name in found.missing_keys if name not in {*left, *other}]
    shapes = [f"{n!r} {tuple(v)} for {tuple(own[n].shape)}" for n, v in other.items()]
    wrong = {
        "missing": list(map(repr, missing)),
        "unexpected": list(map(shown, found.unexpected_keys)),
        "of another shape": shapes,
    }
    said = [
        f"{len(names)} {what} ({', '.join(names[:2])}{', ...' if names[2:] else ''})"
        for what, names in wrong.items() if names
    ]  # fmt: skip
    if said:
        raise ValueError(f"weights file {path} is of another model: {', '.join(said)}")


def _other_head(net: nn.Module, state: dict[str, Tensor]) -> tuple[str, ...]:
    """Names of the head's parameters if only its number of classes differs."""
    head, linear = [(name, m) for name, m in net.named_modules() if isinstance(m, nn.Linear)][-1]
    weight, held = linear.weight, state.get(f"{head}.weight")
    if held is None or held.shape[1:] != weight.shape[1:] or len(held) == len(weight):
        return ()
    return f"{head}.weight", f"{head}.bias"

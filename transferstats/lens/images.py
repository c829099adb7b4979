"""Images: the units of a vision subject, with the clusters they depend on. Nothing is ever downloaded."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from transferstats.errors import DataError
from transferstats.lens import image_files
from transferstats.lens.image_files import RawImages

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]

DIGITS = "digits"
"""Source name of the 1,797 handwritten digits that come with scikit-learn."""


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """A dataset of labelled images.

    Attributes
    ----------
    name: name of the population.
    images: (N, C, H, W), uint8 in 0..255 or float32 in 0..1; C is 1 or 3.
    labels: (N,) int64, position in ``classes``. classes: names of the classes, in order.
    units, clusters: N each; units are unique. Copies of one image share a cluster.
    origin: where the images were read from; not part of their identity.

    Raises
    ------
    DataError: shapes or counts that do not belong together, pixels out of range, repeated units, labels without
        a class, or copies of one image in two clusters.
    """

    name: str
    images: Pixels
    labels: npt.NDArray[np.int64]
    units: tuple[str, ...]
    clusters: tuple[str, ...]
    classes: tuple[str, ...]
    origin: str = ""

    def __post_init__(self) -> None:
        _check_pixels(self.name, self.images)
        counts = {len(self.images), len(self.labels), len(self.units), len(self.clusters)}
        if len(counts) != 1:
            raise DataError(
                f"dataset {self.name!r} has {len(self.images)} images, {len(self.labels)} labels, "
                f"{len(self.units)} units and {len(self.clusters)} clusters: one of each an image is needed"
            )
        if len(set(self.units)) != len(self.units):
            twice = Counter(self.units).most_common(1)[0][0]
            raise DataError(f"dataset {self.name!r}: unit {twice!r} appears more than once; units need unique ids")
        if self.labels.min() < 0 or self.labels.max() >= len(self.classes):
            raise DataError(
                f"dataset {self.name!r}: labels lie in {self.labels.min()}..{self.labels.max()}, its "
                f"{len(self.classes)} classes are 0..{len(self.classes) - 1}; name all classes, and count from 0"
            )
        self._refuse_copies()

    def _refuse_copies(self) -> None:
        """The same image in two clusters could be trained on and scored."""
        for index, first in enumerate(_first_copies(self.images)):
            if self.clusters[first] != self.clusters[index]:
                raise DataError(
                    f"dataset {self.name!r}: {self.units[first]!r} and {self.units[index]!r} are the same image, "
                    "so one could be trained on and the other scored; remove one, or give both the same cluster"
                )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def fingerprint(self) -> str:
        """sha256 over pixels, labels, names and clusters: equal fingerprints mean equal datasets."""
        digest = hashlib.sha256()
        names = [self.units, self.clusters, self.classes, str(self.images.dtype), self.images.shape]
        digest.update(json.dumps(names, ensure_ascii=True).encode())
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        digest.update(np.ascontiguousarray(self.images).data)
        return digest.hexdigest()


def _check_pixels(name: str, images: Pixels) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise DataError(
            f"dataset {name!r}: images have shape {images.shape}; need (N, C, H, W) with C = 1 or 3 (channels "
            "before height and width) and one image at least"
        )
    if images.dtype not in (np.uint8, np.float32):
        raise DataError(f"dataset {name!r}: images are {images.dtype}; need uint8 (0..255) or float32 (0..1)")
    if images.dtype == np.float32 and not (images.min() >= 0 and images.max() <= 1):
        raise DataError(
            f"dataset {name!r}: float images lie in {images.min():g}..{images.max():g}; scale them to 0..1, or "
            "store 0..255 as uint8 (each model standardises by its own mean and deviation)"
        )


def _first_copies(images: Pixels) -> list[int]:
    """For each image the position of the first one with the same pixels."""
    seen: dict[bytes, int] = {}
    return [
        seen.setdefault(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), index)
        for index, image in enumerate(images)
    ]


def is_image_source(source: str | Path) -> bool:
    """Whether a dataset is one of images, by its name and the names of its files."""
    path = Path(source)
    if str(source) == DIGITS and not path.exists():
        return True
    if path.is_dir():
        return bool(image_files.idx_files(path)) or next(image_files.pictures(path), None) is not None
    return path.suffix == ".npz" or image_files.is_idx(path)


def read_images(source: str | Path, *, size: int | None = None) -> Images:
    """Read a dataset of labelled images.

    Parameters
    ----------
    source: an IDX file of images (``...images-idx3-ubyte``, with or without ``.gz``), whose labels lie beside it
        (``...labels-idx1-ubyte``), or a folder with one such pair; or an ``.npz`` file with arrays images
        ((N, H, W) or (N, C, H, W), uint8 or floats in 0..1), labels (N,) and optionally clusters, units and
        classes; or a folder whose sub-folders are the classes and hold image files (extra ``vision``); or
        "digits", the handwritten digits of scikit-learn, where that is installed.
    size: edge in pixels that the files of a folder are brought to: the shorter side is scaled to it and the
        middle kept. Not needed where all of them have one size; the other kinds keep theirs.

    Returns
    -------
    The images. Without clusters each image is its own; exact copies share one.

    Raises
    ------
    DataError: nothing there, or a file (named) that is truncated, damaged or does not fit the others.
    DependencyError: image files without pillow, or "digits" without scikit-learn.
    """
    path = Path(source)
    if str(source) == DIGITS and not path.exists():
        return _assemble(image_files.read_digits(), DIGITS, DIGITS)
    if path.is_dir():
        found = image_files.idx_files(path)
        if len(found) > 1:
            names = ", ".join(sorted(file.name for file in found))
            raise DataError(f"{path} holds several sets of images ({names}): name the file")
        if not found:
            return _assemble(image_files.read_folder(path, size), path.name, str(path))
        path = found[0]
    if not path.is_file():
        raise DataError(
            f"no images at {str(source)!r}: give an IDX file (...images-idx3-ubyte.gz), an .npz file, or a folder "
            "with a sub-folder of image files for each class"
        )
    if path.suffix == ".npz":
        return _assemble(image_files.read_npz(path), path.stem, str(path))
    return _assemble(image_files.read_idx_pair(path), image_files.idx_name(path), str(path))


def _assemble(raw: RawImages, name: str, origin: str) -> Images:
    units = raw.units or _numbered(len(raw.images))
    if raw.clusters is None and len(units) == len(raw.images):
        clusters: Sequence[str] = [units[first] for first in _first_copies(raw.images)]
    else:
        clusters = raw.clusters or ()
    classes = raw.classes or tuple(str(index) for index in range(int(raw.labels.max(initial=0)) + 1))
    return Images(name, raw.images, raw.labels, tuple(units), tuple(clusters), tuple(classes), origin)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"{index:0{len(str(count))}d}" for index in range(count))

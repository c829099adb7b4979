"""Files of images: IDX pairs, .npz arrays, folders of pictures; each damaged one is named."""

from __future__ import annotations

import gzip
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from transferstats.errors import DataError, DependencyError
from transferstats.labels import is_missing

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
IDX_IMAGES = re.compile(r"images([-.])idx3([-.])ubyte(\.gz)?$")
UNSIGNED_BYTE = 0x08  # the type of an IDX file's entries that image sets use


@dataclass(frozen=True, slots=True)
class RawImages:
    """What a file says: images (N, C, H, W) and labels (N,); names and clusters where it has any."""

    images: Any
    labels: npt.NDArray[np.int64]
    units: tuple[str, ...] | None = None
    clusters: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None


def is_idx(path: Path) -> bool:
    """Whether a file is an IDX file of images, by its name."""
    return IDX_IMAGES.search(path.name) is not None


def idx_files(folder: Path) -> list[Path]:
    """The IDX files of images in a folder."""
    return [path for path in sorted(folder.iterdir()) if is_idx(path)]


def idx_name(path: Path) -> str:
    """Name of an IDX dataset: its folder and what stands before "images"."""
    part = IDX_IMAGES.sub("", path.name).strip("-._")
    return "-".join(word for word in (path.resolve().parent.name, part) if word)


def read_idx_pair(path: Path) -> RawImages:
    """Images and the labels beside them."""
    if not is_idx(path):
        raise DataError(f"{path.name} is no file of images: need ...images-idx3-ubyte(.gz), an .npz, or a folder")
    images = _read_idx(path, 3)
    labels_path = path.with_name(IDX_IMAGES.sub(r"labels\1idx1\2ubyte\3", path.name))
    if not labels_path.is_file():
        raise DataError(f"{path.name} needs its labels beside it: no file {labels_path.name}")
    labels = _read_idx(labels_path, 1)
    if len(labels) != len(images):
        raise DataError(
            f"{path.name} holds {len(images)} images and {labels_path.name} {len(labels)} labels: they do not "
            "belong together; get them again"
        )
    return RawImages(images[:, None], labels.astype(np.int64))


def _read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name} is truncated or damaged ({error}); get it again") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, UNSIGNED_BYTE, dimensions)):
        raise DataError(
            f"{path.name} does not start like an IDX file of {dimensions} dimension(s) of unsigned bytes; get it "
            "again, or name the right file"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, 4))
    wanted = header + int(np.prod(shape))
    if len(content) != wanted:
        raise DataError(
            f"{path.name} says that it holds {' x '.join(map(str, shape))} bytes, which takes {wanted} bytes, and "
            f"has {len(content)}: it is truncated or damaged; get it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_npz(path: Path) -> RawImages:
    """Arrays images and labels, and optionally clusters, units and classes."""
    try:
        with path.open("rb") as stream:
            arrays = dict(np.load(stream, allow_pickle=False).items())
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path.name} is not readable as .npz arrays of numbers and text: {error}") from error
    missing = [name for name in ("images", "labels") if name not in arrays]
    if missing:
        raise DataError(f"{path.name} has no array {missing[0]!r} (it has: {', '.join(sorted(arrays)) or 'none'})")
    images, labels = arrays["images"], arrays["labels"]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{path.name}: labels are {labels.dtype} of shape {labels.shape}; need integers (N,)")
    if images.dtype.kind == "f":
        images = images.astype(np.float32)
    if "clusters" in arrays:
        _refuse_unclustered(path, arrays["clusters"])
    names = {name: _names(path, name, arrays[name]) for name in ("units", "clusters", "classes") if name in arrays}
    return RawImages(images[:, None] if images.ndim == 3 else images, labels.astype(np.int64), **names)


def _names(path: Path, name: str, values: npt.NDArray[Any]) -> tuple[str, ...]:
    if values.ndim != 1:
        raise DataError(f"{path.name}: {name} have shape {values.shape}; need one dimension")
    return tuple(str(value) for value in values.tolist())


def _refuse_unclustered(path: Path, clusters: npt.NDArray[Any]) -> None:
    """Images without a cluster would all become one: NumPy writes NaN and None as words."""
    missing = [index for index, label in enumerate(clusters.ravel().tolist()) if is_missing(label)]
    if missing:
        raise DataError(
            f"{path.name}: {len(missing)} images have no cluster label, the first is image {missing[0]}; give "
            "each of them a cluster of its own, or leave out the clusters"
        )


def pictures(folder: Path) -> Iterator[Path]:
    """Image files in the sub-folders of a folder."""
    for one in sorted(path for path in folder.iterdir() if path.is_dir()):
        yield from (file for file in sorted(one.rglob("*")) if file.suffix.lower() in PICTURES)


def read_folder(folder: Path, size: int | None) -> RawImages:
    """Image files, whose class is the sub-folder that they lie in; ``size``: see ``read_images``."""
    loose = [file.name for file in sorted(folder.iterdir()) if file.suffix.lower() in PICTURES]
    if loose:
        raise DataError(
            f"{folder} holds images outside the sub-folders that name their classes ({loose[0]}); move them"
        )
    files = list(pictures(folder))
    if not files:
        raise DataError(
            f"{folder} holds no images: need a sub-folder for each class, with files that end in one of "
            f"{', '.join(PICTURES)}"
        )
    names = [file.relative_to(folder) for file in files]
    classes = tuple(sorted({name.parts[0] for name in names}))
    opened = [_open_picture(file, str(name), size) for file, name in zip(files, names, strict=True)]
    mode = "L" if all(one.mode == "L" for one in opened) else "RGB"
    arrays = [np.asarray(one if one.mode == mode else one.convert(mode)) for one in opened]
    for name, array in zip(names, arrays, strict=True):
        if array.shape[:2] != arrays[0].shape[:2]:
            raise DataError(
                f"{folder.name}/{name} has {array.shape[1]} x {array.shape[0]} pixels and {names[0]} "
                f"{arrays[0].shape[1]} x {arrays[0].shape[0]}: give the size to bring all of them to (size=)"
            )
    stacked = np.stack(arrays)
    return RawImages(
        np.ascontiguousarray(stacked[:, None] if mode == "L" else stacked.transpose(0, 3, 1, 2)),
        np.array([classes.index(name.parts[0]) for name in names], dtype=np.int64),
        tuple(name.as_posix() for name in names),
        None,
        classes,
    )


def _open_picture(file: Path, name: str, size: int | None) -> Image:
    """One picture in mode L or RGB, upright, scaled and cropped where a size is wanted."""
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as error:
        raise DependencyError("image files need pillow: pip install 'transferstats[vision]'") from error
    try:
        with Image.open(file) as opened:
            upright = ImageOps.exif_transpose(opened)
            picture = upright.convert("L" if upright.mode in ("1", "L") else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} is not a readable image ({error}); replace or remove it") from error
    # ImageOps.fit scales the shorter side to the size and keeps the middle of the longer one.
    return picture if size is None else ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)


def read_digits() -> RawImages:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 pixels, scaled to 0..1."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise DependencyError("the handwritten digits come with scikit-learn: pip install scikit-learn") from error
    data = load_digits()
    images = (data.images[:, None] / 16).astype(np.float32)
    return RawImages(images, data.target.astype(np.int64), None, None, tuple(str(n) for n in data.target_names))

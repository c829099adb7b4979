"""Images from files: what is read is what was written, and a damaged file is named."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transferstats.errors import DataError
from transferstats.lens.images import Images, read_images

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 6, 5), dtype=np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 3


def write_idx(folder: Path, pixels: np.ndarray = PIXELS, labels: np.ndarray = LABELS) -> Path:
    """A pair of IDX files, as the published format has them."""
    head = struct.pack(">4I", 2051, *pixels.shape)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(head + pixels.tobytes()))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">2I", 2049, len(labels)) + labels.tobytes())
    )
    return path


def test_idx_files_are_read_as_they_are(tmp_path: Path) -> None:
    found = read_images(write_idx(tmp_path))
    assert np.array_equal(found.pixels[:, 0], PIXELS)
    assert np.array_equal(found.labels, LABELS)
    assert len(set(found.units)) == 12
    rest = found.chosen(slice(4, None))
    assert rest.units == found.units[4:]
    assert rest.fingerprint != found.fingerprint


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-7], "it is cut"),
        (lambda raw: struct.pack(">I", 2049) + raw[4:], "no IDX file"),
        (lambda raw: raw[:3], "no IDX file"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, damage: object, message: str) -> None:
    path = write_idx(tmp_path)
    path.write_bytes(gzip.compress(damage(gzip.decompress(path.read_bytes()))))  # type: ignore[operator]
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte.gz.*{message}"):
        read_images(path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match="cut or damaged"):
        read_images(path)


def test_images_without_fitting_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"12 images and .* 5 labels"):
        read_images(write_idx(tmp_path, labels=LABELS[:5]))
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="no labels beside it"):
        read_images(tmp_path / "train-images-idx3-ubyte.gz")


def test_arrays_are_read_without_pickles(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, images=PIXELS, labels=LABELS, clusters=[f"day {i // 4}" for i in range(12)])
    found = read_images(path)
    assert found.pixels.shape == (12, 1, 6, 5)
    assert set(found.clusters) == {"day 0", "day 1", "day 2"}
    np.savez(path, images=PIXELS.astype(float), labels=LABELS)
    with pytest.raises(DataError, match="must be bytes"):
        read_images(path)
    np.savez(path, images=PIXELS)
    with pytest.raises(DataError, match="'images' and 'labels'"):
        read_images(path)
    np.savez(path, images=np.array([{}], dtype=object), labels=LABELS)
    with pytest.raises(DataError, match="without pickles"):
        read_images(path)


def test_a_folder_has_one_class_a_sub_folder(tmp_path: Path) -> None:
    for index in range(4):
        folder = tmp_path / ("cats" if index % 2 else "bats")
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.stack([PIXELS[index]] * 3, axis=2)).save(folder / f"{index}.png")
    found = read_images(tmp_path)
    assert found.pixels.shape == (4, 3, 6, 5)
    assert list(found.labels) == [0, 0, 1, 1]
    assert found.units[0] == "bats/0.png"
    (tmp_path / "cats" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"cats/broken\.png is not a readable picture"):
        read_images(tmp_path)


def test_what_does_not_belong_together_is_refused() -> None:
    units = ("a", "a")
    with pytest.raises(DataError, match="repeats names"):
        Images("x", PIXELS[:2, None], np.zeros(2, dtype=np.int64), units, units)
    with pytest.raises(DataError, match="no images at"):
        read_images("nowhere.npz")

"""Images come from IDX files, arrays, folders and scikit-learn; a bad file gets an error that names it."""

from __future__ import annotations

import gzip
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import required
from tiny_networks import make_pixels, save_pixels

from transferstats.errors import DataError, DependencyError
from transferstats.lens.images import Images, is_image_source, read_images

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def idx(array: Any) -> bytes:
    """An array of unsigned bytes in the IDX format."""
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, count: int = 6, *, zipped: bool = False, labels: int | None = None) -> Path:
    """A pair of IDX files; the path of the images."""
    pixels, classes = make_pixels(count)
    suffix, pack = (".gz", gzip.compress) if zipped else ("", bytes)
    path = folder / f"{IMAGES}{suffix}"
    path.write_bytes(pack(idx(pixels[:, 0])))
    (folder / f"{LABELS}{suffix}").write_bytes(pack(idx(classes[: count if labels is None else labels])))
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_an_idx_pair_is_read_bit_for_bit(tmp_path: Path, zipped: bool) -> None:
    path = write_idx(tmp_path, zipped=zipped)
    pixels, labels = make_pixels(6)
    images = read_images(path)
    assert images.images.dtype == np.uint8
    np.testing.assert_array_equal(images.images, pixels)
    np.testing.assert_array_equal(images.labels, labels)
    assert images.units == images.clusters == tuple("012345")
    assert images.name == f"{tmp_path.name}-t10k"
    assert read_images(tmp_path).fingerprint == images.fingerprint  # the only pair of the folder


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other(path: Path) -> None:
    path.write_bytes(b"\x89PNG" + path.read_bytes())


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (shorten, "truncated or damaged"),
    "too long": (lengthen, "truncated or damaged"),
    "empty": (empty, "does not start like an IDX file"),
    "something else": (other, "does not start like an IDX file"),
    "gone": (Path.unlink, f"no file {LABELS}|no images at"),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_a_damaged_idx_file_is_named(tmp_path: Path, name: str, kind: str) -> None:
    damage, words = DAMAGE[kind]
    path = write_idx(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(DataError, match=words) as caught:
        read_images(path)
    assert name in str(caught.value)


@pytest.mark.parametrize("cut", [3, 20])
def test_a_truncated_gzip_file_is_named(tmp_path: Path, cut: int) -> None:
    path = write_idx(tmp_path, zipped=True)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match=rf"{IMAGES}\.gz is truncated or damaged"):
        read_images(path)


def test_counts_that_do_not_match_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds 6 images and .* 5 labels"):
        read_images(write_idx(tmp_path, labels=5))


def test_a_folder_with_two_sets_asks_which(tmp_path: Path) -> None:
    content = write_idx(tmp_path).read_bytes()
    (tmp_path / IMAGES.replace("t10k", "train")).write_bytes(content)
    with pytest.raises(DataError, match="several sets of images"):
        read_images(tmp_path)


def save(path: Path, **changes: Any) -> Path:
    """An .npz file with some arrays replaced; None leaves one out."""
    pixels, labels = make_pixels(6)
    arrays = {"images": pixels, "labels": labels, **changes}
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


PIXELS = make_pixels(6)[0]

BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "no labels": ({"labels": None}, "has no array 'labels'"),
    "objects": ({"clusters": np.array([object()] * 6, dtype=object)}, "not readable as .npz"),
    "too few labels": ({"labels": np.zeros(5, dtype=np.int64)}, "6 images, 5 labels"),
    "float labels": ({"labels": np.zeros(6)}, "need integers"),
    "channels last": ({"images": np.zeros((6, 8, 8, 3), dtype=np.uint8)}, "channels before height"),
    "integers": ({"images": PIXELS.astype(np.int64)}, "need uint8"),
    "floats to 255": ({"images": PIXELS.astype(np.float64)}, "scale them to 0..1"),
    "not finite": ({"images": np.full((6, 1, 8, 8), np.nan)}, "scale them to 0..1"),
    "repeated units": ({"units": np.array(["a"] * 6)}, "'a' appears more than once"),
    "label without class": ({"classes": np.array(["only"])}, "name all classes"),
    "negative label": ({"labels": np.full(6, -1)}, "count from 0"),
    "copies": (
        {"images": np.repeat(PIXELS[:1], 6, axis=0), "clusters": np.array(list("abcdef"))},
        "are the same image",
    ),
    "nothing": ({"images": PIXELS[:0], "labels": np.zeros(0, dtype=np.int64)}, "one image at least"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_bad_arrays_are_refused(tmp_path: Path, kind: str) -> None:
    changes, words = BAD_ARRAYS[kind]
    with pytest.raises(DataError, match=words):
        read_images(save(tmp_path / "data.npz", **changes))


def test_a_torn_npz_file_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz")
    for content in (path.read_bytes()[:200], b"", b"\x93NUMPY"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"data\.npz is not readable"):
            read_images(path)
    np.save(tmp_path / "one.npy", PIXELS)
    (tmp_path / "one.npy").rename(path)
    with pytest.raises(DataError, match=r"data\.npz is not readable"):
        read_images(path)


def test_copies_share_a_cluster_where_none_is_given(tmp_path: Path) -> None:
    pixels = PIXELS.copy()
    pixels[4] = pixels[1]
    assert read_images(save(tmp_path / "data.npz", images=pixels)).clusters == ("0", "1", "2", "3", "1", "5")


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    """Not of the name; and of every part of the content."""
    first = read_images(save(tmp_path / "one.npz"))
    assert read_images(save(tmp_path / "two.npz")).fingerprint == first.fingerprint
    changed = PIXELS.copy()
    changed[3, 0, 2, 1] ^= 1
    labels = make_pixels(6)[1]
    for changes in (
        {"images": changed},
        {"labels": (labels + 1) % 4},
        {"clusters": np.array(list("aabbcc"))},
        {"images": PIXELS.astype(np.float32) / 255},
    ):
        assert read_images(save(tmp_path / "three.npz", **changes)).fingerprint != first.fingerprint


def write_pictures(folder: Path, shapes: tuple[tuple[int, int], ...] = ((8, 8), (8, 8), (8, 8))) -> Path:
    """One picture of each shape (width, height) in class b, and as many in class a."""
    required.module("PIL")
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("b", "a"):
        (folder / name).mkdir(parents=True)
        for index, (width, height) in enumerate(shapes):
            values = rng.integers(256, size=(height, width, 3), dtype=np.uint8)
            Image.fromarray(values).save(folder / name / f"{index}.png")
    (folder / "README.txt").write_text("no picture", encoding="utf-8")
    return folder


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    from PIL import Image

    folder = write_pictures(tmp_path / "set")
    images = read_images(folder)
    assert images.classes == ("a", "b")
    assert images.units == ("a/0.png", "a/1.png", "a/2.png", "b/0.png", "b/1.png", "b/2.png")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.images.shape == (6, 3, 8, 8)
    np.testing.assert_array_equal(images.images[4].transpose(1, 2, 0), np.asarray(Image.open(folder / "b/1.png")))


def test_pictures_of_several_sizes_are_brought_to_one(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", ((8, 8), (20, 10), (9, 30)))
    with pytest.raises(DataError, match=r"a/1\.png has 20 x 10 pixels .* \(size=\)"):
        read_images(folder)
    assert read_images(folder, size=6).images.shape == (6, 3, 6, 6)


def test_grey_pictures_keep_one_channel(tmp_path: Path) -> None:
    from PIL import Image

    folder = write_pictures(tmp_path / "set")
    for file in folder.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    assert read_images(folder).images.shape == (6, 1, 8, 8)


@pytest.mark.parametrize("keep", [0, 60])
def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path, keep: int) -> None:
    folder = write_pictures(tmp_path / "set")
    path = folder / "b" / "1.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"b/1\.png is not a readable image"):
        read_images(folder)


def test_pictures_without_a_class_are_refused(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set")
    (folder / "a" / "0.png").rename(folder / "loose.png")
    with pytest.raises(DataError, match=r"outside the sub-folders .*loose\.png"):
        read_images(folder)
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        read_images(tmp_path / "bare")


@pytest.mark.parametrize(("module", "words"), [("PIL", "transferstats\\[vision\\]"), ("sklearn", "scikit-learn")])
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, words: str
) -> None:
    folder = write_pictures(tmp_path / "set")
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DependencyError, match=words):
        read_images(folder if module == "PIL" else "digits")


def test_digits_of_scikit_learn() -> None:
    required.module("sklearn")
    images = read_images("digits")
    assert images.images.shape == (1797, 1, 8, 8)
    assert (images.images.min(), images.images.max()) == (0, 1)
    assert images.classes == tuple("0123456789")


def test_fashion_mnist_of_debian() -> None:
    """The real files, where the package is installed."""
    path = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
    required.file(path, "Debian's package dataset-fashion-mnist")
    images = read_images(path)
    assert images.images.shape == (10_000, 1, 28, 28)
    assert np.bincount(images.labels).tolist() == [1000] * 10
    assert images.name == "fashion-mnist-t10k"


def test_what_is_a_dataset_of_images(tmp_path: Path) -> None:
    (tmp_path / "idx").mkdir()
    path = write_idx(tmp_path / "idx")
    (tmp_path / "text" / "book").mkdir(parents=True)
    (tmp_path / "text" / "book" / "page.txt").write_text("words", encoding="utf-8")
    pictures = write_pictures(tmp_path / "set")
    for source in (path, path.parent, save_pixels(tmp_path / "some.npz", 3), pictures, "digits"):
        assert is_image_source(source), source
    for source in (tmp_path / "text", tmp_path / "data.jsonl", "kjv"):
        assert not is_image_source(source), source


def test_nothing_there() -> None:
    with pytest.raises(DataError, match="no images at 'nowhere'"):
        read_images("nowhere")


def test_counts_of_arrays_are_checked_by_the_dataset_itself() -> None:
    pixels, labels = make_pixels(3)
    with pytest.raises(DataError, match="3 images, 3 labels, 2 units and 3 clusters"):
        Images("x", pixels, labels, ("a", "b"), ("a", "b", "c"), tuple("0123"))

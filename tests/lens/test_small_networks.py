"""The shipped networks for images: what they differ in, that they load, and that they are as good as recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
import required
import torch
from torch import nn

from transferstats import embedded
from transferstats.errors import SubjectError
from transferstats.lens.images import read_images
from transferstats.lens.small_networks import NETWORKS, build, instances
from transferstats.lens.vision import load_vision_model

FASHION = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
CHECKED = 1000  # test images; the accuracy on them has a standard error of at most 1.6 points


@pytest.mark.parametrize(("residual", "bare"), [("resnet", "plain"), ("isotropic-residual", "isotropic-plain")])
def test_a_skip_is_all_that_residual_and_plain_differ_in(residual: str, bare: str) -> None:
    torch.manual_seed(1)
    first, second = build(residual).eval(), build(bare).eval()
    second.load_state_dict(first.state_dict())  # the same parameters, whatever alpha
    block, plain = first.blocks[0], second.blocks[0]
    x = torch.rand(2, next(first.stem.parameters()).shape[0], 7, 7)
    with torch.no_grad():
        assert torch.equal(plain(x), torch.relu(block.inner(x)))
        assert torch.equal(block(x), torch.relu(block.inner(x) + x))


def test_every_network_is_shipped_with_its_record() -> None:
    record = embedded.network_record()
    assert record["training_images"] == "the first 20000"
    names = {f"{name}-{instance}" for name in NETWORKS for instance in range(instances(name))}
    assert set(embedded.network_names()) == names
    for name in sorted(names):
        model = load_vision_model(f"embedded:{name}")
        assert sum(one.numel() for one in model.module.parameters()) == record["networks"][name]["parameters"]
        assert len(model.layers) >= 6
    size = sum(file.stat().st_size for file in embedded.network_path("vit-0").parent.rglob("*.safetensors"))
    assert size < 4e6


@pytest.mark.parametrize("name", ["isotropic-plain-0", "resnet-0", "inception-0", "vit-0"])
def test_accuracy_is_what_was_recorded(name: str) -> None:
    required.file(FASHION, "Debian's package dataset-fashion-mnist")
    images = read_images(FASHION)
    model = load_vision_model(f"embedded:{name}")
    with torch.no_grad():
        pixels = torch.as_tensor(images.images[:CHECKED].copy())
        logits = model.module(model.preprocessing.apply(pixels))
    accuracy = float((logits.argmax(1) == torch.as_tensor(images.labels[:CHECKED])).float().mean())
    recorded = embedded.network_record()["networks"][name]["test_accuracy"]
    assert abs(accuracy - recorded) < 4 * (0.25 / CHECKED) ** 0.5


def test_an_unknown_network_is_refused_with_those_there_are() -> None:
    with pytest.raises(SubjectError, match="there are: inception-0, isotropic-half-0"):
        load_vision_model("embedded:nothing-0")


def test_skips_that_widen_add_no_parameter() -> None:
    for name in ("resnet", "plain"):
        kinds = {type(one) for one in build(name).modules() if list(one.parameters(recurse=False))}
        assert kinds == {nn.Conv2d, nn.BatchNorm2d, nn.Linear}

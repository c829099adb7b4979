"""Image classifiers as subjects: real small networks, taken apart, aligned, fitted, read like any other study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_images import write_idx
from torch import nn
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

import transferstats as ts
from transferstats import embedded
from transferstats.errors import DesignError, SubjectError
from transferstats.lens.alignment import Alignment, fit_alignment
from transferstats.lens.images import Images
from transferstats.lens.networks import NETWORKS, build, instances, load_network
from transferstats.lens.vision import VisionModel, VisionSubject, capture_raw, load_vision_model, verified

COUNT = 240
DRAW = np.random.default_rng(3)
QUICK = ts.FitPlan(max_steps=32, settle=16, batch=32)


def pictures(side: int = 28, count: int = COUNT, channels: int = 1) -> Images:
    """Noise with a bright quarter that is the class."""
    labels = np.arange(count) % 4
    pixels = DRAW.integers(0, 120, (count, channels, side, side), dtype=np.uint8)
    half = side // 2
    for index, label in enumerate(labels):
        row, column = divmod(int(label), 2)
        pixels[index, :, row * half : (row + 1) * half, column * half : (column + 1) * half] += 100
    units = tuple(f"image {index}" for index in range(count))
    return Images("quarters", pixels, labels, units, units)


HUGGING = {
    "resnet": lambda: ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[2, 2], layer_type="basic", num_labels=4)
    ),
    "convnext": lambda: ConvNextForImageClassification(
        ConvNextConfig(num_stages=2, hidden_sizes=[8, 12], depths=[2, 2], num_labels=4, image_size=32)
    ),
    "vit": lambda: ViTForImageClassification(
        ViTConfig(
            hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, image_size=32,
            patch_size=8, num_labels=4,
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HUGGING)
def test_networks_of_transformers_are_taken_apart(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    HUGGING[kind]().save_pretrained(tmp_path / kind)
    images = pictures(32, 12)
    model = verified(load_vision_model(str(tmp_path / kind)), images)
    seen = capture_raw(model, images.pixels)
    assert (model.classifier(seen.final) - seen.logits).abs().max() < 1e-5
    assert 2 <= len(model.blocks) <= 4
    assert [one.shape[1] for one in seen.states] == {
        "resnet": [8, 8, 12, 12],
        "convnext": [8, 8, 12, 12],
        "vit": [16, 16, 16],
    }[kind][: len(model.blocks)]


def test_states_are_averages_over_the_picture() -> None:
    network = build("isotropic-residual").eval()
    blocks = {str(index): block for index, block in enumerate(network.blocks)}
    images = pictures(28, 9)
    model = verified(VisionModel("mine", network, blocks, network.classifier), images)
    assert list(model.blocks) == [str(index) for index in range(7)]  # the last block is the final state
    seen = capture_raw(model, images.pixels)
    with torch.no_grad():
        x = network.stem(model.prepared(images.pixels))
        for index, block in enumerate(network.blocks):
            x = block(x)
            if index < 7:
                assert torch.allclose(seen.states[index], x.mean((2, 3)), atol=1e-5)
        assert torch.allclose(seen.final, x.mean((2, 3)), atol=1e-5)


def test_logits_that_are_not_the_classifiers_are_refused() -> None:
    class Tempered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build("isotropic-plain")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.inner(x))

    network = Tempered().eval()
    blocks = dict(enumerate(network.inner.blocks))
    model = VisionModel("tempered", network, {str(k): v for k, v in blocks.items()}, network.inner.classifier)
    with pytest.raises(SubjectError, match="not what its last linear map gives"):
        verified(model, pictures(28, 8))


def test_a_skip_is_all_that_residual_and_plain_differ_in() -> None:
    torch.manual_seed(1)
    residual, plain = build("resnet").eval(), build("plain").eval()
    plain.load_state_dict(residual.state_dict())  # the same parameters, whatever alpha
    x = torch.rand(2, 8, 14, 14)
    first, bare = residual.blocks[0], plain.blocks[0]
    with torch.no_grad():
        assert torch.equal(bare(x), torch.relu(first.inner(x)))
        assert torch.equal(first(x), torch.relu(first.inner(x) + x))


# --- alignment ---


def states(widths: tuple[int, ...] = (4, 6), rows: int = 300) -> tuple[list[torch.Tensor], torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    final = torch.randn(rows, 6, generator=draw)
    return [final[:, :width] @ torch.randn(width, width, generator=draw) for width in widths], final


def test_pad_keeps_channels_and_procrustes_turns_them() -> None:
    layers, final = states()
    padded = fit_alignment("pad", layers, final).apply(layers)
    assert torch.equal(padded[0][:, :4], layers[0])
    assert not padded[0][:, 4:].any()
    fitted = fit_alignment("procrustes", layers, final)
    assert fitted.rotations is not None
    for rotation in fitted.rotations:
        assert torch.allclose(rotation @ rotation.T, torch.eye(6), atol=1e-5)
    turned = fitted.apply(layers)
    for layer in range(2):
        assert (turned[layer] - final).norm() < (padded[layer] - final).norm()


def test_a_rotated_final_state_is_found_again() -> None:
    _, final = states()
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(4)))[0]
    layers = [final @ rotation, final]
    aligned = fit_alignment("procrustes", layers, final).apply(layers)
    assert torch.allclose(aligned[0], final, atol=1e-3)


def test_widths_that_differ_need_an_alignment() -> None:
    layers, final = states()
    with pytest.raises(DesignError, match=r"widths \[4, 6, 6\].*alignment='pad'"):
        fit_alignment("none", layers, final)
    with pytest.raises(DesignError, match="alignment of none, pad, procrustes"):
        ts.ImagePlan(alignment="turned")


def test_a_padded_head_decodes_what_the_classifier_does() -> None:
    network = build("resnet").eval()
    model = VisionModel("r", network, {str(k): b for k, b in enumerate(network.blocks)}, network.classifier)
    images = pictures(28, 6)
    subject = VisionSubject(model, images, Alignment("pad", 40))
    captured = subject.capture(range(6))
    assert captured.hidden.shape == (9, 6, 40)
    logits = subject.head.decode(captured.final)
    assert torch.allclose(logits, capture_raw(model, images.pixels).logits, atol=1e-5)


# --- a whole study ---


@pytest.fixture(scope="module")
def idx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = pictures(28, 400)
    return write_idx(tmp_path_factory.mktemp("quarters"), images.pixels[:, 0], images.labels.astype(np.uint8))


def test_a_study_of_images_is_swept_and_judged_like_any_other(idx: Path, tmp_path: Path) -> None:
    plan = ts.ImagePlan(units=60, first=40, alignment="procrustes")
    options = {"seeds": 2, "null_replicates": 2, "plan": plan, "fit": QUICK}
    cells = ts.vision_cells("embedded:resnet-0", [idx], **options)  # type: ignore[arg-type]
    assert not ts.sweep(cells, tmp_path / "store").failures
    grid = ts.read_grid(tmp_path / "store")
    assert grid.unit == "nats/image"
    assert len(grid.datasets[0].units) == 60
    evidence = ts.evaluate(grid, smallest=0.05)
    assert {claim.verdict for claim in evidence.claims if claim.key == "C3"} != {"not tested"}
    assert "penalty_share" in evidence.datasets[0].extras
    again = ts.vision_cells("embedded:resnet-0", [idx], **options)  # type: ignore[arg-type]
    assert [cell.key for cell in again] == [cell.key for cell in cells]
    other = ts.vision_cells("embedded:resnet-0", [idx], seeds=2, plan=ts.ImagePlan(60, alignment="pad"))
    assert not {cell.key for cell in other} & {cell.key for cell in cells}


def test_widths_are_checked_before_anything_is_computed(idx: Path) -> None:
    with pytest.raises(DesignError, match="without an alignment"):
        ts.vision_cells("embedded:resnet-0", [idx], seeds=2)
    with pytest.raises(SubjectError, match="known networks"):
        ts.vision_cells("embedded:nothing-0", [idx], seeds=2)


def test_every_shipped_network_loads_and_says_how_good_it_is() -> None:
    record = embedded.network_record()
    assert record["training_images"] == "the first 20000"
    for name in NETWORKS:
        for instance in range(instances(name)):
            found = record["networks"][f"{name}-{instance}"]
            network = load_network(f"{name}-{instance}")
            assert sum(one.numel() for one in network.parameters()) == found["parameters"]
            assert found["test_accuracy"] > 0.8
    size = sum(path.stat().st_size for path in embedded.network_path("vit-0").parent.glob("*.safetensors"))
    assert size < 4e6

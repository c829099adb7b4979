"""Inception v1: the published sizes, the names of the common checkpoint, and nothing but tensors from files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from transferstats.errors import SubjectError
from transferstats.lens.inception import InceptionV1
from transferstats.lens.vision import load_vision_model


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_parameters_are_those_of_the_checkpoint() -> None:
    network = InceptionV1()
    assert sum(one.numel() for one in network.parameters()) == 6_624_904
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["conv1.conv.weight"] == (64, 3, 7, 7)
    assert shapes["inception3a.branch2.1.conv.weight"] == (128, 96, 3, 3)
    assert shapes["inception4d.branch3.0.bn.running_var"] == (32,)
    assert shapes["inception5b.branch4.1.conv.weight"] == (128, 832, 1, 1)
    assert shapes["fc.weight"] == (1000, 1024)
    assert len(network.blocks) == 9


def test_a_picture_becomes_a_thousand_logits() -> None:
    network = InceptionV1().eval()
    sizes = []
    for block in network.blocks:
        block.register_forward_hook(lambda _m, _a, out: sizes.append(tuple(out.shape[1:])))
    assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
    assert sizes[0] == (256, 28, 28)
    assert sizes[2] == (512, 14, 14)
    assert sizes[-1] == (1024, 7, 7)  # the table of the paper


def checkpoint(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    """A directory as a user makes it of a published checkpoint."""
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    options = {"n_classes": 7, "transform_input": True}
    config = {"architecture": "inception_v1", "options": options, "preprocessing": {"size": 64, "mean": [0.5] * 3}}
    config["preprocessing"]["std"] = [0.25] * 3  # type: ignore[index]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_checkpoint_is_loaded_whole_or_refused(tmp_path: Path) -> None:
    """Auxiliary heads are left out; counters of batches, which old checkpoints lack, are not missed."""
    source = InceptionV1(7, transform_input=True).eval()
    weights = {k: v.contiguous() for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")}
    loaded = load_vision_model(checkpoint(tmp_path / "whole", weights | {"aux1.fc1.weight": torch.zeros(3, 3)}))
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(loaded.module(x), source(x))
    assert len(loaded.layers) == 8  # the last module's average is the final state
    del weights["inception4a.branch1.conv.weight"]
    with pytest.raises(SubjectError, match=r"inception4a\.branch1\.conv\.weight"):
        load_vision_model(checkpoint(tmp_path / "part", weights))


def test_forward_is_that_of_torchvision() -> None:
    try:
        from torchvision.models import googlenet
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"torchvision, the reference implementation, is not usable here: {error}")
    theirs = googlenet(weights=None, aux_logits=False, init_weights=False, transform_input=True).eval()
    ours = InceptionV1(transform_input=True).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 3, 224, 224)
    assert (ours(x) - theirs(x)).abs().max() < 1e-4

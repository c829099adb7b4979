"""Image classifiers: parts found and verified, states as computed by hand, and whole studies on tiny networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_networks
import torch
from safetensors.torch import load_file, save_file
from tiny_networks import FAMILIES, SIZE, Plain, make_network, make_pixels, save_network, save_pixels, save_plain
from torch import Tensor, nn

import transferstats as ts
from transferstats.cli import BAD_INPUT, OK, main
from transferstats.engine import Cell, Store, run_cell, sweep
from transferstats.errors import DataError, DesignError, SubjectError
from transferstats.lens.images import Images, read_images
from transferstats.lens.plan import IMAGES
from transferstats.lens.preprocessing import Preprocessing, read_preprocessing
from transferstats.lens.vision import VisionSubject, load_vision_model, vision_subject
from transferstats.lens.vision_anatomy import find_vision_anatomy

LOGIT_TOLERANCE = 2e-5  # of logits of size 1 to 10: float32, another order of summation
STATE_TOLERANCE = 1e-5  # float32 means over a map

FACTORY = f"{tiny_networks.__file__}:plain"
WIDTHS = {"ResNet": (12, 12, 20), "ViT": (16, 16, 16), "ConvNext": (12, 12, 20, 20), "Swin": (8, 8, 16, 16)}

each_family = pytest.mark.parametrize("family", FAMILIES)


def edge(family: str) -> int:
    return 2 * SIZE if family == "MobileNetV2" else SIZE


def inputs(count: int = 3, channels: int = 3, size: int = SIZE) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return read_images(save_pixels(tmp_path_factory.mktemp("images") / "quarters.npz", 150))


def subject_of(folder: Path, images: Images, alignment: str = "pad", **options: Any) -> VisionSubject:
    return vision_subject(load_vision_model(folder, **options), images, alignment)


@each_family
def test_decoding_the_final_state_gives_the_logits(family: str, tmp_path: Path, images: Images) -> None:
    """On real images, after padding, for every family: without naming any of them."""
    folder = save_network(tmp_path, family)
    size = edge(family)
    preprocessing = Preprocessing(size, (0.5, 0.4, 0.3), (0.5, 0.5, 0.25))
    subject = subject_of(folder, images, preprocessing=preprocessing)
    states = subject.capture([5, 0, 17])
    pixels = torch.as_tensor(images.images[[5, 0, 17]])
    with torch.no_grad():
        theirs = subject.model.module(pixel_values=preprocessing.apply(pixels)).logits
    ours = subject.head.decode(states.final)
    assert (ours - theirs).abs().max() < LOGIT_TOLERANCE * max(1.0, float(theirs.abs().max()))
    if family != "MobileNetV2":  # 17 blocks of random weights leave nothing of an image
        assert theirs.std(0).max() > 0.01
    assert states.hidden.shape == (len(subject.layers), 3, subject.width)
    assert states.labels.tolist() == images.labels[[5, 0, 17]].tolist()


def hidden_states(family: str, x: Tensor) -> list[Tensor]:
    """What transformers itself gives for tokens of a ViT, or maps of a ResNet after each stage."""
    with torch.no_grad():
        return list(make_network(family)(x, output_hidden_states=True).hidden_states)


def test_the_state_of_a_vit_block_is_its_class_token() -> None:
    model = make_network("ViT")
    anatomy = find_vision_anatomy(model, inputs())
    subject = captured(model, inputs())
    theirs = hidden_states("ViT", inputs())
    for layer in range(3):
        assert (subject[layer] - theirs[layer + 1][:, 0]).abs().max() < STATE_TOLERANCE
    assert anatomy.pooling.label == "class token"
    assert anatomy.dropped == ""  # a norm lies between the last block and the classifier


def captured(model: nn.Module, x: Tensor) -> list[Tensor]:
    from transferstats.lens.vision_anatomy import pooled_outputs

    anatomy = find_vision_anatomy(model, x)
    return pooled_outputs(model, anatomy.blocks, anatomy.pooling, x)


def test_the_state_of_a_resnet_block_is_the_mean_of_its_map() -> None:
    """The second of three layers is the last block of the first stage; the very last block is the final state."""
    model = make_network("ResNet")
    anatomy = find_vision_anatomy(model, inputs())
    stages = hidden_states("ResNet", inputs())
    assert (captured(model, inputs())[1] - stages[1].mean((2, 3))).abs().max() < STATE_TOLERANCE
    assert anatomy.dropped == "resnet.encoder.stages.1.layers.1"
    assert anatomy.names == ("0.0", "0.1", "1.0")


def test_states_of_swin_average_tokens_and_those_of_beit_leave_the_class_token_out() -> None:
    assert find_vision_anatomy(make_network("Swin"), inputs()).pooling.first == 0
    beit = find_vision_anatomy(make_network("Beit"), inputs())
    assert beit.pooling.first == 1
    theirs = hidden_states("Beit", inputs())
    assert (captured(make_network("Beit"), inputs())[1] - theirs[2][:, 1:].mean(1)).abs().max() < STATE_TOLERANCE


@pytest.mark.parametrize("family", WIDTHS)
def test_widths_and_depth(family: str) -> None:
    assert find_vision_anatomy(make_network(family), inputs()).widths == WIDTHS[family]


def test_blocks_can_be_named() -> None:
    """By the end of their names, a dot-separated part for each star."""
    model = make_network("ResNet", depths=[2, 3])
    named = find_vision_anatomy(model, inputs(), ["encoder.stages.*.layers.*"])
    assert named.blocks == find_vision_anatomy(model, inputs()).blocks
    stages = find_vision_anatomy(make_network("ConvNext"), inputs(), ["stages.*"])
    assert stages.widths == (12, 20)
    one = find_vision_anatomy(model, inputs(), ["stages.1.layers.*"])
    assert one.names == ("0", "1")
    for patterns, words in (
        (["stages.*", "stages.*.layers.*"], "is a part of block"),
        (["nothing.*"], "is named like"),
        (["stages.0"], "transfer needs two"),
    ):
        with pytest.raises(SubjectError, match=words):
            find_vision_anatomy(model, inputs(), patterns)


class Broken(Plain):
    """A network with something wrong."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: Tensor) -> Any:
        if self.kind == "reused":
            images = self.blocks[0](images)[:, :1]
        logits = super().forward(images)
        if self.kind == "scaled":
            return 2 * logits
        return {"logits": logits} if self.kind == "dictionary" else logits


def test_what_cannot_be_verified_is_refused() -> None:
    x = inputs(channels=1, size=8)
    for kind, words in (
        ("scaled", "no linear layer gives the logits"),
        ("dictionary", "the model returns dict"),
        ("reused", r"block 'blocks\.0' is not run exactly once"),
    ):
        with pytest.raises(SubjectError, match=words):
            find_vision_anatomy(Broken(kind), x)
    broken = Plain()
    broken.blocks[1][0].weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(SubjectError, match="not finite"):
        find_vision_anatomy(broken, x)
    with pytest.raises(SubjectError, match="does not take images of shape"):
        find_vision_anatomy(Plain(), inputs(channels=3, size=8))
    changed = Plain()
    changed.classifier.forward = lambda z: nn.functional.linear(z, changed.classifier.weight)  # type: ignore[method-assign]
    with pytest.raises(SubjectError, match="'classifier' is not a plain linear layer"):
        find_vision_anatomy(changed, x)


def test_a_network_of_ones_own(tmp_path: Path, images: Images) -> None:
    """Weights, options and preprocessing from its directory, code from the caller alone."""
    folder = save_plain(tmp_path / "net", widths=(8, 8, 8, 12))
    subject = subject_of(folder, images, factory=FACTORY)
    network = Plain((8, 8, 8, 12))
    network.load_state_dict(load_file(folder / "model.safetensors"))
    x = (torch.as_tensor(images.images[:5]).float() / 255 - 0.5) / 0.25
    states = subject.capture(range(5))
    with torch.no_grad():
        for layer in range(3):
            x = network.blocks[layer](x)
            expected = nn.functional.pad(x.mean((2, 3)), (0, 4))
            assert (states.hidden[layer] - expected).abs().max() < STATE_TOLERANCE
    assert subject.model.widths == (8, 8, 8, 12)
    assert subject.model.anatomy.dropped == "blocks.3"
    assert subject.unit == "nats/image"
    assert torch.equal(states.counts(), torch.ones(5, dtype=torch.int64))


def test_a_final_state_that_is_narrower_is_padded_with_its_head(tmp_path: Path, images: Images) -> None:
    folder = save_plain(tmp_path / "net", widths=(8, 12, 6))
    subject = subject_of(folder, images, factory=FACTORY)
    states = subject.capture([0, 1])
    assert subject.head.weight.shape == (4, 12)
    assert not states.final[:, 6:].any()
    assert not subject.head.weight[:, 6:].any()
    with torch.no_grad():
        x = subject.model.preprocessing.apply(torch.as_tensor(images.images[:2]))
        assert (subject.head.decode(states.final) - subject.model.module(x)).abs().max() < LOGIT_TOLERANCE


def test_a_directory_cannot_name_code(tmp_path: Path) -> None:
    folder = save_plain(tmp_path / "net")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["architecture"] = "os:getcwd"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(SubjectError, match="which is none of inception_v1"):
        load_vision_model(folder)


def spoil(folder: Path, name: str) -> None:
    """One thing wrong in the directory of a network."""
    weights = folder / "model.safetensors"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    state = load_file(weights)
    if name == "torn":
        weights.write_bytes(weights.read_bytes()[:100])
    elif name == "missing tensor":
        save_file({key: value for key, value in state.items() if key != "classifier.bias"}, weights)
    elif name == "pickle":
        weights.unlink()
        torch.save(state, folder / "pytorch_model.bin")
    else:
        config = {
            "options": {**config, "options": {"depth": 3}},
            "preprocessing": {"options": config["options"]},
            "classes": {**config, "classes": ["a", "b"]},
        }[name]
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torn", "no readable safetensors"),
        ("missing tensor", r"does not fit Plain(.|\n)*classifier\.bias"),
        ("pickle", "pickled weights are refused"),
        ("options", "does not take the options"),
        ("preprocessing", "has no preprocessing with size"),
        ("classes", "names 2 classes and gives 4 logits"),
    ],
)
def test_a_spoiled_directory_is_refused(tmp_path: Path, name: str, words: str) -> None:
    folder = save_plain(tmp_path / "net")
    spoil(folder, name)
    with pytest.raises(SubjectError, match=words):
        load_vision_model(folder, factory=FACTORY)


@pytest.mark.parametrize(
    "factory", ["nothing.like:this", f"{tiny_networks.__file__}:absent", "plain", "gone.py:f"]
)
def test_a_factory_that_is_not_there(tmp_path: Path, factory: str) -> None:
    with pytest.raises(SubjectError, match=r"factory|no function 'absent'"):
        load_vision_model(save_plain(tmp_path / "net"), factory=factory)


def test_models_of_transformers_that_lack_something(tmp_path: Path) -> None:
    folder = save_network(tmp_path / "whole")
    state = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if k != "classifier.1.bias"}, folder / "model.safetensors")
    with pytest.raises(SubjectError, match=r"lack 1 tensors .*classifier\.1\.bias"):
        load_vision_model(folder)
    bare = save_network(tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(SubjectError, match="no preprocessor_config"):
        load_vision_model(bare)
    with pytest.raises(SubjectError, match="no image model at"):
        load_vision_model("google/vit-base-patch16-224")  # nothing is ever downloaded


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"size": 20, "do_normalize": False}, Preprocessing(20)),
        ({"size": {"shortest_edge": 30}, "crop_size": 20, "do_center_crop": True, "do_normalize": False}, 20),
        ({"size": {"height": 20, "width": 30}, "do_normalize": False}, "no square"),
        ({"size": 20}, "no image_mean"),
        ({"size": 20, "rescale_factor": 1.0, "do_normalize": False}, "uses rescale_factor"),
        ({"size": 20, "rescale_offset": True, "do_normalize": False}, "uses rescale_offset"),
    ],
)
def test_preprocessing_of_transformers(tmp_path: Path, settings: dict[str, Any], expected: Any) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if isinstance(expected, str):
        with pytest.raises(SubjectError, match=expected):
            read_preprocessing(tmp_path)
    else:
        assert read_preprocessing(tmp_path) == (Preprocessing(expected) if expected == 20 else expected)


def test_preprocessing_scales_repeats_resizes_and_standardises() -> None:
    grey = torch.full((2, 1, 4, 4), 51, dtype=torch.uint8)
    done = Preprocessing(8, (0.1, 0.2, 0.0), (1.0, 2.0, 0.5)).apply(grey)
    assert done.shape == (2, 3, 8, 8)
    torch.testing.assert_close(done[0, :, 3, 3], torch.tensor([0.1, 0.0, 0.4]))
    torch.testing.assert_close(Preprocessing(4, (0.0,), (1.0,)).apply(grey.float() / 255), grey.float() / 255)
    with pytest.raises(DataError, match="3 channels and the model takes 1"):
        Preprocessing(4, (0.0,), (1.0,)).apply(torch.zeros(1, 3, 4, 4))
    with pytest.raises(DataError, match="crop them to squares"):
        Preprocessing(4).apply(torch.zeros(1, 3, 4, 5))
    with pytest.raises(SubjectError, match="as many means as deviations"):
        Preprocessing(4, (0.0, 0.0), (1.0, 1.0))


def test_labels_are_matched_by_name_where_both_sides_have_names(tmp_path: Path, images: Images) -> None:
    names = ["d", "c", "b", "a"]
    folder = save_network(tmp_path / "net", id2label=dict(enumerate(names)), label2id={})
    model = load_vision_model(folder)
    assert model.classes == tuple(names)
    named = replace(images, classes=tuple("abcd"))
    assert vision_subject(model, named, "pad").labels.tolist() == (3 - images.labels).tolist()
    assert vision_subject(model, images, "pad").labels.tolist() == images.labels.tolist()
    with pytest.raises(DataError, match="5 classes and 'net' gives 4 logits"):
        vision_subject(model, replace(images, classes=tuple("vwxyz")), "pad")


def test_the_prior_is_that_of_the_labels(tmp_path: Path, images: Images) -> None:
    subject = subject_of(save_plain(tmp_path / "net"), images, factory=FACTORY)
    counts = np.bincount(images.labels[:40], minlength=4) + 1
    np.testing.assert_allclose(subject.log_prior(range(40)).exp().numpy(), counts / counts.sum(), rtol=1e-6)


FIT = ts.FitPlan(strengths=(1e-2, 1.0), batch=32, first=8, max_steps=16, beside=None, curve=())


def planned(folder: Path, data: Path, **changes: Any) -> list[Cell]:
    source = ts.VisionSource(str(folder), factory=FACTORY)
    options = {"alignment": "procrustes", "seeds": 2, "null_replicates": 2, "fit": FIT, **changes}
    return ts.vision_cells(source, [data], **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network and 200 images."""
    root = tmp_path_factory.mktemp("vision")
    return save_plain(root / "net", widths=(6, 8, 8, 10)), save_pixels(root / "quarters.npz", 200)


@pytest.mark.parametrize("alignment", ["pad", "procrustes"])
def test_a_whole_study(place: tuple[Path, Path], tmp_path: Path, alignment: str) -> None:
    """2 seeds and 2 null replicates -> store -> grid -> verdicts, with the unit of images throughout."""
    cells = planned(*place, alignment=alignment)
    store = tmp_path / "store"
    outcome = sweep(cells, store)
    assert not outcome.failures, outcome.failures
    record = Store(store).read(cells[0].key).record
    assert record["alignment"]["method"] == alignment
    assert record["vision"] == {
        "widths": [6, 8, 8, 10],
        "pooling": "mean of map or tokens",
        "final_block": "blocks.3",
        "labels": "by position",
    }
    if alignment == "procrustes":
        assert record["alignment"]["rows"] == record["rows"]["train"]
        assert len(record["alignment"]["variance_share"]) == 3
    grid = ts.read_grid(store)
    assert (grid.unit, grid.layers) == ("nats/image", ("0", "1", "2"))
    (data,) = grid.datasets
    assert data.losses["kl"].shape == (2, 40, 3, 3)
    assert data.null is not None
    assert (data.tokens == 1).all()
    evidence = ts.evaluate(grid, smallest=0.05)
    units = {claim.estimate.unit for claim in evidence.claims if claim.estimate is not None}
    assert "nats/image" in units
    assert not any("token" in unit for unit in units)
    again = sweep(cells, store)
    assert len(again.reused) == len(cells)


def test_penalties_are_0_on_the_diagonal_whatever_the_widths(place: tuple[Path, Path]) -> None:
    """A padded lens on its own layer is that layer's lens: the same loss as scored alone."""
    output = run_cell(planned(*place, alignment="pad")[0])
    table = output.table[output.table["readout"] == "lens"]
    loss = table.pivot_table(index="unit", columns=["source", "target"], values="kl").to_numpy().reshape(-1, 3, 3)
    own = np.diagonal(loss, axis1=1, axis2=2)
    penalty = loss - own[:, None, :]
    assert not np.diagonal(penalty, axis1=1, axis2=2).any()
    assert np.abs(penalty).max() > 0.001
    certified = [row["held_out_kl"] for row in output.record["certificates"] if row["readout"] == "own"]
    assert own.mean(0)[-1] < 3 * max(certified) + 0.1


def test_every_option_is_part_of_the_key(place: tuple[Path, Path], tmp_path: Path) -> None:
    folder, data = place
    keys = {cell.key for cell in planned(folder, data)}
    assert len(keys) == 5
    assert {cell.key for cell in planned(folder, data)} == keys
    moved = save_pixels(tmp_path / "quarters.npz", 200)
    assert {cell.key for cell in planned(folder, moved)} == keys  # the place is not part of it
    for changes in (
        {"alignment": "pad"},
        {"fit": replace(FIT, anchor="shared")},
        {"evaluation": ts.EvaluationPlan(units=39)},
    ):
        assert not {cell.key for cell in planned(folder, data, **changes)} & keys
    source = ts.VisionSource(str(folder), FACTORY, ("blocks.*",), Preprocessing(8, (0.4,), (0.25,)))
    other = ts.vision_cells(source, [data], alignment="procrustes", seeds=2, null_replicates=2, fit=FIT)
    assert not {cell.key for cell in other} & keys
    assert planned(folder, data, fit=None)[0].config["fit"]["batch"] == IMAGES.batch


def test_what_changed_since_planning_is_refused(tmp_path: Path) -> None:
    folder, data = save_plain(tmp_path / "net"), save_pixels(tmp_path / "quarters.npz", 60)
    code = tmp_path / "code.py"
    code.write_text("from tiny_networks import plain\n", encoding="utf-8")
    source = ts.VisionSource(str(folder), factory=f"{code}:plain")
    cell = ts.vision_cells(source, [data], alignment="pad", seeds=2, fit=FIT)[0]
    save_pixels(data, 60, seed=1)
    with pytest.raises(DesignError, match=r"the images at .* changed since"):
        run_cell(cell)
    save_pixels(data, 60)
    code.write_text("from tiny_networks import plain  # another\n", encoding="utf-8")
    with pytest.raises(DesignError, match=r"or the code that makes it, changed since"):
        run_cell(cell)


def test_designs_that_cannot_work_are_refused_before_anything_is_computed(place: tuple[Path, Path]) -> None:
    for changes, words in (
        ({"alignment": "none"}, "layers are 6, 8, 8 wide and the final state 10"),
        ({"alignment": "cca"}, "unknown alignment"),
        ({"seeds": 1}, "at least 2 seeds"),
        ({"evaluation": ts.EvaluationPlan(units=500)}, "cannot give 500 evaluation units"),
        ({"machine": ts.Machine("auto")}, "loaded on one device: name it"),
    ):
        with pytest.raises(DesignError, match=words):
            planned(*place, **changes)


def test_the_command_line_sees_that_a_dataset_holds_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = save_network(tmp_path / "vit", "ViT"), save_pixels(tmp_path / "quarters.npz", 60)
    study = ["--subject", str(folder), "--dataset", str(data), "--seeds", "2", "--null-replicates", "0"]
    store = str(tmp_path / "store")
    assert main(["sweep", *study, "--jobs", "1", "--max-steps", "16", "--store", store]) == OK
    assert ts.read_grid(store).unit == "nats/image"
    assert Store(store).study()["fit"]["batch"] == IMAGES.batch
    for wrong, words in (
        (["--dataset", "kjv"], "text or about images"),
        (["--alignment", "cca"], "unknown alignment"),
        (["--subject", "embedded"], "no image model at 'embedded'"),
    ):
        assert main(["sweep", *study, *wrong, "--store", store]) == BAD_INPUT
        assert words in capsys.readouterr().err
    assert main(["sweep", "--alignment", "pad", "--store", store]) == BAD_INPUT
    assert "--alignment is for images" in capsys.readouterr().err


def test_pixels_of_a_class_differ() -> None:
    """The data of these tests can be learnt from: otherwise a study on them shows nothing."""
    pixels, labels = make_pixels(100)
    half = pixels.shape[-1] // 2
    quarters = pixels[:, 0].reshape(100, 2, half, 2, half).mean((2, 4)).reshape(100, 4)
    assert (quarters.argmax(1) == labels).all()

"""Train the small networks on Fashion-MNIST and ship their weights in half precision with the package.

    python analyses/studies/vision/train.py --data FOLDER      # of train-images-idx3-ubyte.gz and the other three

The files come from Debian's package dataset-fashion-mnist or from github.com/zalandoresearch/fashion-mnist (MIT).
Networks see the first 20,000 training images only: lenses are fitted to images that no network was trained on. A
network whose weights are there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import transferstats.embedded
from transferstats.lens.images import Images, read_images
from transferstats.lens.small_networks import NETWORKS, build, instances
from transferstats.lens.vision import load_vision_model
from transferstats.provenance import library_versions

WEIGHTS = Path(transferstats.embedded.__file__).parent / "networks"
DATA = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
TRAINED_ON = 20_000
PREPROCESSING = {"size": 28, "mean": 0.0, "std": 1.0}  # values from 0 to 1, normalised no further
CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
EPOCHS, BATCH, RATE, DECAY = 4, 64, 4e-3, 5e-4


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the IDX files")
    parser.add_argument("--only", nargs="+", choices=tuple(NETWORKS), default=tuple(NETWORKS))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train = read_images(options.data / "train-images-idx3-ubyte.gz")
    test = read_images(options.data / "t10k-images-idx3-ubyte.gz")
    WEIGHTS.mkdir(exist_ok=True)
    for name in options.only:
        for instance in range(instances(name)):
            if not weights_file(name, instance).exists():
                record(name, instance, train_one(name, instance, train))
                record(name, instance, measured(name, instance, test))


def weights_file(name: str, instance: int) -> Path:
    """Where the weights of an instance lie."""
    return WEIGHTS / f"{name}-{instance}" / "model.safetensors"


def pixels(images: Images) -> Tensor:
    """(N, 1, 28, 28) float32 from 0 to 1: the networks normalise nothing else."""
    return torch.tensor(images.images).float() / 255


def train_one(name: str, instance: int, train: Images) -> dict[str, Any]:
    """Train one instance and keep it in half precision."""
    started = time.process_time()
    torch.manual_seed(1000 * list(NETWORKS).index(name) + instance)
    network = build(name).train()
    x, y = pixels(train)[:TRAINED_ON], torch.from_numpy(train.labels)[:TRAINED_ON]
    steps = EPOCHS * (len(x) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x))[: steps // EPOCHS * BATCH].split(BATCH):
            pictures = x[rows].flip(-1) if torch.rand(()) < 0.5 else x[rows]
            loss = nn.functional.cross_entropy(network(pictures), y[rows])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    kept = {
        key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()
    }
    weights_file(name, instance).parent.mkdir(parents=True, exist_ok=True)
    save_file(kept, weights_file(name, instance))
    config = {"architecture": "small_network", "options": {"name": name}, "preprocessing": PREPROCESSING}
    config["classes"] = list(CLASSES)
    weights_file(name, instance).with_name("config.json").write_text(json.dumps(config, indent=1) + "\n")
    return {"seconds": round(time.process_time() - started)}


def measured(name: str, instance: int, test: Images) -> dict[str, Any]:
    """Accuracy and loss of what was kept on the test images, and the number of parameters."""
    network = load_vision_model(weights_file(name, instance).parent).module
    with torch.no_grad():
        logits = torch.cat([network(part) for part in pixels(test).split(500)])
    labels = torch.from_numpy(test.labels)
    return {
        "test_accuracy": round(float(np.mean((logits.argmax(1) == labels).numpy())), 4),
        "test_loss": round(float(nn.functional.cross_entropy(logits, labels)), 4),
        "parameters": sum(one.numel() for one in network.parameters()),
    }


def record(name: str, instance: int, found: dict[str, Any]) -> None:
    """Add what was found of one instance to training.json."""
    path = WEIGHTS / "training.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"networks": {}}
    known |= {
        "data": "Fashion-MNIST",
        "training_images": f"the first {TRAINED_ON}",
        "recipe": {"epochs": EPOCHS, "batch": BATCH, "rate": RATE, "weight_decay": DECAY, "schedule": "one cycle"},
        "versions": dict(library_versions()),
    }
    known["networks"].setdefault(f"{name}-{instance}", {}).update(found)
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(name, instance, found, flush=True)


if __name__ == "__main__":
    main()

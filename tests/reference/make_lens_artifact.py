"""Write lens_artifact/: lenses that tuned-lens 0.2.0 itself saved, and what they make of some states.

Needs ``pip install tuned-lens==0.2.0`` beside this package. The network is a Llama of two blocks with random
weights, saved beside the lenses; the lenses have random weights too, and the states are drawn.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
from tuned_lens.nn.lenses import TunedLens

HERE = Path(__file__).parent / "lens_artifact"


def main() -> None:
    """Save lenses by the package, and its own results on drawn states."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=80, **sizes)).float().eval()
    lens = TunedLens.from_model(model)
    with torch.no_grad():
        for parameter in lens.layer_translators.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
        states = torch.randn(2, 5, 16)
        mapped = torch.stack([lens.transform_hidden(state, index) for index, state in enumerate(states)])
    lens.save(HERE)
    save_file(
        {"states": states, "mapped": mapped, "unembedding": model.lm_head.weight.detach().clone()},
        HERE / "expected.safetensors",
    )


if __name__ == "__main__":
    main()

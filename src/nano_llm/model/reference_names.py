"""The reference's parameter names (dyh1265/Transformers), mapped onto ours.

| reference | ours |
|---|---|
| ``embed.weight`` | ``trunk.embedding.weight`` |
| ``blocks.<l>.ln1``, ``.ln2`` | ``trunk.layers.<l>.attention_norm``, ``.feed_forward_norm`` |
| ``blocks.<l>.attn.wq``, ``.wk``, ``.wv`` | rows of ``trunk.layers.<l>.attention.query_key_value``, in this order |
| ``blocks.<l>.attn.wo`` | ``trunk.layers.<l>.attention.output`` |
| ``blocks.<l>.ffn.0``, ``.ffn.3`` | ``trunk.layers.<l>.feed_forward.up``, ``.down`` |
| ``blocks.<l>.attn_res_proj.weight``, ``.attn_res_norm.weight`` | query and key weight of mix 2l |
| ``blocks.<l>.mlp_res_proj.weight``, ``.mlp_res_norm.weight`` | query and key weight of mix 2l + 1 |
| ``ln_f`` | ``trunk.final_norm`` |
| ``head`` | ``readout.perceptron`` |
| ``tarnet_shared_head`` | ``readout.shared`` |
| ``tarnet_sentiment_delta<k>`` | ``readout.deltas.<k>`` |

Perceptrons: ``hidden.<i>`` counts activations and dropouts too, so ``i`` is replaced by its rank; ``out`` becomes
``output``.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from nano_llm.errors import CheckpointError

Sources = dict[str, tuple[str, ...]]
"""Our names, each with the reference's names whose rows it joins."""


def reference_state(reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of a reference checkpoint for ``LanguageModel.load_state_dict``.

    Raises:
        CheckpointError: A name is unknown or missing.
    """
    sources = trunk_sources(reference) | readout_sources(reference)
    expected = {name for names in sources.values() for name in names}
    for problem, names in (
        ("unknown", reference.keys() - expected),
        ("missing", expected - reference.keys()),
    ):
        if names:
            raise CheckpointError(f"reference checkpoint: {problem} parameters: {', '.join(sorted(names))}")
    state = {ours: torch.cat([reference[name] for name in names]) for ours, names in sources.items()}
    return {
        ours: tensor.flatten() if ours.startswith("trunk.mixing.queries.") else tensor  # (1, D) there
        for ours, tensor in state.items()
    }


def trunk_sources(reference: Mapping[str, Tensor]) -> Sources:
    """Names of the embedding, the layers and the final norm."""
    layers = {int(found[1]) for name in reference if (found := re.match(r"blocks\.(\d+)\.", name))}
    interblock = any("_res_proj." in name for name in reference)
    sources: Sources = {"trunk.embedding.weight": ("embed.weight",)}
    for kind in ("weight", "bias"):
        sources[f"trunk.final_norm.{kind}"] = (f"ln_f.{kind}",)
    for index in range(max(layers, default=-1) + 1):
        theirs, ours = f"blocks.{index}", f"trunk.layers.{index}"
        for kind in ("weight", "bias"):
            sources |= {
                f"{ours}.attention_norm.{kind}": (f"{theirs}.ln1.{kind}",),
                f"{ours}.attention.query_key_value.{kind}": tuple(f"{theirs}.attn.w{part}.{kind}" for part in "qkv"),
                f"{ours}.attention.output.{kind}": (f"{theirs}.attn.wo.{kind}",),
                f"{ours}.feed_forward_norm.{kind}": (f"{theirs}.ln2.{kind}",),
                f"{ours}.feed_forward.up.{kind}": (f"{theirs}.ffn.0.{kind}",),
                f"{ours}.feed_forward.down.{kind}": (f"{theirs}.ffn.3.{kind}",),
            }
        for offset, part in enumerate(("attn", "mlp") if interblock else ()):
            mix = 2 * index + offset
            sources[f"trunk.mixing.queries.{mix}"] = (f"{theirs}.{part}_res_proj.weight",)
            sources[f"trunk.mixing.key_weights.{mix}"] = (f"{theirs}.{part}_res_norm.weight",)
    return sources


def readout_sources(reference: Mapping[str, Tensor]) -> Sources:
    """Names of the readout: none if it is tied."""
    if any(name.startswith("tarnet_") for name in reference):
        heads = {
            "tarnet_shared_head": "readout.shared",
            "tarnet_sentiment_delta0": "readout.deltas.0",
            "tarnet_sentiment_delta1": "readout.deltas.1",
        }
    else:
        heads = {"head": "readout.perceptron"} if any(name.startswith("head.") for name in reference) else {}
    sources: Sources = {}
    for theirs, ours in heads.items():
        pattern = re.compile(re.escape(theirs) + r"\.hidden\.(\d+)\.weight")
        positions = sorted(int(found[1]) for name in reference if (found := pattern.fullmatch(name)))
        for rank, position in enumerate(positions):
            sources[f"{ours}.hidden.{rank}.weight"] = (f"{theirs}.hidden.{position}.weight",)
        sources[f"{ours}.output.weight"] = (f"{theirs}.out.weight",)
    return sources

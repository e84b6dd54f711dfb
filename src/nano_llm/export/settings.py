"""A model's settings in the words of transformers: ``config.json`` and ``generation_config.json``."""

from typing import Any

from nano_llm import __version__
from nano_llm.config.schema import (
    Config,
    HeadConfig,
    InterblockTrunkConfig,
    MlpReadoutConfig,
    ModelConfig,
    ReadoutConfig,
    SingleHeadConfig,
    SymmetricReadoutConfig,
    TiedReadoutConfig,
    TreatmentEmbeddingConfig,
    TrunkConfig,
    TwoHeadConfig,
    TwoHeadReadoutConfig,
    TwoModelsConfig,
    VanillaTrunkConfig,
)
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.errors import RequestError
from nano_llm.generation.vocabulary import Vocabulary

MODEL_TYPE = "nano_llm"
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
"""How weights can be stored, by our names and by torch's."""


def model_settings(config: Config, tokenizer: Tokenizer, *, dtype: str, outcome: int | None) -> dict[str, Any]:
    """Return the content of ``config.json``.

    Args:
        config: Of the run.
        tokenizer: Of the run.
        dtype: Of the weights, by torch's name.
        outcome: What a model with two outcomes speaks for unless told otherwise; None of a model with one.

    Raises:
        RequestError: The shipped modelling code has nothing for a part of the model.
    """
    scale, model = config.scale, config.model
    is_pair = isinstance(model, TwoModelsConfig)
    return {
        "model_type": MODEL_TYPE,
        "architectures": ["NanoLlmForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_nano_llm.NanoLlmConfig",
            "AutoModelForCausalLM": "modeling_nano_llm.NanoLlmForCausalLM",
        },
        "dtype": dtype,
        "nano_llm_version": __version__,
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": scale.d_model,
        "num_hidden_layers": scale.num_layers * (2 if is_pair else 1),
        "num_attention_heads": scale.num_heads,
        "intermediate_size": scale.d_ff,
        "max_position_embeddings": config.data.window_length,
        "position": model.position.name,
        "dropout": model.dropout,
        "learner": _learner(model),
        **_trunk(model.trunk),
        **_readout(model.readout, scale.d_model),
        "outcome": outcome,
        "use_cache": True,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }


def generation_settings(config: Config, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the content of ``generation_config.json``: an exact draw from the law, of what may be drawn.

    Texts end where the model's window does.
    """
    vocabulary = Vocabulary(tokenizer)
    return {
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "max_length": config.data.window_length,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": sorted(vocabulary.ends),
        "pad_token_id": tokenizer.pad_id,
        "suppress_tokens": (~vocabulary.allowed_V).nonzero()[0].tolist(),
    }


def _learner(model: ModelConfig) -> str:
    if isinstance(model, SingleHeadConfig | TwoHeadConfig):
        return "decoder"
    if isinstance(model, TreatmentEmbeddingConfig):
        return "treated_decoder"
    if isinstance(model, TwoModelsConfig):
        return "decoder_pair"
    raise _unknown("model", model)


def _trunk(trunk: TrunkConfig) -> dict[str, Any]:
    if isinstance(trunk, VanillaTrunkConfig):
        return {"trunk": "vanilla"}
    if isinstance(trunk, InterblockTrunkConfig):
        return {
            "trunk": "interblock",
            "depth_source": trunk.source.name,
            "depth_partial": trunk.partial.name,
            "final_mix": trunk.final_mix,
            "macro_block_size": trunk.macro_block_size,
            "max_block_representations": trunk.max_block_representations,
        }
    raise _unknown("model.trunk", trunk)


def _readout(readout: ReadoutConfig, d_model: int) -> dict[str, Any]:
    if isinstance(readout, TiedReadoutConfig):
        return {"readout": "tied", "perceptrons": {}}
    if isinstance(readout, MlpReadoutConfig):
        return _perceptrons("mlp", d_model, perceptron=readout)
    if isinstance(readout, TwoHeadReadoutConfig):
        return _perceptrons("two_head", d_model, shared=readout.shared, delta0=readout.delta0, delta1=readout.delta1)
    if isinstance(readout, SymmetricReadoutConfig):
        return _perceptrons("symmetric", d_model, shared=readout.shared, delta=readout.delta)
    raise _unknown("model.readout", readout)


def _perceptrons(readout: str, d_model: int, **heads: HeadConfig | MlpReadoutConfig) -> dict[str, Any]:
    return {"readout": readout, "perceptrons": {name: _widths(head, d_model) for name, head in heads.items()}}


def _widths(head: HeadConfig | MlpReadoutConfig, d_model: int) -> list[int]:
    return [d_model if head.hidden_width is None else head.hidden_width] * head.hidden_layers


def _unknown(name: str, part: object) -> RequestError:
    return RequestError(
        f"{name}: the modelling code that goes with an export has no {type(part).__name__}. Add it to "
        "nano_llm/export/shipped and to nano_llm/export/settings.py."
    )

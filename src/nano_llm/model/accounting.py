"""What a model costs: parameters, floating-point operations, memory."""

from nano_llm.model.language_model import LanguageModel


def num_parameters(model: LanguageModel) -> int:
    """Number of parameters, those without gradient included."""
    return sum(parameter.numel() for parameter in model.parameters())


def forward_flops_per_token(model: LanguageModel, window_length: int) -> float:
    """Floating-point operations of a forward pass for one token."""
    return 2.0 * num_parameters(model)

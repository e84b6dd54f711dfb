"""Both decoders, word by word after the rules that they follow: slow, in any precision, sharing no code with them.

Sources: dyh1265/Transformers for the decoders and the reference rule of depth mixing, arXiv 2603.15031 for the
paper's. Parameters come as tensors under the names of a trunk's ``state_dict``; there is no dropout here.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Oracle:
    """A trunk. With ``macro_block_size=0`` it is the plain pre-norm decoder."""

    parameters: dict[str, Tensor]
    num_layers: int
    num_heads: int
    position: str = "rope"
    macro_block_size: int = 0
    max_block_representations: int = 9
    source: str = "stream"
    partial: str = "reference"
    final_mix: bool = False
    mixed: list[list[Tensor]] = field(default_factory=list)
    """The sources of each mix of the last pass, in the order of the mixes."""

    def hidden(self, tokens: Tensor) -> Tensor:
        """Hidden states after the final norm."""
        embedding = self.parameters["embedding.weight"][tokens]
        if self.position == "sinusoidal":
            embedding = embedding + waves(embedding.shape[1], embedding.shape[2]).to(embedding.dtype)
        last = self.mix_depths(embedding) if self.macro_block_size else self.chain(embedding)
        return self.norm("final_norm", last)

    def chain(self, x: Tensor) -> Tensor:
        for layer in range(self.num_layers):
            x = x + self.attention(layer, x)
            x = x + self.feed_forward(layer, x)
        return x

    def mix_depths(self, e: Tensor) -> Tensor:
        self.mixed = []
        x, finished, layers_of_block = e, [e], []
        for layer in range(self.num_layers):
            starts_block = layer % self.macro_block_size == 0
            ends_block = (layer + 1) % self.macro_block_size == 0
            if starts_block:
                layers_of_block = []
            # What attention sees of the open block: the last layer's outputs, or those of all its layers so far.
            visible = layers_of_block if self.partial == "cumulative" else layers_of_block[-1:]
            da = self.attention(layer, self.mix(finished + ([] if starts_block else [sum_of(visible)])))
            # What feed-forward sees of it: this layer's attention, or that and all earlier outputs.
            before = layers_of_block if self.partial == "cumulative" else []
            dm = self.feed_forward(layer, self.mix([*finished, sum_of([*before, da])]))
            layers_of_block = [*layers_of_block, da + dm]
            x = x + da + dm
            if ends_block:
                contribution = x if self.source == "stream" else sum_of(layers_of_block)
                finished = trimmed([*finished, contribution], self.max_block_representations)
        if not self.final_mix:
            return x
        if self.num_layers % self.macro_block_size:
            finished = [*finished, x if self.source == "stream" else sum_of(layers_of_block)]
        return self.mix(finished)

    def mix(self, sources: list[Tensor]) -> Tensor:
        number = len(self.mixed)
        self.mixed.append(sources)
        query, key_weight = self.parameters[f"mixing.queries.{number}"], self.parameters[f"mixing.key_weights.{number}"]
        return mix(sources, query, key_weight)

    def attention(self, layer: int, x: Tensor) -> Tensor:
        name = f"layers.{layer}.attention"
        x = self.norm(f"{name}_norm", x)
        joined = self.linear(f"{name}.query_key_value", x)
        width = x.shape[-1] // self.num_heads
        outputs = []
        for head in range(self.num_heads):
            first = head * width
            query, key, value = (part[..., first : first + width] for part in joined.chunk(3, dim=-1))
            if self.position == "rope":
                query, key = rotated(query), rotated(key)
            outputs.append(attention(query, key, value))
        return self.linear(f"{name}.output", torch.cat(outputs, dim=-1))

    def feed_forward(self, layer: int, x: Tensor) -> Tensor:
        name = f"layers.{layer}.feed_forward"
        rectified = self.linear(f"{name}.up", self.norm(f"{name}_norm", x)).clamp(min=0)
        return self.linear(f"{name}.down", rectified)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.parameters[f"{name}.weight"].T + self.parameters[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        normed = centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5)
        return normed * self.parameters[f"{name}.weight"] + self.parameters[f"{name}.bias"]


def depth_weights(sources: list[Tensor], query: Tensor, key_weight: Tensor) -> Tensor:
    """Softmax over the sources of <w, g * v * r>, with 1/r the root mean square of v: (S, ...)."""
    scores = []
    for v in sources:
        r = (v.pow(2).mean(-1, keepdim=True) + 1e-6) ** -0.5
        scores.append((query * (key_weight * v * r)).sum(-1))
    return torch.stack(scores).softmax(0)


def mix(sources: list[Tensor], query: Tensor, key_weight: Tensor) -> Tensor:
    weights = depth_weights(sources, query, key_weight)
    return sum_of([weight.unsqueeze(-1) * v for weight, v in zip(weights, sources, strict=True)])


def trimmed(snapshots: list[Tensor], cap: int) -> list[Tensor]:
    """All if there is no cap or no excess; else the first and the most recent ``cap - 1``."""
    if cap <= 0 or len(snapshots) <= cap:
        return snapshots
    recent = [snapshots[-back] for back in range(cap - 1, 0, -1)]
    return [snapshots[0], *recent]


def attention(query: Tensor, key: Tensor, value: Tensor, factors: Tensor | None = None) -> Tensor:
    """Causal softmax attention (..., T, K); ``factors`` (..., T, T) multiply the probabilities, as dropout does."""
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    probabilities = scores.masked_fill(future, -torch.inf).softmax(-1)
    if factors is not None:
        probabilities = probabilities * factors
    return probabilities @ value


def rotated(x: Tensor) -> Tensor:
    """Turn units 2p and 2p + 1 of the token at t, (..., T, K), by t * 10000^(-2p / K)."""
    width = x.shape[-1]
    time = torch.arange(x.shape[-2], dtype=torch.float64)
    units = []
    for p in range(width // 2):
        angle = time * 10000.0 ** (-2 * p / width)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        even, odd = x[..., 2 * p], x[..., 2 * p + 1]
        units += [even * cos - odd * sin, even * sin + odd * cos]
    return torch.stack(units, dim=-1)


def waves(num_positions: int, width: int) -> Tensor:
    """Unit 2p of position t holds sin(t * 10000^(-2p / width)), unit 2p + 1 the cosine."""
    table = torch.zeros(num_positions, width, dtype=torch.float64)
    time = torch.arange(num_positions, dtype=torch.float64)
    for unit in range(width):
        angle = time * 10000.0 ** (-(unit - unit % 2) / width)
        table[:, unit] = angle.cos() if unit % 2 else angle.sin()
    return table


def sum_of(terms: list[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total

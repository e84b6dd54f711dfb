"""The code that goes with an export: in transformers, a model says and writes what it says and writes here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from export.exporting import author_of, export, load_model
from nano_llm.checkpoint import Checkpoint
from nano_llm.generation.request import Request, Wanted
from nano_llm.generation.sampling import Sampling
from untrained import untrained

COMMAND = "data.conditioning=command"
ARCHITECTURES = {
    "vanilla": ("model=vanilla",),
    "sinusoidal-mlp": ("model=vanilla", "model.position=sinusoidal", "model/readout=mlp"),
    # an open macro-block at the end, and states that are dropped
    "interblock": ("model=interblock", "scale.num_layers=7", "model.trunk.max_block_representations=3"),
    "tarnet": ("model=tarnet",),
    "tarnet-paper": (
        "model=tarnet",
        "model/trunk=interblock_paper",
        "scale.num_layers=3",
        "model.readout.shared.hidden_width=20",
        "model.readout.delta1.hidden_layers=0",
    ),
    "tarnet-vanilla-symmetric": ("model=tarnet_symmetric", "model/trunk=vanilla"),
    "s_plus": ("model=s_plus",),
    "t_learner": ("model=t_learner",),
}
"""Every learner, trunk, readout and kind of positions."""


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=str)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Any]:
    """A checkpoint, and its export as transformers has loaded it."""
    checkpoint = untrained(*ARCHITECTURES[request.param])
    return checkpoint, load_model(export(tmp_path_factory.mktemp("export") / "model", checkpoint))


@pytest.fixture(scope="module")
def tarnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Any]:
    checkpoint = untrained("model=tarnet")
    return checkpoint, load_model(export(tmp_path_factory.mktemp("export") / "model", checkpoint))


def some_tokens(checkpoint: Checkpoint, num_rows: int = 4, num_tokens: int = 23) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(checkpoint.tokenizer.vocab_size, (num_rows, num_tokens), generator=generator)


def outcomes_of(model: Any) -> list[int | None]:
    return [0, 1] if model.config.num_outcomes == 2 else [None]


@torch.no_grad()
def test_logits_of_every_outcome_are_ours(both: tuple[Checkpoint, Any]) -> None:
    checkpoint, model = both
    tokens_BT = some_tokens(checkpoint)
    ours_BTKV = checkpoint.model()(tokens_BT)
    theirs_BTKV = torch.stack([model(tokens_BT, outcome=k).logits for k in outcomes_of(model)], dim=2)
    torch.testing.assert_close(theirs_BTKV, ours_BTKV, rtol=1e-5, atol=1e-5)
    assert theirs_BTKV.dtype == torch.float32
    if ours_BTKV.shape[2] == 2:
        assert (ours_BTKV[:, :, 0] - ours_BTKV[:, :, 1]).abs().mean() > 0.1, "the outcomes must differ to be told apart"


@torch.no_grad()
def test_each_row_may_have_an_outcome_of_its_own(both: tuple[Checkpoint, Any]) -> None:
    checkpoint, model = both
    tokens_BT, outcome_B = some_tokens(checkpoint), torch.tensor([0, 1, 1, 0])
    if model.config.num_outcomes == 1:
        with pytest.raises(ValueError, match="one law"):
            model(tokens_BT, outcome=outcome_B)
        return
    ours_BTKV = checkpoint.model()(tokens_BT)
    theirs_BTV = model(tokens_BT, outcome=outcome_B).logits
    torch.testing.assert_close(theirs_BTV, ours_BTKV[torch.arange(4), :, outcome_B], rtol=1e-5, atol=1e-5)


def test_greedy_texts_are_ours(both: tuple[Checkpoint, Any]) -> None:
    checkpoint, model = both
    author = author_of(checkpoint)
    ends = set(author.vocabulary.ends)
    commissions = author.commissions(
        Request(
            wanted=Wanted.both if author.has_outcomes else None,
            num_texts=2,
            num_tokens=25,
            sampling=Sampling(temperature=0.0),
        )
    )
    for commission, draft in zip(commissions, author.write(commissions), strict=True):
        prompt_1T = torch.tensor([commission.order.prompt])
        chosen = {"outcome": commission.outcome} if model.config.num_outcomes == 2 else {}
        (tokens_T,) = model.generate(prompt_1T, do_sample=False, max_length=prompt_1T.shape[1] + 25, **chosen)
        written = tokens_T[prompt_1T.shape[1] :].tolist()
        length = next((place for place, token in enumerate(written) if token in ends), len(written))
        assert written[:length] == [token.index for token in draft.tokens]


@pytest.mark.parametrize("mixed", [False, True], ids=["one outcome", "an outcome a row"])
def test_the_cache_changes_nothing_also_where_rows_are_padded(both: tuple[Checkpoint, Any], mixed: bool) -> None:
    checkpoint, model = both
    tokens_BT = some_tokens(checkpoint, num_tokens=12)
    mask_BT = torch.ones_like(tokens_BT)
    mask_BT[1, :5] = mask_BT[3, :2] = 0
    wanted = torch.tensor([1, 0, 0, 1]) if mixed else 1
    chosen = {"outcome": wanted} if model.config.num_outcomes == 2 else {}
    cached, plain = (
        model.generate(
            tokens_BT,
            attention_mask=mask_BT,
            do_sample=False,
            max_length=30,
            eos_token_id=None,
            use_cache=use,
            **chosen,
        )
        for use in (True, False)
    )
    assert torch.equal(cached, plain)
    for row in (1, 3):  # alone and without its padding
        alone = {name: value[row : row + 1] if mixed else value for name, value in chosen.items()}
        start = int((mask_BT[row] == 0).sum())
        (text,) = model.generate(
            tokens_BT[row : row + 1, start:], do_sample=False, max_length=30 - start, eos_token_id=None, **alone
        )
        assert text.tolist() == cached[row, start:].tolist()


def test_every_token_has_something_to_look_at_and_text_never_looks_at_padding() -> None:
    from nano_llm.export.shipped.modeling_nano_llm import visible

    mask_BS = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    seen_B1TS = visible(mask_BS, 1, 4, mask_BS.device)
    assert seen_B1TS is not None
    assert seen_B1TS[:, 0].int().tolist() == [
        [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]],
        [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]],
    ]


@torch.no_grad()
def test_tokens_read_in_parts_are_read_alike(both: tuple[Checkpoint, Any]) -> None:
    checkpoint, model = both
    tokens_BT = some_tokens(checkpoint)
    chosen = {"outcome": torch.tensor([0, 1, 1, 0])} if model.config.num_outcomes == 2 else {}
    whole_BTV = model(tokens_BT, **chosen).logits
    first = model(tokens_BT[:, :9], **chosen)
    rest = model(tokens_BT[:, 9:], past_key_values=first.past_key_values, logits_to_keep=3, **chosen)
    torch.testing.assert_close(first.logits, whole_BTV[:, :9], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rest.logits, whole_BTV[:, -3:], rtol=1e-5, atol=1e-5)


def test_beams_and_several_texts_keep_the_outcome_of_their_row(tarnet: tuple[Checkpoint, Any]) -> None:
    checkpoint, model = tarnet
    tokens_BT, outcome_B = some_tokens(checkpoint, num_rows=2, num_tokens=8), torch.tensor([0, 1])
    how = {"do_sample": False, "num_beams": 3, "num_return_sequences": 2, "max_length": 16}
    together = model.generate(tokens_BT, outcome=outcome_B, **how)
    for row in (0, 1):
        alone = model.generate(tokens_BT[row : row + 1], outcome=row, **how)
        assert together[2 * row : 2 * row + 2, : alone.shape[1]].tolist() == alone.tolist()


def test_without_an_outcome_the_one_of_the_config_speaks(tmp_path: Path) -> None:
    checkpoint = untrained("model=tarnet")
    tokens_BT = some_tokens(checkpoint)
    model = load_model(export(tmp_path / "model", checkpoint, outcome=0))
    assert torch.equal(model(tokens_BT).logits, model(tokens_BT, outcome=0).logits)
    assert not torch.equal(model(tokens_BT).logits, model(tokens_BT, outcome=1).logits)


@pytest.mark.parametrize("outcome", [2, -1, "y0", torch.tensor([0, 1]), torch.tensor([0, 1, 2, 0]), torch.ones(4, 1)])
def test_an_outcome_that_there_is_not_is_refused(tarnet: tuple[Checkpoint, Any], outcome: Any) -> None:
    checkpoint, model = tarnet
    with pytest.raises(ValueError, match="outcome="):
        model(some_tokens(checkpoint), outcome=outcome)


def test_more_tokens_than_the_window_has_are_refused(tarnet: tuple[Checkpoint, Any]) -> None:
    checkpoint, model = tarnet
    window = checkpoint.config.data.window_length
    assert model(some_tokens(checkpoint, 1, window)).logits.shape[1] == window
    with pytest.raises(ValueError, match=f"{window + 1} tokens, but the model's window has {window}"):
        model(some_tokens(checkpoint, 1, window + 1))


def test_by_default_a_text_ends_with_the_window_and_holds_no_markup(tarnet: tuple[Checkpoint, Any]) -> None:
    checkpoint, model = tarnet
    vocabulary = author_of(checkpoint).vocabulary
    torch.manual_seed(0)
    texts = model.generate(some_tokens(checkpoint, num_rows=16, num_tokens=8), outcome=1)
    written = set(texts[:, 8:].flatten().tolist()) - {checkpoint.tokenizer.pad_id}
    assert texts.shape[1] <= checkpoint.config.data.window_length
    assert len(written) > 50, "a draw, not the likeliest token"
    assert all(vocabulary.allowed_V[token] for token in written)


def test_a_static_cache_is_refused(tarnet: tuple[Checkpoint, Any]) -> None:
    checkpoint, model = tarnet
    with pytest.raises(ValueError, match="Only caches that grow"):
        model.generate(some_tokens(checkpoint), cache_implementation="static", disable_compile=True)


def test_labels_ask_for_the_cross_entropy_of_each_rows_outcome(tarnet: tuple[Checkpoint, Any]) -> None:
    checkpoint, model = tarnet
    tokens_BT, outcome_B = some_tokens(checkpoint), torch.tensor([0, 1, 1, 0])
    labels_BT = tokens_BT.clone()
    labels_BT[:, :6] = -100
    log_p_BTKV = checkpoint.model()(tokens_BT).log_softmax(-1)
    log_p_BTV = log_p_BTKV[torch.arange(4), 5:-1, outcome_B]
    expected = -log_p_BTV.gather(-1, tokens_BT[:, 6:, None]).mean()
    loss = model(tokens_BT, labels=labels_BT, outcome=outcome_B).loss
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    loss.backward()
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if "mixing" not in name)
    model.zero_grad()


def test_saved_by_transformers_it_is_the_same_model(tarnet: tuple[Checkpoint, Any], tmp_path: Path) -> None:
    checkpoint, model = tarnet
    model.save_pretrained(tmp_path / "again")
    again = load_model(tmp_path / "again")
    tokens_BT = some_tokens(checkpoint)
    assert torch.equal(again(tokens_BT).logits, model(tokens_BT).logits)
    assert json.loads((tmp_path / "again/config.json").read_text())["outcome"] == 1

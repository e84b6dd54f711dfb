"""Composition: every choice is valid, and what is wrong is explained all at once."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from nano_llm.config import compose
from nano_llm.config.compose import compose_config, composing, explain, options_of
from nano_llm.config.identity import arm_id, to_plain
from nano_llm.config.register import SCHEMAS
from nano_llm.config.schema import (
    MARGIN,
    SCALE,
    THRESHOLD,
    InterblockTrunkConfig,
    SeparationKind,
    SingleHeadConfig,
    TwoHeadConfig,
    TwoOutcomeConfig,
)
from nano_llm.config.stored import from_plain
from nano_llm.config.strict import NUM_BYTES_AND_SPECIALS
from nano_llm.data.tokenizer import MIN_BYTE_VOCAB
from nano_llm.errors import ConfigError
from properties import examples

CONF = Path(__file__).resolve().parents[2] / "conf"
GROUPS = sorted({group for group, _, _ in SCHEMAS if group} | {"experiment", "debug"})
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("[!_]*.yaml"))]
NEEDS = {
    ("data", "tags"): ["model=vanilla"],
    ("data", "natural"): ["model=vanilla"],
    ("schedule", "reference"): ["trainer.max_epochs=20"],
    ("model/readout", "tied"): ["model=vanilla"],
    ("model/readout", "mlp"): ["model=vanilla"],
}


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose_config(overrides)
    return str(caught.value).splitlines()[1:]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_passes_the_strict_check(group: str, choice: str) -> None:
    compose_config([*NEEDS.get((group, choice), []), f"{group}={choice}"])


@pytest.mark.parametrize(("group", "choice"), [c for c in CHOICES if c[0] not in ("experiment", "debug", "sweep")])
def test_values_in_the_file_survive_composition(group: str, choice: str) -> None:
    """A schema listed after ``_self_`` would silently reset the file to blanks."""
    plain = to_plain(compose_config([*NEEDS.get((group, choice), []), f"{group}={choice}"]))
    for part in group.split("/"):
        plain = plain[part]
    written = OmegaConf.load(CONF / group / f"{choice}.yaml")
    for key, value in OmegaConf.to_container(written).items():
        if key != "defaults" and not isinstance(value, dict) and not str(value).startswith("${"):
            assert plain[key] == value


def test_every_yaml_file_is_a_choice_of_a_known_group() -> None:
    assert {p.relative_to(CONF).parent.as_posix() for p in CONF.rglob("*.yaml")} == {*GROUPS, "."}


def test_model_choices_bring_their_own_schema() -> None:
    assert isinstance(compose_config(["model=vanilla"]).model, SingleHeadConfig)
    two_heads = compose_config(["model=tarnet"]).model
    assert isinstance(two_heads, TwoHeadConfig)
    assert isinstance(two_heads.trunk, InterblockTrunkConfig)
    assert two_heads.separation.weight == 0.02


def test_a_setting_of_another_choice_is_refused_and_located() -> None:
    (problem,) = problems("model=vanilla", "model.separation.weight=1")
    assert "model.separation.weight=1" in problem
    assert (
        "exists with model=s_plus, model=t_learner, model=tarnet, model=tarnet_ipw, model=tarnet_symmetric" in problem
    )


def test_all_problems_are_reported_at_once() -> None:
    found = problems("trainer.max_steps=abc", "model.positoin=rope", "scale.d_model=130", "optimizer.lr=-1")
    assert [line.split("=")[0].removeprefix("  - ") for line in found] == [
        "trainer.max_steps", "model.positoin", "optimizer.lr",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainer.max_steps=1e3", "whole number"),
        ("model.position=ropee", "one of rope, sinusoidal"),
        ("model.dropout=null", "must be a number"),
        ("model.droput=0.1", "did you mean dropout"),
        ("modle=vanilla", "did you mean model"),
        ("model=vanila", "did you mean vanilla"),
        ("model/trunk=deep", "known here: interblock, interblock_paper, vanilla"),
        ("model.trunk=vanilla", "model/trunk="),
        ("+model.extra=1", "no such setting"),
        ("++model.extra=1", "no such setting"),
        ("+extra=1", "no such setting"),
        ("~seed", "needed"),
        ("~model.dropout", "cannot be removed"),
        ("data.prompt.command=[REVIEW] x", "quote"),
        ("model.dropout=1", "below 1"),
        ("optimizer.lr=nan", "finite"),
        ("trainer.bad_steps=ignore", "one of stop, skip"),
        ("trainer.spike_factor=1", "above 1"),
        ("seed=-1", "at least 0"),
        ("scale.num_heads=3", "multiple of scale.num_heads=3"),
        ("scale.num_heads=128", "even number"),
        ("data=tags", "takes it from the label"),
        ("data.window_length=30", "too short for the prompt"),
        ("data.tokenizer.vocab_size=256", "at least 264"),
        ("data.tokenizer.kind=words", "closed vocabulary"),
        ("trainer.max_epochs=null", "needs a budget"),
        ("study=../away", "below paths.outputs"),
        ("name=a/b", "one folder's name"),
        ("protocol.selection=val_objective", "goes with protocol.windows=covering"),
        ("model.separation.kind=jss", "one of none, js, posterior_js"),
        ("model.separation.margin=0.3", "goes with kind=margin"),
        ("model.separation.scale=2", "goes with kind=bayes or cad_pairs"),
        ("model.separation.scale=0", "above 0"),
        ("model.separation.threshold=1", "goes with kind=unlikelihood"),
        ("model/separation=jensen", "known here: bayes, cad_pairs"),
        ("tracker=tensorbord", "did you mean tensorboard"),
        ("tracker=[local,tensorbord]", "did you mean tensorboard"),
        ("tracker=wandb,tensorboard", "for one run with all of them write 'tracker=[wandb,tensorboard]'"),
        ("tracker.wandb.project=x", "it exists with tracker=wandb"),
    ],
)
def test_a_mistake_is_named_with_its_path_and_remedy(override: str, expected: str) -> None:
    (problem,) = problems(override)
    assert expected in problem
    assert override.lstrip("+~").split("=")[0].split(".")[-1] in problem or "scale.d_model" in problem


def test_a_kind_of_separation_is_chosen_with_its_usual_settings_or_alone() -> None:
    both = compose_config(["model/separation=bayes"]), compose_config(["model.separation.kind=bayes"])
    usual, alone = (config.model for config in both)
    assert isinstance(usual, TwoHeadConfig)
    assert isinstance(alone, TwoHeadConfig)
    assert (usual.separation.weight, usual.separation.scale) == (0.2, 10.0)
    assert (alone.separation.weight, alone.separation.scale) == (0.02, None)
    chosen = compose_config(["model/separation=posterior_js", "model.separation.weight=0.1"]).model
    assert isinstance(chosen, TwoHeadConfig)
    assert (chosen.separation.kind, chosen.separation.weight) == (SeparationKind.posterior_js, 0.1)
    (problem,) = problems("model/separation=bayes", "model.separation.weight=1.5")
    assert "at most 1" in problem


def test_the_usual_settings_of_a_kind_are_what_null_stands_for() -> None:
    for choice, knob, value in (("bayes", "scale", SCALE), ("cad_pairs", "scale", SCALE), ("margin", "margin", MARGIN),
                                ("unlikelihood", "threshold", THRESHOLD)):  # fmt: skip
        model = compose_config([f"model/separation={choice}"]).model
        assert isinstance(model, TwoHeadConfig)
        assert getattr(model.separation, knob) == value


def test_conditions_that_need_each_other_are_checked_together() -> None:
    assert "max_epochs" in problems("schedule=reference", "trainer.max_epochs=null", "trainer.max_steps=5")[0]
    assert "IMDB" in problems("data=scm", "protocol=reference")[0]
    assert "the clock decides" in problems("trainer.deterministic=true", "trainer.max_minutes=5")[0]
    assert "fp16" in problems("trainer.device=cpu", "trainer.precision=fp16")[0]


def test_sweeps_are_explained_value_by_value() -> None:
    overrides = ["model=vanilla,tarnet", "model.separation.weight=1"]
    assert "exists with model=s_plus" in explain(overrides, multirun=True)
    assert "several values need -m" in explain(["seed=0,1"])


def test_a_choice_that_does_not_fit_another_is_named() -> None:
    (problem,) = problems("model=vanilla", "model/readout=two_head")
    assert "goes with model=tarnet or model=tarnet_ipw or model=tarnet_symmetric" in problem


def test_a_choice_without_a_setting_of_the_experiment_is_named() -> None:
    (problem,) = problems("experiment=imdb_mini", "optimizer=adamw")
    assert "optimizer=adamw: does not go with experiment=imdb_mini, which sets optimizer.muon_lr" in problem


@pytest.mark.parametrize("readout", ["tied", "mlp"])
def test_a_readout_of_one_outcome_does_not_go_with_a_model_that_needs_two(readout: str) -> None:
    (problem,) = problems("model=tarnet", f"model/readout={readout}")
    assert "goes with model=interblock or model=s_plus or model=t_learner or model=vanilla" in problem


@pytest.mark.parametrize("name", ["s_plus", "t_learner", "tarnet", "tarnet_symmetric"])
def test_models_with_two_outcomes_have_a_separation_and_take_the_sentiment_from_the_label(name: str) -> None:
    model = compose_config([f"model={name}", "model.separation.kind=js", "model.separation.weight=0.5"]).model
    assert isinstance(model, TwoOutcomeConfig)
    assert model.separation.weight == 0.5
    for data in ("tags", "natural"):
        (problem,) = problems(f"model={name}", f"data={data}")
        assert f"model={name} takes it from the label" in problem


@pytest.mark.parametrize(("model", "number"), [("vanilla", 1), ("interblock", 1), ("tarnet", 2), ("s_plus", 2)])
def test_the_model_decides_how_many_outcomes_there_are(model: str, number: int) -> None:
    assert compose_config([f"model={model}"]).model.num_outcomes == number


def test_symmetric_deltas_are_tarnet_but_for_the_readout() -> None:
    symmetric, tarnet = (to_plain(compose_config([f"model={n}"]).model) for n in ("tarnet_symmetric", "tarnet"))
    assert {key for key in tarnet if tarnet[key] != symmetric[key]} == {"name", "readout"}


def test_learners_share_the_trunk_of_tarnet() -> None:
    trunk = compose_config(["model=tarnet"]).model.trunk
    for name in ("interblock", "s_plus", "t_learner", "tarnet_symmetric"):
        assert compose_config([f"model={name}"]).model.trunk == trunk


@pytest.mark.parametrize(
    ("name", "stored", "readout"),
    [
        ("vanilla", "SingleHeadConfig", "TiedReadoutConfig"),
        ("interblock", "SingleHeadConfig", "TiedReadoutConfig"),
        ("tarnet", "TwoHeadConfig", "TwoHeadReadoutConfig"),
        ("tarnet_symmetric", "TwoHeadConfig", "SymmetricReadoutConfig"),
        ("s_plus", "TreatmentEmbeddingConfig", "TiedReadoutConfig"),
        ("t_learner", "TwoModelsConfig", "TiedReadoutConfig"),
    ],
)
def test_models_are_stored_under_these_names(name: str, stored: str, readout: str) -> None:
    """Checkpoints and the ids of runs hold them, so they may not change."""
    plain = to_plain(compose_config([f"model={name}"]).model)
    assert (plain["type"], plain["readout"]["type"]) == (stored, readout)


def test_markers_are_budgeted_as_the_tokens_that_they_are() -> None:
    assert compose_config(["data=scm", "data.window_length=16"]).data.window_length == 16


def test_the_smallest_vocabulary_is_the_tokenizers_own() -> None:
    assert NUM_BYTES_AND_SPECIALS == MIN_BYTE_VOCAB


def test_options_leave_schemas_out() -> None:
    with composing():
        assert options_of("model") == [
            "interblock", "s_plus", "t_learner", "tarnet", "tarnet_ipw", "tarnet_symmetric", "vanilla",
        ]  # fmt: skip


def test_arm_id_ignores_what_cannot_change_numbers() -> None:
    base = arm_id(compose_config(["data=scm"]), "corpus")
    same = [
        "seed=5",
        "study=other",
        "name=label",
        "trainer.log_every=1",
        "trainer.device=cpu",
        "trainer.bad_steps=skip",
        "paths.outputs=x",
        "tracker=[wandb,tensorboard]",
        "tracker.wandb.artifact=true",
    ]
    assert arm_id(compose_config(["data=scm", *same]), "corpus") == base


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.lr=2e-3",
        "trainer.batch_size=4",
        "model/trunk=vanilla",
        "optimizer=adamw",
        "schedule=wsd",
        "scale=mini",
        "trainer.spike_factor=10",
        "trainer.deterministic=true",
    ],
)
def test_arm_id_follows_what_changes_numbers(override: str) -> None:
    assert arm_id(compose_config(["data=scm", override]), "c") != arm_id(compose_config(["data=scm"]), "c")


@pytest.mark.parametrize(
    ("chosen", "present"),
    [
        ([], set()),
        (["tracker=local"], set()),
        (["tracker=wandb"], {"wandb"}),
        (["tracker=tensorboard"], {"tensorboard"}),
        (["tracker=[wandb,tensorboard]"], {"wandb", "tensorboard"}),
        (["tracker=[tensorboard,wandb,local]"], {"wandb", "tensorboard"}),
        (["tracker=[wandb,tensorboard]", "experiment=demo"], {"wandb", "tensorboard"}),
    ],
)
def test_trackers_are_chosen_alone_or_together(chosen: list[str], present: set[str]) -> None:
    tracker = compose_config(chosen).tracker
    parts = {"wandb": tracker.wandb, "tensorboard": tracker.tensorboard}
    assert {name for name, part in parts.items() if part is not None} == present


def test_a_run_is_called_in_wandb_what_it_is_called_here() -> None:
    tracker = compose_config(["tracker=wandb", "experiment=demo", "model=vanilla", "seed=7"]).tracker
    assert tracker.wandb is not None
    assert tracker.wandb.name == "vanilla-seed-7"


def test_a_mistaken_list_of_texts_is_named() -> None:
    for value in ("a", "[a,null]", "{a: 1}"):
        (problem,) = problems("tracker=wandb", f"tracker.wandb.tags={value}")
        assert "a list of texts such as [a,b]" in problem


def test_a_later_setting_that_says_what_was_done_before_it_leaves_ids_as_they_were() -> None:
    """The id is that of the demonstration as it was recorded, before there were such settings."""
    recorded = json.loads((CONF.parent / "experiments/demo/sweep.json").read_text())["cells"][0]
    data = json.loads((CONF.parent / "experiments/demo" / recorded["folder"] / "data.json").read_text())
    config = compose_config([*recorded["overrides"], "trainer.precision=fp32"])
    assert arm_id(config, data["fingerprint"]) == recorded["id"], (
        "ids have changed: a new setting needs `absent` and `silent`, or else the demonstration is to be recorded anew"
    )


def test_arm_id_follows_the_corpus() -> None:
    config = compose_config(["data=scm"])
    assert arm_id(config, "one") != arm_id(config, "another")


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=tarnet"],
        ["model=vanilla", "model/readout=mlp", "data=scm"],
        ["model=tarnet_symmetric"],
        ["model=s_plus"],
        ["model=t_learner"],
        ["tracker=[wandb,tensorboard]", "tracker.wandb.tags=[a,b]"],
    ],
)
def test_a_stored_config_is_read_back_equal(overrides: list[str]) -> None:
    config = compose_config(overrides)
    assert from_plain(to_plain(config)) == config


def test_a_stored_config_from_before_a_setting_means_what_was_done_then() -> None:
    config = compose_config(["model=tarnet", "data=scm", "data.num_pairs=0"])
    plain = to_plain(config)
    for knob in ("scale", "margin", "threshold"):
        del plain["model"]["separation"][knob]
    del plain["model"]["weighting"]
    del plain["data"]["num_pairs"]
    for knob in ("bad_steps", "spike_factor", "deterministic"):
        del plain["trainer"][knob]
    del plain["tracker"]
    assert from_plain(plain) == config


def test_a_stored_config_of_another_version_is_refused_by_name() -> None:
    plain = to_plain(compose_config())
    plain["model"]["heads"] = 2
    del plain["scale"]["d_ff"]
    with pytest.raises(ConfigError, match=r"model\.heads(.|\n)*scale\.d_ff"):
        from_plain(plain)


# -------------------------------------------------------------------------------------------- anything


def dotted(plain: dict[str, Any], prefix: str = "") -> list[str]:
    names = [prefix + name for name in plain]
    return names + [path for name, value in plain.items() if isinstance(value, dict) for path in
                    dotted(value, f"{prefix}{name}.")]  # fmt: skip


SETTINGS = dotted(to_plain(compose_config(["data=scm"])))
OTHER_KEYS = "hydra hydra/launcher hydra.run.dir hydra.searchpath defaults x a.b data@model +x@y model@_global_ 0 é"
KEYS = st.sampled_from(SETTINGS) | st.sampled_from([*GROUPS, *OTHER_KEYS.split(), "sweep.rows", "", "model[0]"])
PLAIN = "1 -1 0 null true 1e999 nan -inf abc '' [1,2] {a:1} {} [] scm tarnet fair 1,2 ../x /abs ' = ??? } ${ \\"
RESOLVED = "${seed} ${name} ${oc.env:HOME} ${oc.env:NOPE_X} ${nope} ${oc.create:{}} ${oc.decode:'[1]'} ${..} ${now:%Y}"
FUNCTIONS = "range(1,3) choice(1,2) interval(0,1) glob(*) int(3) shuffle(1,2) {_target_:os.system}"
UNFIT = ["é🎬", "\ud83d", "\udcff", "\0", "a\nb", "9" * 30]
LONG = ["1" * 5000, "[" * 2000, "x" * 10_000_000, "${" * 500 + "a" + "}" * 500]
VALUES = (
    st.sampled_from(f"{PLAIN} {RESOLVED} {FUNCTIONS}".split()) | st.sampled_from(UNFIT + LONG) | st.text(max_size=8)
)
OVERRIDES = st.tuples(st.sampled_from(["", "", "", "+", "++", "~", "--", "@"]), KEYS, VALUES).map(
    lambda parts: f"{parts[0]}{parts[1]}={parts[2]}"
)


@given(st.lists(OVERRIDES | KEYS | st.text(max_size=8), min_size=1, max_size=2))
@settings(max_examples=examples(6, least=2_000))
@example(["protocol=interval(0,1)"])
@example(["trainer.name=1", "+trainer=1"])
@example(["~optimizer=0"])
@example(["protocol=" + "1" * 5000])
@example(["name=\udcff"])
@example(["data.prompt.command=\ud83d"])
@example(["name=a\0b"])
@example(["data.prompt=${seed}"])
@example(["data.prompt=${oc.decode:null}"])
@example(["data.prompt=${scale}"])
@example(["model.readout=${oc.decode:'[1]'}"])
@example(["sweep.rows=${seed}"])
@example(["name=" + "x" * 10_000_000])
@example(["seed=99999999999999999999"])
def test_any_overrides_compose_or_are_refused_in_words(overrides: list[str]) -> None:
    try:
        config = compose_config(overrides)
    except ConfigError as error:
        message = str(error)
        message.encode()
        assert len(message) < 5000
        assert all(line.startswith("  - ") for line in message.splitlines()[1:])
        return
    stored = from_plain(json.loads(json.dumps(to_plain(config), allow_nan=False)))
    assert stored == config
    assert arm_id(stored, "corpus") == arm_id(config, "corpus")


def test_a_group_whose_default_is_a_list_takes_several_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = problems("scale=tiny,mini")
    assert "for one run with all of them" not in problem
    conf = tmp_path / "conf"
    shutil.copytree(CONF, conf)
    text = (conf / "config.yaml").read_text()
    (conf / "config.yaml").write_text(text.replace("- scale: nano", "- scale: [nano]"))
    monkeypatch.setattr(compose, "config_source", lambda: str(conf))
    (problem,) = problems("scale=tiny,mini")
    assert "for one run with all of them write 'scale=[tiny,mini]'" in problem

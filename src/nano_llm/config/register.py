"""Where ``conf/`` lies, and its schema in Hydra's ConfigStore."""

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from nano_llm.config import schema

SCHEMAS: tuple[tuple[str | None, str, type], ...] = (
    (None, "_schema", schema.Command),
    ("data", "_schema_imdb", schema.ImdbConfig),
    ("data", "_schema_scm", schema.ScmConfig),
    ("protocol", "_schema", schema.ProtocolConfig),
    ("model", "_schema_single_head", schema.SingleHeadConfig),
    ("model", "_schema_two_head", schema.TwoHeadConfig),
    ("model", "_schema_treatment_embedding", schema.TreatmentEmbeddingConfig),
    ("model", "_schema_two_models", schema.TwoModelsConfig),
    ("model/trunk", "_schema_vanilla", schema.VanillaTrunkConfig),
    ("model/trunk", "_schema_interblock", schema.InterblockTrunkConfig),
    ("model/readout", "_schema_tied", schema.TiedReadoutConfig),
    ("model/readout", "_schema_mlp", schema.MlpReadoutConfig),
    ("model/readout", "_schema_two_head", schema.TwoHeadReadoutConfig),
    ("model/readout", "_schema_symmetric", schema.SymmetricReadoutConfig),
    ("model/separation", "_schema", schema.SeparationConfig),
    ("scale", "_schema", schema.ScaleConfig),
    ("optimizer", "_schema_adamw", schema.OptimizerConfig),
    ("optimizer", "_schema_muon", schema.MuonConfig),
    ("schedule", "_schema_cosine", schema.CosineConfig),
    ("schedule", "_schema_linear", schema.LinearConfig),
    ("schedule", "_schema_constant", schema.ConstantConfig),
    ("schedule", "_schema_wsd", schema.WsdConfig),
    ("trainer", "_schema", schema.TrainerConfig),
    ("tracker", "_schema_wandb", schema.WandbConfig),
    ("tracker", "_schema_tensorboard", schema.TensorboardConfig),
    ("paths", "_schema", schema.PathsConfig),
    ("sweep", "_schema", schema.SweepConfig),
)


def register_schemas() -> None:
    """Store every schema, and the resolver that lists choices for --help; calling it again changes nothing."""
    OmegaConf.register_new_resolver("nano_llm_choices", choices, replace=True)
    store = ConfigStore.instance()
    for group, name, node in SCHEMAS:
        store.store(group=group, name=name, node=node)


def choices() -> str:
    """List the choices of every group, a line each."""
    groups: dict[str, list[str]] = {}
    for name in _yaml_files(_folder(), ""):
        group, _, choice = name.rpartition("/")
        if group:
            groups.setdefault(group, []).append(choice)
    width = max(map(len, groups))
    return "\n".join(f"  {group:<{width}}  {' | '.join(sorted(groups[group]))}" for group in sorted(groups))


def _folder() -> Traversable:
    source = config_source()
    return files(source.removeprefix("pkg://")) if source.startswith("pkg://") else Path(source)


def _yaml_files(folder: Traversable, prefix: str) -> Iterator[str]:
    """Yield the paths of all YAML files below a folder that can be chosen, without their ending."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _yaml_files(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml") and not entry.name.startswith("_"):
            yield prefix + entry.name.removesuffix(".yaml")


def config_source() -> str:
    """Return the place of ``conf/`` as Hydra wants it: a package in a wheel, a folder in a checkout."""
    if find_spec("nano_llm.conf") is not None:
        return "pkg://nano_llm.conf"
    return str(Path(__file__).resolve().parents[3] / "conf")

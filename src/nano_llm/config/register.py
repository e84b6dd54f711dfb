"""Where ``conf/`` lies, and its schema in Hydra's ConfigStore."""

from importlib.util import find_spec
from pathlib import Path

from hydra.core.config_store import ConfigStore

from nano_llm.config import schema

SCHEMAS: tuple[tuple[str | None, str, type], ...] = (
    (None, "_schema", schema.Config),
    ("data", "_schema_imdb", schema.ImdbConfig),
    ("data", "_schema_scm", schema.ScmConfig),
    ("protocol", "_schema", schema.ProtocolConfig),
    ("model", "_schema_single_head", schema.SingleHeadConfig),
    ("model", "_schema_two_head", schema.TwoHeadConfig),
    ("model/trunk", "_schema_vanilla", schema.VanillaTrunkConfig),
    ("model/trunk", "_schema_interblock", schema.InterblockTrunkConfig),
    ("model/readout", "_schema_tied", schema.TiedReadoutConfig),
    ("model/readout", "_schema_mlp", schema.MlpReadoutConfig),
    ("model/readout", "_schema_two_head", schema.TwoHeadReadoutConfig),
    ("scale", "_schema", schema.ScaleConfig),
    ("optimizer", "_schema_adamw", schema.OptimizerConfig),
    ("optimizer", "_schema_muon", schema.MuonConfig),
    ("schedule", "_schema_cosine", schema.CosineConfig),
    ("schedule", "_schema_linear", schema.LinearConfig),
    ("schedule", "_schema_constant", schema.ConstantConfig),
    ("schedule", "_schema_wsd", schema.WsdConfig),
    ("trainer", "_schema", schema.TrainerConfig),
    ("paths", "_schema", schema.PathsConfig),
)


def register_schemas() -> None:
    """Store every schema; calling it again changes nothing."""
    store = ConfigStore.instance()
    for group, name, node in SCHEMAS:
        store.store(group=group, name=name, node=node)


def config_source() -> str:
    """Return the place of ``conf/`` as Hydra wants it: a package in a wheel, a folder in a checkout."""
    if find_spec("nano_llm.conf") is not None:
        return "pkg://nano_llm.conf"
    return str(Path(__file__).resolve().parents[3] / "conf")

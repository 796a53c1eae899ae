"""The description of a run: every key, its type, its default and its bounds. Frozen, and complete once loaded.

Units stand in the names (`warmup_epochs`). A sub-block that is null is off. `optim.lr` and `train.batch_size` are those
of the global batch, whatever the number of processes.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# Upper bounds are far beyond any use: they turn a slip of the keyboard into a sentence before it takes the memory.
MOST_EPOCHS = 1_000_000
EpochCount = Annotated[int, Field(gt=0, le=MOST_EPOCHS)]
StepCount = Annotated[int, Field(gt=0, le=10**12)]
BatchSize = Annotated[int, Field(gt=0, le=10_000_000)]
Threads = Annotated[int, Field(gt=0, le=1024)]
Pixels = Annotated[int, Field(gt=0, le=1024)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Epochs = Annotated[float, Field(ge=0, le=MOST_EPOCHS)]
Name = Annotated[str, Field(min_length=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class Block(BaseModel):
    """A group of keys: no unknown ones, no silent conversion (`1` is not true, `"3"` is not 3), no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


class Data(Block):
    """The images: `name` of the set, `dir` it lies under, the part held out for validation, the fraction used."""

    name: Name = "digits"
    dir: Name | None = None
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    split_seed: Seed = 0
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    drop_last: bool = True


class Model(BaseModel):
    """The network: a family or named variant, and that family's options as further keys (`model.depth=110`)."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, protected_namespaces=())

    name: Name = "resnet_preact_20"

    @property
    def options(self) -> dict[str, Any]:
        """The family's options as written: keyword -> plain value."""
        return dict(self.model_extra or {})


class Crop(Block):
    """Random crop of the image's own size out of the image padded by `padding` pixels of zeros on each side."""

    padding: Pixels = 4


class Augment(Block):
    """What training images go through; evaluation images never do."""

    crop: Crop | None = None
    flip: bool = False


class SGD(Block):
    """Stochastic gradient descent; the decay acts on every parameter unless `decay_norm_and_bias` is false."""

    name: Literal["sgd"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.1
    momentum: Momentum = 0.9
    nesterov: bool = True
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    decay_norm_and_bias: bool = True


class Schedule(Block):
    """What every schedule has: a linear warm-up, its granularity, and whether it follows a changed `train.epochs`."""

    warmup_epochs: Epochs = 0.0
    per: Literal["step", "epoch"] = "step"
    scale: bool = True


class Constant(Schedule):
    """The learning rate stays."""

    name: Literal["constant"] = "constant"


class Multistep(Schedule):
    """The learning rate is multiplied by `gamma` at each milestone, counted in epochs from the start."""

    name: Literal["multistep"] = "multistep"
    milestones_epochs: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
    gamma: Annotated[float, Field(gt=0)] = 0.1


class Cosine(Schedule):
    """Half a cosine from 1 down to `final_factor` over what the warm-up leaves of the run."""

    name: Literal["cosine"] = "cosine"
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.0


class Train(Block):
    """The run itself."""

    epochs: EpochCount = 30
    max_steps: StepCount | None = None
    batch_size: BatchSize = 128
    seed: Seed = 1
    device: str = "auto"
    threads: Threads | Literal["auto"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    deterministic: bool = False
    select: Literal["last", "best-val"] = "last"
    eval_every_epochs: EpochCount = 1
    save_every_epochs: EpochCount = 1


class Track(Block):
    """Trackers beside metrics.jsonl; "auto" uses TensorBoard where tensorboardX is installed."""

    tensorboard: bool | Literal["auto"] = "auto"


class Config(Block):
    """A whole run."""

    data: Data = Data()
    model: Model = Model()
    augment: Augment = Augment()
    optim: SGD = SGD()
    schedule: Annotated[Constant | Multistep | Cosine, Field(discriminator="name")] = Cosine()
    train: Train = Train()
    track: Track = Track()


# Where and how a run is executed, not what is run: two configurations that differ only here are the same experiment.
EXECUTION_KEYS = frozenset(
    {
        "data.dir",
        "train.seed",
        "train.device",
        "train.threads",
        "train.precision",
        "train.compile",
        "train.deterministic",
        "train.save_every_epochs",
        "track.tensorboard",
    }
)


def to_dict(config: Config) -> dict[str, Any]:
    """Return the configuration as nested dicts of plain values, ready for YAML or JSON."""
    return dict(json.loads(config.model_dump_json()))


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {dotted key: value} of nested dicts."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def config_hash(config: Config) -> str:
    """Return 12 hex digits that name the experiment: equal for runs that differ in EXECUTION_KEYS alone.

    Null means off and does not count, so a key that is added later and is off leaves the hash of old runs as it was.
    """
    flat = flatten(to_dict(config))
    counted = {k: v for k, v in flat.items() if v is not None and k not in EXECUTION_KEYS}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:12]


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Return {dotted key: (value in one, value in other)} for the keys in which the two configurations differ."""
    a, b = flatten(to_dict(one)), flatten(to_dict(other))
    return {k: (a.get(k), b.get(k)) for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)}

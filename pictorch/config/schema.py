"""The description of a run: every key, its type, its default and its bounds. Frozen, and complete once loaded.

Units stand in the names (`warmup_epochs`). A sub-block that is null is off. `optim.lr` and `train.batch_size` are those
of the global batch, whatever the number of processes.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

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
Betas = tuple[Momentum, Momentum]
Views = Literal["one", "mirror", "mirror_shift"]
Document = Literal["seed1", "seed2", "seed3"]


class Block(BaseModel):
    """A group of keys: no unknown ones, no silent conversion (`1` is not true, `"3"` is not 3), no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Range = tuple[Positive, Positive]  # lowest and highest


class Data(Block):
    """The images: which, where they lie, what is held out, how much of them is used."""

    name: Name = "digits"
    """`pictorch data` lists the known ones; a path is a folder of images, or of .tar shards"""
    dir: Name | None = None
    """Where the data sets lie: else $PICTORCH_DATA, else ~/.cache/pictorch/data"""
    image_size: Pixels | None = None
    """Pixels of a folder's images for the network (224 unless given); a known set has its own"""
    channels: Literal[1, 3] | None = None
    """Grey (1) or colour (3) for a folder's images (3 unless given)"""
    mean: tuple[Fraction, ...] | None = None
    """Of images in [0, 1], per channel; a known set has its own, a folder ImageNet's"""
    std: tuple[Positive, ...] | None = None
    """As `data.mean`"""
    normalise: Literal["channel", "pixel"] = "channel"
    """Subtract the mean of each channel, or the mean image of the training part pixel by pixel"""
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the training images held out for validation"""
    test: Name | None = None
    """Shards of the test part, where `data.name` are shards"""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Part of a folder, or of shards, without a test part that is held out for the test (0.2 unless given)"""
    split_seed: Seed | Literal["run"] = 0
    """Decides which images those are, whatever `train.seed`; run: drawn anew by each run's `train.seed`"""
    stratified: bool = True
    """Hold out the same share of each class"""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the training images that is used, for quick looks"""
    drop_last: bool = True
    """Leave out an epoch's last, smaller batch"""
    resident: bool | Literal["auto"] = "auto"
    """Keep the images in the device's memory; auto: where they fit"""
    workers: Annotated[int, Field(ge=0, le=1024)] | Literal["auto"] = "auto"
    """Threads that read images which are not resident; auto: one a CPU core"""


class Model(BaseModel):
    """The network: a family or named variant, and that family's options as further keys (`model.depth=110`)."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, protected_namespaces=())

    name: Name = "resnet_preact_20"
    """`pictorch models` lists them; the network's options are further keys: `model.depth=110`"""
    init_from: Name | None = None
    """A run directory or a file of weights to start from; what does not fit is named and stays as drawn"""

    @property
    def options(self) -> dict[str, Any]:
        """The family's options as written: keyword -> plain value."""
        return dict(self.model_extra or {})


class Crop(Block):
    """Random crop, of the image's own size unless told, out of the image padded by `padding` pixels on each side.

    The padding is black ("constant") or the image mirrored ("reflect", as in WRN's program).
    """

    padding: Pixels = 4
    mode: Literal["constant", "reflect"] = "constant"
    """Pad with black, or with the image mirrored"""
    size: Pixels | None = None
    """Pixels a side of what is cropped: at most those of the padded image; null: the image's own"""


class ResizedCrop(Block):
    """Random part of the image, of this share of its area and this width divided by height, resized."""

    area: Range = (0.08, 1.0)
    aspect: Range = (3 / 4, 4 / 3)


class Rotate(Block):
    """Rotation by a uniform angle of at most `degrees` either way; corners become black."""

    degrees: Annotated[float, Field(gt=0, le=180)] = 15.0


class Jitter(Block):
    """Random brightness, contrast and saturation (factors in 1 +- the value) and hue (a turn of at most the value)."""

    brightness: NotNegative = 0.0
    contrast: NotNegative = 0.0
    saturation: NotNegative = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class AutoAugment(Block):
    """The sub-policies that AutoAugment found on this data set."""

    name: Literal["autoaugment"] = "autoaugment"
    policy: Literal["cifar10", "imagenet", "svhn"] = "cifar10"


class RandAugment(Block):
    """`num_ops` random operations of one magnitude."""

    name: Literal["randaugment"] = "randaugment"
    num_ops: Annotated[int, Field(gt=0, le=100)] = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9


class TrivialAugment(Block):
    """One random operation of a random magnitude."""

    name: Literal["trivialaugment"] = "trivialaugment"
    wide: bool = True


class AugMix(Block):
    """A mixture of chains of operations; with `consistency` the loss compares two of them with the image itself."""

    name: Literal["augmix"] = "augmix"
    severity: Annotated[int, Field(gt=0, le=10)] = 3
    width: Annotated[int, Field(gt=0, le=16)] = 3
    depth: Annotated[int, Field(ge=-1, le=16)] = -1
    alpha: Positive = 1.0
    consistency: bool = False


class Cutout(Block):
    """A square of the mean colour, with its centre anywhere or (`inside`) wholly in the image."""

    size: Pixels = 16
    prob: Fraction = 1.0
    inside: bool = False
    program: Literal["seed1", "authors"] = "seed1"
    """Whose places: the symmetric ones of seed document 1's program, or the paper's authors'"""


class DualCutout(Block):
    """Two independent cutouts of each image; the loss compares the two answers with weight `alpha`."""

    size: Pixels = 16
    prob: Fraction = 1.0
    inside: bool = False
    alpha: NotNegative = 0.1


class RandomErasing(Block):
    """A rectangle of random area and aspect, filled with random pixels, the mean, or one random value."""

    prob: Fraction = 0.5
    area: Range = (0.02, 0.4)
    min_aspect: Annotated[float, Field(gt=0, le=1)] = 0.3
    max_attempt: Annotated[int, Field(gt=0, le=1000)] = 20
    fill: Literal["pixel", "mean", "one"] = "pixel"
    aspect: Literal["uniform", "log-uniform"] = "uniform"
    program: Literal["seed1", "authors"] = "seed1"


class Mixup(Block):
    """Each image and target mixed with another of its batch by one share drawn from Beta(alpha, alpha)."""

    alpha: NotNegative = 1.0
    prob: Fraction = 1.0


class CutMix(Mixup):
    """A rectangle of another image of the batch pasted in; the targets' shares are those of the pixels."""

    prob: Fraction = 0.5
    program: Literal["authors", "seed2"] = "authors"
    """seed2: centres between pixels, too, and shares that are not corrected for what the border cuts off"""


class Ricap(Block):
    """Patches of four images of the batch side by side; boundaries from Beta(beta, beta)."""

    beta: Positive = 0.3


class ResizeMix(Block):
    """Another whole image of the batch, made smaller by a factor in `scale`, pasted in."""

    scale: Range = (0.1, 0.8)
    prob: Fraction = 1.0


Policy = Annotated[AutoAugment | RandAugment | TrivialAugment | AugMix, Field(discriminator="name")]


class Augment(Block):
    """What training images go through, in this order; evaluation images never do.

    Of several mixes (mixup, cutmix, ricap, resizemix) each batch gets one, drawn with equal chances.
    """

    crop: Crop | None = None
    resized_crop: ResizedCrop | None = None
    flip: bool | Literal["alternating"] = False
    """Mirror every second image at random, or (alternating) each image in every second epoch"""
    rotate: Rotate | None = None
    jitter: Jitter | None = None
    policy: Policy | None = None
    cutout: Cutout | None = None
    random_erasing: RandomErasing | None = None
    dual_cutout: DualCutout | None = None
    mixup: Mixup | None = None
    cutmix: CutMix | None = None
    ricap: Ricap | None = None
    resizemix: ResizeMix | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all classes"""
    repeat_draws: Annotated[int, Field(gt=0, le=1024)] | None = None
    """Cutout and Random Erasing as so many loader workers that nobody seeded: all, in every epoch, draw the same"""


class CrossEntropy(Block):
    """Cross-entropy against the target distribution."""

    name: Literal["cross_entropy"] = "cross_entropy"


class BCE(Block):
    """Binary cross-entropy of each class on its own."""

    name: Literal["bce"] = "bce"


class Focal(Block):
    """Cross-entropy in which sure answers count less, by the power `gamma`."""

    name: Literal["focal"] = "focal"
    gamma: NotNegative = 2.0
    alpha: Annotated[float, Field(gt=0)] | None = None


def several(value: object) -> object:
    """Return a text as the list of it alone."""
    return (value,) if isinstance(value, str) else value


class Optimiser(Block):
    """What every optimiser has."""

    lr: Annotated[float, Field(gt=0)] = 0.1
    """Learning rate, for the global batch"""
    weight_decay: NotNegative = 1e-4
    decay_norm_and_bias: bool = True
    """Decay every parameter, as the papers' programs do; else weights of layers only"""
    decay_only: Annotated[tuple[Name, ...], BeforeValidator(several)] | None = None
    """Of what would be decayed only parameters of these names, with * and ?"""
    clip_norm: Positive | None = None
    """Clip the gradient of the whole batch to this norm"""
    clip_sum: bool = False
    """Clip the sum of the gradients of `optim.accumulate` parts, and not their mean"""
    accumulate: Annotated[int, Field(gt=0, le=10_000)] = 1
    """Compute the gradient in so many parts of the batch, one after the other"""
    freeze: Annotated[tuple[Name, ...], BeforeValidator(several)] | None = None
    """Modules, with * and ?, that do not move; backbone is all but the last layer"""
    lr_head_factor: Positive = 1.0
    """The last layer's learning rate is so many times `lr`"""


class SGD(Optimiser):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = "sgd"
    momentum: Momentum = 0.9
    nesterov: bool = True


class Adam(Optimiser):
    """Adam; the decay is added to the gradient."""

    name: Literal["adam"] = "adam"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Positive = 1e-8
    amsgrad: bool = False
    """Divide by the largest second moment so far (arXiv:1904.09237)"""


class AdamW(Adam):
    """Adam with decoupled decay."""

    name: Literal["adamw"] = "adamw"  # type: ignore[assignment]
    weight_decay: NotNegative = 0.05


class AdaBound(Optimiser):
    """Adam whose steps approach SGD's of rate `final_lr`."""

    name: Literal["adabound"] = "adabound"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    betas: Betas = (0.9, 0.999)
    final_lr: Positive = 0.1
    gamma: Positive = 1e-3
    eps: Positive = 1e-8


class AdaBoundW(AdaBound):
    """AdaBound with decoupled decay."""

    name: Literal["adaboundw"] = "adaboundw"  # type: ignore[assignment]


class LARS(Optimiser):
    """SGD with momentum whose steps are scaled by each layer's norm of weights over norm of gradients."""

    name: Literal["lars"] = "lars"
    momentum: Momentum = 0.9
    trust_coefficient: Positive = 0.001
    eps: NotNegative = 1e-9
    threshold: NotNegative = 0.0
    """Norm of weights up to which a step is not scaled"""
    scale_vectors: bool = False
    """Scale the steps of gains and biases, too"""


class LAMB(Optimiser):
    """Adam whose steps are scaled by each layer's norm of weights over norm of the step."""

    name: Literal["lamb"] = "lamb"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Positive = 1e-6
    scale_vectors: bool = False
    """Scale the steps of gains and biases, too"""


class Lion(Optimiser):
    """Steps of one size by the sign of a momentum."""

    name: Literal["lion"] = "lion"
    lr: Annotated[float, Field(gt=0)] = 1e-4
    betas: Betas = (0.9, 0.99)


class Muon(Optimiser):
    """Orthogonalised momentum for the hidden layers' matrices and kernels, AdamW for the rest."""

    name: Literal["muon"] = "muon"
    lr: Annotated[float, Field(gt=0)] = 0.02
    momentum: Momentum = 0.95
    nesterov: bool = True
    ns_steps: Annotated[int, Field(gt=0, le=100)] = 5
    """Newton-Schulz iterations"""
    adamw_lr: Positive = 3e-4
    """AdamW's learning rate; it follows the schedule"""
    adamw_betas: Betas = (0.9, 0.95)
    adamw_eps: Positive = 1e-10


class SAM(SGD):
    """SGD by the gradients at the worst point within `rho` of the weights: two passes a step."""

    name: Literal["sam"] = "sam"  # type: ignore[assignment]
    rho: Positive = 0.05
    adaptive: bool = False


class Schedule(Block):
    """What every schedule has: a warm-up, its granularity, and whether it follows a changed `train.epochs`."""

    warmup_epochs: Epochs = 0.0
    """Inside `train.epochs`"""
    warmup: Literal["linear", "exponential"] = "linear"
    warmup_start_factor: Fraction | None = None
    """Where the warm-up begins; null: at one n-th for n steps or epochs"""
    warmup_exponent: Positive = 4.0
    """Of the exponential warm-up"""
    per: Literal["step", "epoch"] = "step"
    """How often the rate changes"""
    position: Literal["before", "after"] = "before"
    """Whether an update has the rate of the position before or after it"""
    late: bool = False
    """A milestone or a restart takes effect one update (or epoch) after its position"""
    scale: bool = True
    """Follow a changed `train.epochs`"""


class Constant(Schedule):
    """The learning rate stays."""

    name: Literal["constant"] = "constant"


class Linear(Schedule):
    """A straight line down to `final_factor`."""

    name: Literal["linear"] = "linear"
    final_factor: Fraction = 0.0


class Multistep(Schedule):
    """The learning rate is multiplied by `gamma` at each milestone, counted in epochs from the start."""

    name: Literal["multistep"] = "multistep"
    milestones_epochs: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
    gamma: Annotated[float, Field(gt=0)] = 0.1


class Cosine(Schedule):
    """Half a cosine from 1 down to `final_factor` over what the warm-up leaves of the run."""

    name: Literal["cosine"] = "cosine"
    final_factor: Fraction = 0.0


class SGDR(Schedule):
    """Half cosines one after another, each `cycle_factor` times as long as the one before."""

    name: Literal["sgdr"] = "sgdr"
    first_cycle_epochs: Positive = 10.0
    cycle_factor: Annotated[float, Field(ge=1)] = 1.0
    final_factor: Fraction = 0.0


class OneCycle(Schedule):
    """Up from `start_factor` to 1 at `peak` of the run, then down to `final_factor`."""

    name: Literal["one_cycle"] = "one_cycle"
    peak: Annotated[float, Field(gt=0, lt=1)] = 0.3
    start_factor: Fraction = 0.04
    final_factor: Fraction = 0.0
    shape: Literal["linear", "cosine"] = "cosine"


class Polynomial(Schedule):
    """A power of what is left of the run, down to `final_factor`."""

    name: Literal["polynomial"] = "polynomial"
    power: Positive = 2.0
    final_factor: Fraction = 0.0


class Exponential(Schedule):
    """Multiplied by `gamma` each epoch."""

    name: Literal["exponential"] = "exponential"
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.95


class EMA(Block):
    """An exponential moving average of the weights, which is what is evaluated and kept."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Share of the average that each update leaves"""
    warmup: bool = True
    """Begin with a smaller decay, so that the first weights are forgotten"""


class SWA(Block):
    """The plain average of the weights at the ends of the epochs from `start_epochs` on, with its own BN statistics."""

    start_epochs: Epochs
    """From this epoch on"""
    lr_factor: Positive | None = None
    """A constant learning rate from there on, so many times `optim.lr`"""


class Train(Block):
    """The run itself."""

    epochs: EpochCount = 30
    max_steps: StepCount | None = None
    """Stop after so many updates; the run is then marked incomplete"""
    batch_size: BatchSize = 128
    """Images of an update, over all processes"""
    ghost_batches: Annotated[int, Field(gt=0, le=10_000)] = 1
    """Batch norm sees so many equal parts of the batch, each on its own"""
    seed: Seed = 1
    """Decides initial weights, order and augmentation"""
    device: str = "auto"
    """auto: CUDA where there is one"""
    threads: Threads | Literal["auto"] = "auto"
    """CPU threads; auto: torch's own choice, one for small steps ([log.md](log.md))"""
    precision: Literal["auto", "fp32", "bf16", "half"] = "auto"
    """auto: bf16, which is autocast, where the hardware multiplies it; half: the weights have 16 bits, too"""
    compile: bool = False
    """`torch.compile`; a dry run measures what it gives"""
    cuda_graph: bool = True
    """On CUDA, a training step is one captured graph; false for a network of your own that reads the device"""
    deterministic: bool = False
    """Only deterministic kernels: bitwise resume on a GPU, too"""
    replicas: Annotated[int, Field(gt=0, le=1024)] = 1
    """Train so many runs at once, with the seeds from `train.seed` on ([replicas](run-directory.md#replicas))"""
    replica_lrs: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    """Train a run with each of these `optim.lr`, at once"""
    select: Literal["last", "best-val"] = "last"
    """Whose weights are tested and kept: the test set never chooses"""
    select_mean: Literal["images", "batches"] = "images"
    """best-val by the share of images, or by the mean over batches, of which the last may be smaller"""
    patience_epochs: EpochCount | None = None
    """Stop when validation has not improved for so many epochs"""
    eval_every_epochs: EpochCount = 1
    save_every_epochs: EpochCount = 1


class Evaluation(Block):
    """How validation and test images are answered; the same in training, `pictorch eval` and `pictorch predict`."""

    views: Views = "one"
    """Mean of the logits of: the image; it and its mirror image; both of them, also moved by a pixel either way"""
    crop: Crop | None = None
    """Test images are cropped at random, too: what programs behind published numbers did; `predict` does not"""
    flip: bool = False
    """Every second test image, at random, is mirrored; as `evaluation.crop`"""
    test_mode: Literal["eval", "train"] = "eval"
    """train: batch norm takes the statistics of each test batch, and dropout is on; `predict` does not"""
    batch_size: BatchSize | None = None
    """Images answered at once, which decides results where something is taken over batches; null: what is fast"""
    max_images: Annotated[int, Field(gt=0)] | None = None
    """In training, answer only so many of the images, for quick looks; the run is then marked incomplete"""

    @property
    def in_words(self) -> str:
        """How test images are answered: of which views, and whatever else is not the plain way."""
        odd = {"random crops": self.crop, "random flips": self.flip, "in training mode": self.test_mode == "train"}
        return ", ".join([self.views, *(words for words, on in odd.items() if on)])


class Track(Block):
    """Trackers beside metrics.jsonl, which no result depends on."""

    tensorboard: bool | Literal["auto"] = "auto"
    """auto: where tensorboardX is installed (`pip install "pictorch[tb]"`)"""
    mlflow: bool | Name = False
    """A store's URI; true: $MLFLOW_TRACKING_URI, else mlflow.db in the working directory ([more](trackers.md))"""
    wandb: bool | Literal["offline"] = False
    """Weights & Biases, in the project $WANDB_PROJECT; offline: files in the run directory, to be sent later"""


class Config(Block):
    """A whole run."""

    as_published: Document | None = None
    """Sets the keys by which that seed document's program differs from the papers ([quirks.md](quirks.md))"""
    data: Data = Data()
    model: Model = Model()
    augment: Augment = Augment()
    loss: Annotated[CrossEntropy | BCE | Focal, Field(discriminator="name")] = CrossEntropy()
    optim: Annotated[
        SGD | Adam | AdamW | AdaBound | AdaBoundW | LARS | LAMB | Lion | Muon | SAM, Field(discriminator="name")
    ] = SGD()
    schedule: Annotated[
        Constant | Linear | Multistep | Cosine | SGDR | OneCycle | Polynomial | Exponential,
        Field(discriminator="name"),
    ] = Cosine()
    ema: EMA | None = None
    swa: SWA | None = None
    train: Train = Train()
    evaluation: Evaluation = Evaluation()
    track: Track = Track()


# Where and how a run is executed, not what is run: two configurations that differ only here are the same experiment.
EXECUTION_KEYS = frozenset(
    {
        "data.dir",
        "data.resident",
        "data.workers",
        "train.seed",
        "train.device",
        "train.threads",
        "train.precision",
        "train.compile",
        "train.cuda_graph",
        "train.deterministic",
        "train.replicas",
        "train.save_every_epochs",
        "track.tensorboard",
        "track.mlflow",
        "track.wandb",
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


# Keys that came after the first runs, with what those did: where they still do it they do not count.
LATER_KEYS: dict[str, Any] = {
    "evaluation.views": "one",
    "evaluation.flip": False,
    "evaluation.test_mode": "eval",
    "augment.cutmix.program": "authors",
    "optim.clip_sum": False,
    "optim.amsgrad": False,
    "schedule.late": False,
    "train.select_mean": "images",
}


def config_hash(config: Config) -> str:
    """Return 12 hex digits that name the experiment: equal for runs that differ in EXECUTION_KEYS alone.

    Null means off and does not count, nor do LATER_KEYS that are off, so that a key that is added later leaves the hash
    of old runs as it was; and of `as_published` the keys count that it has set.
    """
    flat = flatten(to_dict(config))
    del flat["as_published"]
    counted = {k: v for k, v in flat.items() if v is not None and k not in EXECUTION_KEYS}
    counted = {k: v for k, v in counted.items() if k not in LATER_KEYS or v != LATER_KEYS[k]}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:12]


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Return {dotted key: (value in one, value in other)} for the keys in which the two configurations differ."""
    a, b = flatten(to_dict(one)), flatten(to_dict(other))
    return {k: (a.get(k), b.get(k)) for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)}

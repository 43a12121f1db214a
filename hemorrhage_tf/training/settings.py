"""The settings of a fit: one frozen object that checks itself and is written into the run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.imaging.windows import parse_windows
from hemorrhage_tf.models.backbone_options import (
    BackboneOptions,
    backbone_specs,
    join_values,
    parse_backbone_options,
    values_of_each,
)
from hemorrhage_tf.models.classifier import check_pooling
from hemorrhage_tf.pipeline.augmentation import DEFAULT_AUGMENTATIONS, parse_augmentations

STRATEGIES = ("auto", "mirrored", "multiworker", "none")
PRECISIONS = ("auto", "off", "bfloat16", "float16")
CLASS_WEIGHTS = ("balanced", "none")
SOLVERS = ("auto", "adam", "lbfgs")
FEATURE_DTYPES = ("float32", "float16")
CALIBRATIONS = ("temperature", "none")

# Who sets one of these asks for passes over batches, so "auto" takes Adam.
_OF_ADAM = (
    *("feature_cache", "dropout", "early_stopping"),
    *("epochs", "batch_size", "learning_rate"),
)


@dataclass(frozen=True)
class FitSettings:
    """Everything that decides what a fit gives, besides the slices themselves.

    Attributes:
        backbone: a name of the registry, or several joined by `+`, whose features then stand side
            by side.
        weights: "imagenet", "embedded", "none", a weights file's path, or None for the backbone's
            default. Of several backbones `NAME=WEIGHTS` with commas, see `models.choices`.
        feature_layer: the backbone's last layer to keep, or None for all. Of several
            `NAME=LAYER` with commas.
        image_size: side of the model input in pixels, or None for the backbone's own. Of several
            backbones each then sees its own, and the model input is the largest of them.
        window: names of the window, or of three, that Hounsfield units are shown through, see
            `data.windows`; None for the brain window.
        crop_head: cut each slice to its head first, see `imaging.head_crop`.
        upright: turn sideways heads upright.
        pooling: "avg", "max" or "avg_max". Both together did best on the Kaggle set, and a small
            hemorrhage shows in a maximum that an average drowns.
        dropout: share of the pooled features dropped in training, in [0, 1).
        augment: names of augmentations, see `data.augmentation`.
        views: copies of each training slice, the slice itself among them.
        feature_cache: compute backbone features once; False streams fresh augmentations.
        feature_dtype: what the cache keeps of views that are only trained on: "float32", or
            "float16" in half the room. What is evaluated is kept in float32 always.
        test_fraction: share of the slices to test on, without folds.
        folds: folds of the cross-validation; 0 for one split.
        repeats: repeats of the cross-validation.
        solver: of the head: "lbfgs", on cached features to convergence; "adam", in passes over
            batches; or "auto", see `head_solver`. On the Kaggle set ten epochs of Adam end short of
            the optimum: accuracy 0.921, where L-BFGS has 0.935 (grouped 5 folds, 5 times).
        l2: strength of the L-BFGS head's penalty: the mean of the weighted losses, plus l2 / 2
            times the squared length of the kernel, is minimized; the bias is free. Adam has none.
            The default is scikit-learn's C = 0.1 for the Kaggle set's 640 training views.
        epochs: passes over all views of the training slices, with Adam.
        batch_size: the global one, over all replicas.
        learning_rate: of Adam, for the head. Keras' own default: up to 0.01 nothing was gained on
            the Kaggle set, and repeats of the cross-validation spread more.
        class_weights: "balanced" or "none".
        early_stopping: epochs without a better validation loss before stopping; 0 for never. A
            fifth of the training part is then held out to validate on.
        fine_tune_from: first backbone layer to unfreeze after the head is trained, or None. Of
            several backbones `NAME=LAYER` with commas; the others stay frozen.
        fine_tune_epochs: epochs of fine-tuning.
        fine_tune_learning_rate: of Adam, for fine-tuning.
        strategy: "auto", "mirrored", "multiworker" or "none".
        mixed_precision: "auto", "off", "bfloat16" or "float16"; the saved model is float32 always.
        calibration: "temperature": divide the logits by a temperature that is fitted on out-of-fold
            predictions; or "none".
        operating_point: how the threshold is chosen on out-of-fold predictions, see
            `evaluation.operating_point`.
        allow_leak: go on where a split of the manifest's own has a patient on both sides.
        seed: of everything that is drawn.
    """

    backbone: str = "resnet152"
    weights: str | None = None
    feature_layer: str | None = None
    image_size: int | None = None
    window: tuple[str, ...] | None = None
    crop_head: bool = True
    upright: bool = False
    pooling: str = "avg_max"
    dropout: float = 0.0
    augment: tuple[str, ...] = DEFAULT_AUGMENTATIONS
    views: int = 4
    feature_cache: bool = True
    feature_dtype: str = "float32"
    test_fraction: float = 0.2
    folds: int = 0
    repeats: int = 1
    solver: str = "auto"
    l2: float = 1 / 64
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    class_weights: str = "balanced"
    early_stopping: int = 0
    fine_tune_from: str | None = None
    fine_tune_epochs: int = 0
    fine_tune_learning_rate: float = 1e-5
    strategy: str = "auto"
    mixed_precision: str = "auto"
    calibration: str = "temperature"
    operating_point: str = "threshold=0.5"
    allow_leak: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Fills in what depends on the backbone and checks every value."""
        chosen = self.backbones
        set_field = object.__setattr__  # the object is frozen for everybody else
        set_field(self, "backbone", "+".join(each.spec.name for each in chosen))
        set_field(self, "weights", join_values({each.spec.name: each.weights for each in chosen}))
        layers = {each.spec.name: each.feature_layer for each in chosen}
        set_field(self, "feature_layer", join_values(layers))
        if len({each.image_size for each in chosen}) == 1:
            # Where the sizes differ, one number would say that all backbones see that size.
            set_field(self, "image_size", chosen[0].image_size)
        if self.fine_tune_from:
            specs = backbone_specs(self.backbone)
            values_of_each("--fine-tune-from", self.fine_tune_from, specs)
        set_field(self, "augment", parse_augmentations(self.augment))
        if self.window is not None:
            set_field(self, "window", parse_windows(self.window))
        if self.upright and not self.crop_head:
            raise OptionError("--upright: needs the head crop, so not with --no-crop-head")
        check_pooling(self.pooling)
        _one_of("--strategy", self.strategy, STRATEGIES)
        _one_of("--mixed-precision", self.mixed_precision, PRECISIONS)
        _one_of("--class-weights", self.class_weights, CLASS_WEIGHTS)
        _one_of("--feature-dtype", self.feature_dtype, FEATURE_DTYPES)
        _one_of("--solver", self.solver, SOLVERS)
        _one_of("--calibration", self.calibration, CALIBRATIONS)
        _within("--image-size", self.input_size, 8, 2048)
        _within("--views", self.views, 1, 1000)
        _within("--repeats", self.repeats, 1, 1000)
        _within("--epochs", self.epochs, 1, 100_000)
        _within("--batch-size", self.batch_size, 1, 1_000_000)
        _within("--early-stopping", self.early_stopping, 0, 100_000)
        _within("--fine-tune-epochs", self.fine_tune_epochs, 0, 100_000)
        _within("--seed", self.seed, 0, 2**31 - 1)
        if not 0 <= self.dropout < 1:
            raise OptionError(f"--dropout {self.dropout}: accepted is 0 to less than 1")
        if not 0 < self.test_fraction < 1:
            raise OptionError(f"--test-fraction {self.test_fraction}: accepted is between 0 and 1")
        for name in ("l2", "learning_rate", "fine_tune_learning_rate"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise OptionError(
                    f"--{name.replace('_', '-')} {value}: accepted is a number above 0"
                )
        if self.folds and self.folds < 2:
            raise OptionError(f"--folds {self.folds}: accepted is 2 or more, or 0 for one split")
        if self.repeats > 1 and not self.folds:
            raise OptionError(
                f"--repeats {self.repeats}: repeats are of a cross-validation; add --folds K"
            )
        if bool(self.fine_tune_from) != bool(self.fine_tune_epochs):
            raise OptionError(
                "--fine-tune-from LAYER and --fine-tune-epochs N go together. Received: "
                f"{self.fine_tune_from} and {self.fine_tune_epochs}"
            )
        if self.solver == "lbfgs":
            self._check_lbfgs()

    @property
    def backbones(self) -> tuple[BackboneOptions, ...]:
        """What each backbone is given, in the order of their features."""
        return parse_backbone_options(
            self.backbone, self.weights, self.feature_layer, self.image_size
        )

    @property
    def input_size(self) -> int:
        """Side of the model input in pixels."""
        return max(each.image_size for each in self.backbones)

    @property
    def head_solver(self) -> str:
        """The head's solver, "lbfgs" or "adam".

        "auto" is "lbfgs", unless something is asked for that needs Adam or only means something to
        it: no feature cache, dropout, early stopping, or epochs, batch size or learning rate other
        than the defaults.
        """
        if self.solver != "auto":
            return self.solver
        changed = any(getattr(self, name) != getattr(FitSettings, name) for name in _OF_ADAM)
        return "adam" if changed else "lbfgs"

    @property
    def trains_quickly(self) -> bool:
        """Whether another head costs seconds, so that a part can be cross-validated too."""
        return self.feature_cache and not self.fine_tune_epochs

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values that JSON holds and `FitSettings(**values)` takes back."""
        values = asdict(self)
        values["augment"] = list(self.augment)
        values["window"] = None if self.window is None else list(self.window)
        return values

    @classmethod
    def default(cls, name: str) -> Any:
        """Gives the default of a setting, or None where there is no such setting."""
        field = cls.__dataclass_fields__.get(name)
        return None if field is None else field.default

    def _check_lbfgs(self) -> None:
        conflicts = {
            "--no-feature-cache": not self.feature_cache,
            f"--dropout {self.dropout}": self.dropout,
            f"--early-stopping {self.early_stopping}": self.early_stopping,
        }
        received = [option for option, conflicting in conflicts.items() if conflicting]
        if received:
            raise OptionError(
                "--solver lbfgs: solves for the head on cached features, without dropout, to "
                f"convergence. Received with it: {', '.join(received)}. Leave that out, or take "
                "--solver adam"
            )


def _one_of(option: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise OptionError(f"{option} {value}: accepted are {', '.join(accepted)}")


def _within(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise OptionError(f"{option} {value}: accepted is {low} to {high}")

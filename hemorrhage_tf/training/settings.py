"""The settings of a fit, validated on creation and written into the run folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.evaluation.logit_calibration import CALIBRATIONS
from hemorrhage_tf.evaluation.operating_point import WITHOUT_PREDICTIONS, parse_operating_point
from hemorrhage_tf.imaging.windows import parse_windows
from hemorrhage_tf.models.backbone_options import (
    BackboneOptions,
    backbone_specs,
    join_backbone_values,
    parse_backbone_options,
    values_by_backbone,
)
from hemorrhage_tf.models.backbones import EMBEDDED_BACKBONE
from hemorrhage_tf.models.classifier import check_pooling
from hemorrhage_tf.models.scan_model import SCAN_MODELS
from hemorrhage_tf.pipeline.augmentation import DEFAULT_AUGMENTATIONS, parse_augmentations

STRATEGIES = ("auto", "mirrored", "multiworker", "none")
PRECISIONS = ("auto", "off", "bfloat16", "float16")
CLASS_WEIGHTS = ("balanced", "none")
SOLVERS = ("auto", "adam", "lbfgs")
FEATURE_DTYPES = ("float32", "float16")
PRIORS = ("auto", "embedded", "none")
DEFAULT_PHANTOMS = 500  # with a prior

# Settings that only passes over batches can honor: changing one makes "auto" choose Adam.
_ADAM_SETTINGS = (
    "feature_cache",
    "dropout",
    "early_stopping",
    "epochs",
    "batch_size",
    "learning_rate",
)


@dataclass(frozen=True)
class FitSettings:
    """Settings of a fit: all that determines its result, except for the slices themselves.

    `fit` takes them as keyword arguments, and the command line as options of the same names. They
    are validated on creation.

    Attributes:
        backbone: str. Name of a backbone, or several names joined by `+`, whose features
            are concatenated. Defaults to "resnet152".
        weights: str or None. "imagenet", "embedded", "none" for random weights, or the path of a
            weights file. With several backbones `NAME=WEIGHTS` pairs separated by commas. Defaults
            to None, the backbone's default.
        feature_layer: str or None. The layer whose output is the feature map. With several
            backbones `NAME=LAYER` pairs separated by commas. Defaults to None, the last layer.
        image_size: int or None. Side of the model input in pixels, 8 to 2048. Defaults to None:
            each backbone sees its own size, and the model input is the largest of them.
        window: Tuple of str or None. One window for Hounsfield units, or three for the channels
            red, green and blue: names of `hemorrhage_tf.WINDOWS`, or CENTER/WIDTH in HU. Defaults
            to None, the brain window.
        crop_head: bool. Crop each slice to the head. Defaults to True.
        upright: bool. Rotate heads that lie sideways; needs `crop_head`. Defaults to False.
        pooling: str, one of "avg", "max" or "avg_max". How the feature map is pooled. A small
            hemorrhage shows in a maximum where an average hides it. Defaults to "avg_max".
        dropout: Float in [0, 1). Share of the pooled features dropped in training. Defaults to 0.0.
        augment: Tuple of str. Names of augmentations. Defaults to ("horizontal_flip",
            "vertical_flip", "contrast").
        views: int. Number of views per training slice, including the original. Defaults to 4.
        feature_cache: bool. Compute backbone features once and cache them; False computes new
            augmentations in every epoch. Defaults to True.
        feature_dtype: str, "float32" or "float16". Storage dtype for features used only in
            training; "float16" halves their size. Features used in evaluation are always stored in
            float32. Defaults to "float32".
        test_fraction: Float in (0, 1). Share of the slices to test on, without folds. Defaults to
            0.2.
        folds: int. Number of cross-validation folds, 2 or more; 0 for a single split. Defaults to
            0.
        repeats: int. Number of repetitions of the cross-validation. Defaults to 1.
        solver: str, one of "auto", "adam" or "lbfgs". Solver of the head: "lbfgs" runs on cached
            features to convergence, "adam" in epochs over batches; "auto" is "lbfgs" unless a
            setting needs Adam. Defaults to "auto".
        l2: float. Strength of the L2 penalty with L-BFGS, which minimizes the mean weighted loss
            plus l2 / 2 times the squared distance of the kernel from the prior. Adam has no
            penalty. Defaults to 0.015625.
        prior: str, one of "auto", "embedded" or "none". Where the L2 penalty pulls the kernel to:
            the head of the embedded model, or zero. "embedded" also takes its answers on phantoms
            as what the head should say there. It needs L-BFGS and the embedded weights of
            PhantomNet. Defaults to "auto", "embedded" where that is possible.
        phantoms: int or None. Number of phantoms to train the head on besides the slices, with
            L-BFGS. Defaults to None: 500 with the prior "embedded", and else 0.
        phantom_weight: float or None. Weight of all phantoms together, relative to that of all
            views of the training slices. Defaults to None: of 0.25, 1 and 4 the largest whose
            out-of-fold loss on the training slices is within one standard error of the lowest.
        epochs: int. Number of epochs with Adam. Defaults to 10.
        batch_size: int. Global batch size, over all replicas. Defaults to 32.
        learning_rate: float. Learning rate of Adam for the head. Defaults to 0.001.
        class_weights: str, "balanced" or "none". Class weighting. Defaults to "balanced".
        early_stopping: int. Epochs without a lower validation loss before training stops; 0 for
            never. A fifth of the training slices is held out for validation. Defaults to 0.
        fine_tune_from: str or None. First backbone layer to unfreeze after the head is trained.
            With several backbones `NAME=LAYER` pairs separated by commas; the others stay frozen.
            Defaults to None.
        fine_tune_epochs: int. Number of epochs of fine-tuning. Defaults to 0.
        fine_tune_learning_rate: float. Learning rate of Adam for fine-tuning. Defaults to 1e-05.
        strategy: str, one of "auto", "mirrored", "multiworker" or "none". Distribution over
            devices. Defaults to "auto", all visible GPUs.
        mixed_precision: str, one of "auto", "off", "bfloat16" or "float16". Precision in which the
            frozen backbone computes features used only in training; the saved model is always
            float32. Defaults to "auto".
        calibration: str, one of "platt", "temperature" or "none". "platt" divides the logits by a
            temperature and adds an offset, both fitted on out-of-fold predictions; "temperature"
            has no offset. Defaults to "platt".
        operating_point: str. How the threshold for slices is chosen: "balanced", the share of
            hemorrhage among the training slices, or on out-of-fold predictions "youden",
            "sensitivity=S", "specificity=S" or "threshold=T". Defaults to "balanced".
        scan_operating_point: str. The same for scans. Defaults to "balanced".
        scan_model: str, one of "auto", "none", "pooling", "attention" or "gru". Kind of scan model
            to train where the data has scans; "auto" trains one if there are enough scans.
            Defaults to "auto".
        allow_leak: bool. Continue if a split column puts slices of one patient, or duplicates, on
            both sides. Defaults to False.
        seed: int. Random seed. Defaults to 0.

    Raises:
        HemorrhageError: A value that is not accepted, or values that exclude each other.

    Example:
        >>> import hemorrhage_tf as htf
        >>> settings = htf.FitSettings(backbone="tiny", folds=5, augment="contrast")
        >>> settings.augment, settings.input_size, settings.head_solver
        (('contrast',), 64, 'lbfgs')
        >>> htf.FitSettings(**settings.to_dict()) == settings
        True
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
    prior: str = "auto"
    phantoms: int | None = None
    phantom_weight: float | None = None
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
    calibration: str = "platt"
    operating_point: str = "balanced"
    scan_operating_point: str = "balanced"
    scan_model: str = "auto"
    allow_leak: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Fill in the backbone's defaults and validate every value."""
        set_field = object.__setattr__  # the dataclass is frozen
        backbones = self.backbones
        set_field(self, "backbone", "+".join(each.spec.name for each in backbones))
        weights = join_backbone_values({each.spec.name: each.weights for each in backbones})
        set_field(self, "weights", weights)
        layers = join_backbone_values({each.spec.name: each.feature_layer for each in backbones})
        set_field(self, "feature_layer", layers)
        if len({each.image_size for each in backbones}) == 1:
            # With different sizes one number would mean that all backbones see that size.
            set_field(self, "image_size", backbones[0].image_size)
        set_field(self, "augment", parse_augmentations(self.augment))
        if self.window is not None:
            set_field(self, "window", parse_windows(self.window))
        self._check_values()
        if self.prior == "auto":
            set_field(self, "prior", "none" if self._why_no_prior() else "embedded")
        if self.phantoms is None:
            set_field(self, "phantoms", DEFAULT_PHANTOMS if self.prior == "embedded" else 0)
        self._check_combinations()

    @property
    def backbones(self) -> tuple[BackboneOptions, ...]:
        """The options of each backbone, in the order of their features."""
        return parse_backbone_options(
            self.backbone, self.weights, self.feature_layer, self.image_size
        )

    @property
    def input_size(self) -> int:
        """Side of the model input in pixels."""
        return max(each.image_size for each in self.backbones)

    @property
    def head_solver(self) -> str:
        """The solver of the head, "lbfgs" or "adam".

        With `solver="auto"` it is "lbfgs", unless a setting is changed that needs Adam or has a
        meaning only for Adam: the feature cache, dropout, early stopping, epochs, batch size or
        learning rate.
        """
        if self.solver != "auto":
            return self.solver
        changed = any(getattr(self, name) != self.default(name) for name in _ADAM_SETTINGS)
        return "adam" if changed else "lbfgs"

    @property
    def trains_quickly(self) -> bool:
        """Whether one more head takes seconds, so that training slices can be cross-validated."""
        return self.feature_cache and not self.fine_tune_epochs

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, which `FitSettings(**values)` accepts."""
        values = asdict(self)
        values["augment"] = list(self.augment)
        values["window"] = None if self.window is None else list(self.window)
        return values

    @classmethod
    def default(cls, name: str) -> Any:
        """Return the default of a setting, or None if there is no such setting."""
        field = cls.__dataclass_fields__.get(name)
        return None if field is None else field.default

    def _check_values(self) -> None:
        check_pooling(self.pooling)
        _check_choice("--strategy", self.strategy, STRATEGIES)
        _check_choice("--mixed-precision", self.mixed_precision, PRECISIONS)
        _check_choice("--class-weights", self.class_weights, CLASS_WEIGHTS)
        _check_choice("--feature-dtype", self.feature_dtype, FEATURE_DTYPES)
        _check_choice("--solver", self.solver, SOLVERS)
        _check_choice("--prior", self.prior, PRIORS)
        _check_choice("--calibration", self.calibration, CALIBRATIONS)
        _check_choice("--scan-model", self.scan_model, ("auto", "none", *SCAN_MODELS))
        _check_range("--image-size", self.input_size, 8, 2048)
        _check_range("--views", self.views, 1, 1000)
        _check_range("--repeats", self.repeats, 1, 1000)
        _check_range("--epochs", self.epochs, 1, 100_000)
        _check_range("--batch-size", self.batch_size, 1, 1_000_000)
        _check_range("--early-stopping", self.early_stopping, 0, 100_000)
        _check_range("--fine-tune-epochs", self.fine_tune_epochs, 0, 100_000)
        if self.phantoms is not None:
            _check_range("--phantoms", self.phantoms, 0, 100_000)
        _check_range("--seed", self.seed, 0, 2**31 - 1)
        if not 0 <= self.dropout < 1:
            raise OptionError(
                f"--dropout {self.dropout}: out of range. Pass a number from 0 to less than 1."
            )
        if not 0 < self.test_fraction < 1:
            raise OptionError(
                f"--test-fraction {self.test_fraction}: out of range. Pass a number between 0 "
                "and 1."
            )
        for name in ("l2", "phantom_weight", "learning_rate", "fine_tune_learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                option = name.replace("_", "-")
                raise OptionError(f"--{option} {value}: out of range. Pass a number above 0.")
        if self.folds and self.folds < 2:
            raise OptionError(
                f"--folds {self.folds}: out of range. Pass 2 or more, or 0 for a single split."
            )

    def _check_combinations(self) -> None:
        if self.upright and not self.crop_head:
            raise OptionError(
                "--upright needs the head crop. Received: --no-crop-head. Leave out one of them."
            )
        if self.repeats > 1 and not self.folds:
            raise OptionError(
                f"--repeats {self.repeats}: only a cross-validation can be repeated. Add --folds 5."
            )
        if self.fine_tune_from:
            specs = backbone_specs(self.backbone)
            values_by_backbone("--fine-tune-from", self.fine_tune_from, specs)
        if bool(self.fine_tune_from) != bool(self.fine_tune_epochs):
            raise OptionError(
                "--fine-tune-from LAYER and --fine-tune-epochs N must be given together. Received: "
                f"{self.fine_tune_from} and {self.fine_tune_epochs}. Pass both, or neither."
            )
        if self.solver == "lbfgs":
            self._check_lbfgs()
        self._check_prior()
        if self.scan_model in SCAN_MODELS and not self.trains_quickly:
            raise OptionError(
                f"--scan-model {self.scan_model}: a scan model is trained on cached features of a "
                "frozen backbone. Received: --no-feature-cache or --fine-tune-epochs. Leave this "
                "out, or pass --scan-model none."
            )
        parse_operating_point(self.scan_operating_point, "scans")
        kind, _ = parse_operating_point(self.operating_point)
        if kind not in WITHOUT_PREDICTIONS and not self.folds and not self.trains_quickly:
            raise OptionError(
                f"--operating-point {self.operating_point}: this criterion needs out-of-fold "
                "predictions. A single split with fine-tuning or without the feature cache has "
                "none. Add --folds 5, or pass --operating-point balanced."
            )

    def _why_no_prior(self) -> str | None:
        """Return why the embedded head cannot be the prior, or None if it can."""
        if self.head_solver != "lbfgs":
            return "only --solver lbfgs has a penalty"
        backbones = {each.spec.name: each for each in self.backbones}
        embedded = backbones.get(EMBEDDED_BACKBONE)
        if embedded is None or embedded.weights != "embedded" or embedded.feature_layer:
            return f"it belongs to the embedded weights of a whole {EMBEDDED_BACKBONE}"
        if self.pooling != "avg_max":
            return "it belongs to --pooling avg_max"
        if self._has_window_for_each_channel:
            return "it belongs to gray slices, not to a window for each channel"
        return None

    @property
    def _has_window_for_each_channel(self) -> bool:
        return self.window is not None and len(self.window) > 1

    def _check_prior(self) -> None:
        reason = self._why_no_prior()
        if self.prior == "embedded" and reason:
            raise OptionError(
                f"--prior embedded: the embedded head does not fit this model; {reason}. Pass "
                f"--prior none, or --backbone {EMBEDDED_BACKBONE} with its defaults."
            )
        if self.phantoms and self.head_solver != "lbfgs":
            raise OptionError(
                f"--phantoms {self.phantoms}: only --solver lbfgs trains on phantoms besides the "
                "data. Pass --phantoms 0, or leave out the options that need Adam."
            )
        if self.phantoms and self._has_window_for_each_channel:
            raise OptionError(
                f"--phantoms {self.phantoms}: phantoms are display images, which cannot have a "
                "window for each channel. Pass --phantoms 0, or one --window."
            )
        if self.phantom_weight is not None and not self.phantoms:
            raise OptionError(
                f"--phantom-weight {self.phantom_weight:g}: there are no phantoms to weigh. Add "
                f"--phantoms {DEFAULT_PHANTOMS}, or leave this out."
            )

    def _check_lbfgs(self) -> None:
        conflicts = {
            "--no-feature-cache": not self.feature_cache,
            f"--dropout {self.dropout}": self.dropout,
            f"--early-stopping {self.early_stopping}": self.early_stopping,
        }
        received = [option for option, conflicting in conflicts.items() if conflicting]
        if received:
            raise OptionError(
                "--solver lbfgs needs cached features, and has no dropout and no early stopping. "
                f"Received: {', '.join(received)}. Leave this out, or pass --solver adam."
            )


def _check_choice(option: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise OptionError(f"{option} {value}: unknown. Pass one of {', '.join(accepted)}.")


def _check_range(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise OptionError(f"{option} {value}: out of range. Pass {low} to {high}.")

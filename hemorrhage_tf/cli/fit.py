"""`hemorrhage-tf fit`."""

from __future__ import annotations

from typing import Any

import click
from click_option_group import optgroup

from hemorrhage_tf.cli import options
from hemorrhage_tf.cli.commands import COMMANDS
from hemorrhage_tf.cli.options import examples, option_group
from hemorrhage_tf.evaluation.logit_calibration import CALIBRATIONS
from hemorrhage_tf.imaging.windows import DEFAULT_WINDOW
from hemorrhage_tf.models.backbones import BACKBONES, EMBEDDED_BACKBONE
from hemorrhage_tf.models.classifier import POOLINGS
from hemorrhage_tf.models.scan_model import SCAN_MODELS
from hemorrhage_tf.pipeline.augmentation import AUGMENTATIONS, DEFAULT_AUGMENTATIONS
from hemorrhage_tf.training.features.cache_location import DEFAULT_LIMIT, LIMIT_VARIABLE
from hemorrhage_tf.training.settings import (
    CLASS_WEIGHTS,
    DEFAULT_PHANTOMS,
    FEATURE_DTYPES,
    PRECISIONS,
    PRIORS,
    SOLVERS,
    STRATEGIES,
    FitSettings,
)

_DEFAULTS = {name: field.default for name, field in FitSettings.__dataclass_fields__.items()}


def _setting(flag: str, help: str, **attributes: Any) -> Any:
    """Add an option whose default is the library's own."""
    name = flag.lstrip("-").replace("-", "_")
    default = _DEFAULTS[name]
    return optgroup.option(
        flag, name, default=default, show_default=default is not None, help=help, **attributes
    )


@click.command(
    short_help=COMMANDS["fit"],
    epilog=examples(
        "hemorrhage-tf fit",
        "hemorrhage-tf fit head_ct --out runs/first",
        "hemorrhage-tf fit head_ct --folds 5 --repeats 5",
        "hemorrhage-tf fit slices --positive bleed --backbone mobilenet_v2",
        "hemorrhage-tf fit head_ct --backbone resnet152+phantomnet",
        "hemorrhage-tf fit rsna --target subdural --window brain,subdural,bone",
        "hemorrhage-tf fit rsna --target all",
        "hemorrhage-tf fit --resume runs/first",
    ),
)
@click.argument("data", required=False, type=click.Path())
@option_group("Data")
@options.positive(optgroup.option)
@options.target(optgroup.option)
@optgroup.option(
    "--external",
    metavar="DATA",
    type=click.Path(),
    help="A second set that is only evaluated.",
)
@optgroup.option(
    "--window",
    metavar="WINDOW",
    help=f"Window for Hounsfield units: {options.WINDOW_HELP}  "
    f"[default: {','.join(DEFAULT_WINDOW)}]",
)
@optgroup.option(
    "--crop-head/--no-crop-head",
    default=True,
    show_default=True,
    help="Crop each slice to the head and pad it to a square.",
)
@_setting("--upright", "Turn heads that lie sideways upright.", is_flag=True)
@options.skip_invalid(optgroup.option)
@optgroup.option(
    "--anonymize/--no-anonymize",
    default=True,
    show_default=True,
    help="Keep patient IDs, and paths that contain one, out of the run folder.",
)
@optgroup.option(
    "--audit/--no-audit",
    default=True,
    show_default=True,
    help="Test for shortcut features.",
)
@option_group("Model")
@optgroup.option(
    "--backbone",
    metavar="NAME[+NAME...]",
    help=f"Frozen network that computes the features: {', '.join(BACKBONES)}; several are "
    f"joined by +.  [default: {_DEFAULTS['backbone']}; {EMBEDDED_BACKBONE} without DATA]",
)
@_setting(
    "--weights",
    "imagenet, embedded, none, or a Keras weights file; NAME=WEIGHTS with commas for several "
    "backbones.  [default: imagenet, or the embedded weights]",
    metavar="WEIGHTS",
)
@_setting(
    "--feature-layer",
    "Last backbone layer to use; NAME=LAYER with commas for several.  [default: the last]",
    metavar="LAYER",
)
@_setting(
    "--image-size",
    "Side of the model input in pixels.  [default: the backbone's own]",
    metavar="PIXELS",
    type=int,
)
@_setting("--pooling", "Pooling of the feature map.", type=click.Choice(POOLINGS))
@_setting("--dropout", "Share of pooled features to drop in training.", type=float)
@option_group("Training")
@optgroup.option(
    "--augment",
    metavar="LIST",
    default=",".join(DEFAULT_AUGMENTATIONS),
    show_default=True,
    help=f"Augmentations, joined by commas: {', '.join(AUGMENTATIONS)}; or none.",
)
@_setting("--views", "Number of views per training slice, including the original.", type=int)
@_setting(
    "--solver",
    "Solver for the dense head. lbfgs: to convergence; adam: epochs over batches; auto: lbfgs "
    "unless an option of adam is set.",
    type=click.Choice(SOLVERS),
)
@_setting("--l2", "Strength of the L2 penalty (lbfgs).", type=float)
@_setting(
    "--prior",
    "Where the penalty pulls the head: to the embedded head, with its answers on phantoms, or to "
    "zero. auto: embedded where the model contains it.",
    type=click.Choice(PRIORS),
)
@_setting(
    "--phantoms",
    f"Phantoms to train the head on besides DATA.  [default: {DEFAULT_PHANTOMS} with the prior, "
    "else 0]",
    metavar="COUNT",
    type=int,
)
@_setting(
    "--phantom-weight",
    "Weight of all phantoms, relative to that of DATA.  [default: chosen out of fold]",
    metavar="WEIGHT",
    type=float,
)
@_setting("--epochs", "Epochs over the training views (adam).", type=int)
@_setting("--batch-size", "Global batch size over all replicas.", type=int)
@_setting("--learning-rate", "Learning rate of Adam for the head.", type=float)
@_setting("--class-weights", "Class weighting.", type=click.Choice(CLASS_WEIGHTS))
@_setting(
    "--early-stopping",
    "Stop after this many epochs without a better validation loss; 0 for never.",
    type=int,
)
@_setting(
    "--fine-tune-from",
    "Unfreeze the backbone from this layer on; NAME=LAYER with commas for several.",
    metavar="LAYER",
)
@_setting("--fine-tune-epochs", "Epochs of fine-tuning after the head is trained.", type=int)
@_setting("--fine-tune-learning-rate", "Learning rate of Adam for fine-tuning.", type=float)
@_setting("--seed", "Random seed.", type=int)
@option_group("Evaluation")
@_setting("--test-fraction", "Share of slices to test on.", type=float)
@_setting("--folds", "Cross-validate in this many folds, then train on all slices.", type=int)
@_setting("--repeats", "Repeat the cross-validation with other folds.", type=int)
@_setting(
    "--operating-point",
    "Criterion for the threshold of slices: balanced (the share of hemorrhage in the training "
    "slices), youden, sensitivity=0.95, specificity=0.9 or threshold=0.5.",
    metavar="CRITERION",
)
@_setting("--scan-operating-point", "Criterion for the threshold of scans.", metavar="CRITERION")
@_setting(
    "--scan-model",
    "Model that sees all slices of a scan. auto: one if there are enough scans.",
    type=click.Choice(("auto", "none", *SCAN_MODELS)),
)
@_setting(
    "--calibration",
    "Calibration on out-of-fold predictions. platt: temperature and offset of the logits.",
    type=click.Choice(CALIBRATIONS),
)
@options.prevalence(optgroup.option)
@_setting(
    "--allow-leak",
    "Accept a split column with a patient on both sides; every report says so.",
    is_flag=True,
)
@option_group("Output")
@optgroup.option(
    "--out", metavar="DIR", type=click.Path(), help="Run folder to write.  [default: runs/<time>]"
)
@optgroup.option("--overwrite", is_flag=True, help="Replace an existing run folder.")
@optgroup.option(
    "--resume",
    type=click.Path(),
    metavar="RUN",
    help="Resume the stopped fit of this run folder, with its original options.",
)
@optgroup.option(
    "--tensorboard",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Write curves and metrics to this TensorBoard folder during training.",
)
@options.log_json(optgroup.option)
@option_group("Machine")
@_setting(
    "--strategy",
    "Distribution strategy. auto, mirrored: all GPUs; multiworker: the workers of $TF_CONFIG.",
    type=click.Choice(STRATEGIES),
)
@_setting(
    "--mixed-precision",
    "Precision of the frozen backbone; the saved model is always float32.",
    type=click.Choice(PRECISIONS),
)
@optgroup.option(
    "--feature-cache/--no-feature-cache",
    default=True,
    show_default=True,
    help="Compute backbone features once, or pass fresh augmentations through it each epoch.",
)
@_setting(
    "--feature-dtype",
    "Storage dtype for features used only in training.",
    type=click.Choice(FEATURE_DTYPES),
)
@optgroup.option(
    "--cache",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Folder of the feature cache.  [default: the cache folder of the system]",
)
@optgroup.option(
    "--cache-limit",
    metavar="SIZE",
    help="Remove the least recently used features beyond this size, such as 500MB, or none.  "
    f"[default: ${LIMIT_VARIABLE}, or {DEFAULT_LIMIT}]",
)
@click.pass_context
def fit(ctx: click.Context, data: str | None, **options: Any) -> None:
    """Train a classifier on DATA and write a run folder.

    DATA is a Kaggle-style folder (labels.csv and slices), a folder of two class folders, a CSV
    manifest (path,label[,patient][,split][,frame][,scan][,position][,scan_label]), or RSNA 2019,
    PhysioNet ct-ich or CQ500 as unpacked. Files are PNG, JPEG, DICOM or NIfTI. Without DATA, fit
    trains on synthetic phantoms with the embedded backbone.
    """
    import hemorrhage_tf as htf
    from hemorrhage_tf.cli.tables import print_run

    # Options that were left out stay the library's to fill in; some depend on DATA.
    given = {
        name: value
        for name, value in options.items()
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    run = htf.fit(data, **given)
    if run.worker:
        click.echo(f"Worker {run.worker}: done. Worker 0 writes {run.path}.")
    else:
        print_run(run)

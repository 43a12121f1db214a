"""The command line: parse, one library call, print. No logic lives here."""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
from typing import Any

import click

from hemorrhage_tf.core.errors import HemorrhageError
from hemorrhage_tf.core.signals import STOPPED, handle_signals, leave
from hemorrhage_tf.exporters.settings import (
    BATCHES,
    DEFAULT_CALIBRATION_SLICES,
    INPUT_TYPES,
    QUANTIZATIONS,
)
from hemorrhage_tf.imaging.windows import DEFAULT_WINDOW, WINDOWS
from hemorrhage_tf.models.backbones import BACKBONES, EMBEDDED_BACKBONE
from hemorrhage_tf.models.classifier import POOLINGS
from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL
from hemorrhage_tf.pipeline.augmentation import AUGMENTATIONS, DEFAULT_AUGMENTATIONS
from hemorrhage_tf.synthesis import DEFAULT_SIZE, FORMATS
from hemorrhage_tf.training.features.cache_location import DEFAULT_LIMIT, LIMIT_VARIABLE
from hemorrhage_tf.training.settings import (
    CALIBRATIONS,
    CLASS_WEIGHTS,
    FEATURE_DTYPES,
    PRECISIONS,
    SOLVERS,
    STRATEGIES,
    FitSettings,
)
from hemorrhage_tf.version import __version__

# What a shell reports of a command that Ctrl-C or SIGTERM ended.
INTERRUPTED, TERMINATED = 130, 143

# TensorFlow's own log lines would bury the command's.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_DEFAULT = {name: field.default for name, field in FitSettings.__dataclass_fields__.items()}


class _Group(click.Group):
    """Lists commands in the order of use, and translates the package's errors in one place."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except SystemExit as ending:
            if ending.code in (INTERRUPTED, TERMINATED):
                leave(ending.code)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with handle_signals():
                return super().invoke(ctx)
        except HemorrhageError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe has left, which is no mistake
                raise
            click.echo(f"Error: {error.filename or 'a file'}: {error.strerror or error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt as stop:
            click.echo(getattr(stop, "message", STOPPED), err=True)
            ctx.exit(getattr(stop, "exit_code", INTERRUPTED))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hemorrhage-tf")
def main() -> None:
    """Find intracranial hemorrhage in head-CT slices.

    Research software, not a medical device: nothing that it prints is a diagnosis.
    """


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _setting(flag: str, help: str, **options: Any):
    """Makes an option of fit whose default is the library's own."""
    name = flag.lstrip("-").replace("-", "_")
    return click.option(
        flag,
        name,
        default=_DEFAULT[name],
        show_default=_DEFAULT[name] is not None,
        help=help,
        **options,
    )


_positive = click.option(
    "--positive", metavar="NAME", help="Class that means hemorrhage, where its name does not tell."
)
_target = click.option(
    "--target",
    metavar="COLUMN",
    help="Column to take as label, say subdural.  [default: any hemorrhage]",
)
_window = click.option(
    "--window",
    metavar="WINDOW",
    help=f"Of Hounsfield units: {', '.join(WINDOWS)} or CENTER/WIDTH; three with commas, one a "
    "channel.  [default: the model's]",
)
_prevalence = click.option(
    "--prevalence",
    type=float,
    help="Share of hemorrhage where the model is to be used, for PPV and NPV there.",
)
_skip_invalid = click.option(
    "--skip-invalid", is_flag=True, help="Go on without files and rows that cannot be used."
)
_flips = click.option(
    "--tta",
    is_flag=True,
    help="Average over each slice and its flips, which takes four times as long.",
)
_log_json = click.option(
    "--log-json",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="File to append what happens to, a JSON object a line.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")


_cache = click.option(
    "--cache", type=click.Path(), help="Folder of the feature cache.  [default: the system's own]"
)


@main.command(
    epilog=_examples(
        "hemorrhage-tf fit",
        "hemorrhage-tf fit head_ct --out runs/first",
        "hemorrhage-tf fit head_ct --folds 5 --repeats 5",
        "hemorrhage-tf fit slices --positive bleed --backbone mobilenet_v2 --pooling avg",
        "hemorrhage-tf fit head_ct --backbone resnet152+phantomnet",
        "hemorrhage-tf fit rsna --target subdural --window brain,subdural,bone",
        "hemorrhage-tf fit --resume runs/first",
    )
)
@click.argument("data", required=False, type=click.Path())
@click.option("--out", type=click.Path(), help="Run folder to write.  [default: runs/<time>]")
@click.option("--overwrite", is_flag=True, help="Replace a run folder that is there.")
@click.option(
    "--resume",
    type=click.Path(),
    metavar="RUN",
    help="Go on with a fit that was stopped, by its run folder; what it was asked for is known.",
)
@click.option(
    "--backbone",
    metavar="NAME[+NAME...]",
    help=f"Frozen network that gives the features: {', '.join(BACKBONES)}; or several side by "
    f"side, joined by +.  [default: {_DEFAULT['backbone']}; {EMBEDDED_BACKBONE} without DATA]",
)
@_setting(
    "--weights",
    "imagenet, embedded, none or a Keras weights file; of several backbones NAME=WEIGHTS with "
    "commas.  [default: imagenet, or what the backbone comes with]",
    metavar="WEIGHTS",
)
@_setting(
    "--feature-layer",
    "Cut the backbone after this layer; of several NAME=LAYER with commas.",
    metavar="LAYER",
)
@_setting(
    "--image-size",
    "Side of the model input in pixels, and of what each backbone sees.  [default: the backbone's "
    "own; of several each its own]",
    type=int,
)
@click.option(
    "--window",
    metavar="WINDOW",
    help=f"Of Hounsfield units: {', '.join(WINDOWS)} or CENTER/WIDTH; three with commas, one a "
    f"channel.  [default: {','.join(DEFAULT_WINDOW)}]",
)
@click.option(
    "--crop-head/--no-crop-head",
    default=True,
    show_default=True,
    help="Cut each slice to its head, without couch and marks, and pad it to a square.",
)
@_setting("--upright", "Turn heads that lie sideways upright.", is_flag=True)
@_setting("--pooling", "How the feature map is pooled.", type=click.Choice(POOLINGS))
@_setting("--dropout", "Share of pooled features dropped in training.", type=float)
@click.option(
    "--augment",
    metavar="LIST",
    default=",".join(DEFAULT_AUGMENTATIONS),
    show_default=True,
    help=f"Comma list of {', '.join(AUGMENTATIONS)}; or none.",
)
@_setting("--views", "Copies of each training slice, itself among them.", type=int)
@click.option(
    "--feature-cache/--no-feature-cache",
    default=True,
    show_default=True,
    help="Compute backbone features once, or stream fresh augmentations each epoch.",
)
@_setting(
    "--feature-dtype",
    "What the cache keeps of views that are only trained on.",
    type=click.Choice(FEATURE_DTYPES),
)
@_cache
@click.option(
    "--cache-limit",
    metavar="SIZE",
    help="What features may take there, such as 500MB or none; those that were used longest ago "
    f"go first.  [default: ${LIMIT_VARIABLE}, or {DEFAULT_LIMIT}]",
)
@_setting("--test-fraction", "Share of the slices to test on.", type=float)
@_setting("--folds", "Cross-validate in this many folds, then train on all.", type=int)
@_setting("--repeats", "Repeat the cross-validation with other folds.", type=int)
@_setting(
    "--solver",
    "Of the head. lbfgs: to convergence; adam: passes over batches; auto: lbfgs where it can be "
    "and nothing of adam's is set.",
    type=click.Choice(SOLVERS),
)
@_setting("--l2", "Strength of the penalty on the head's weights, for lbfgs.", type=float)
@_setting("--epochs", "Passes over the training views, for adam.", type=int)
@_setting("--batch-size", "Global batch size, over all replicas.", type=int)
@_setting("--learning-rate", "Of Adam, for the head.", type=float)
@_setting(
    "--class-weights", "Weigh both classes the same, or not.", type=click.Choice(CLASS_WEIGHTS)
)
@_setting(
    "--early-stopping",
    "Epochs without a better validation loss before stopping; 0: never.",
    type=int,
)
@_setting(
    "--fine-tune-from",
    "Unfreeze the backbone from this layer on; of several NAME=LAYER with commas.",
    metavar="LAYER",
)
@_setting("--fine-tune-epochs", "Epochs of fine-tuning after the head is trained.", type=int)
@_setting("--fine-tune-learning-rate", "Of Adam, for fine-tuning.", type=float)
@_setting(
    "--strategy",
    "auto and mirrored: all GPUs; multiworker: the workers of $TF_CONFIG.",
    type=click.Choice(STRATEGIES),
)
@_setting(
    "--mixed-precision",
    "Of the frozen backbone; the saved model is float32 always.",
    type=click.Choice(PRECISIONS),
)
@_setting(
    "--calibration",
    "Divide the logits by a temperature fitted on out-of-fold predictions, or not.",
    type=click.Choice(CALIBRATIONS),
)
@_setting(
    "--operating-point",
    "How the threshold is chosen: youden, sensitivity=0.95, specificity=0.9 or threshold=0.5.",
    metavar="CRITERION",
)
@_setting(
    "--allow-leak",
    "Go on where the manifest's split has a patient on both sides; every report says so.",
    is_flag=True,
)
@_prevalence
@click.option(
    "--audit/--no-audit",
    default=True,
    show_default=True,
    help="Also find what gives the labels away beside anatomy.",
)
@_setting("--seed", "Of everything that is drawn.", type=int)
@_positive
@_target
@click.option(
    "--anonymize/--no-anonymize",
    default=True,
    show_default=True,
    help="Keep Patient IDs, and paths that name a patient, out of the run folder.",
)
@_skip_invalid
@_log_json
@click.option(
    "--tensorboard",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Folder of TensorBoard's to write curves and figures to, while it trains.",
)
@click.pass_context
def fit(ctx: click.Context, data: str | None, **options: Any) -> None:
    """Train a classifier on DATA and write a run folder.

    DATA is a Kaggle-style folder (labels.csv and slices), a folder of two class folders, a CSV
    manifest (path,label[,patient][,split][,frame]), or RSNA 2019, PhysioNet ct-ich or CQ500 as they
    are unpacked; of PNG, JPEG, DICOM or NIfTI files. Without DATA: synthetic phantoms and the
    backbone that comes with the package.
    """
    import hemorrhage_tf as api
    from hemorrhage_tf.cli.tables import print_run

    # What the user left out is the library's to fill in; it may depend on DATA.
    given = {
        name: value
        for name, value in options.items()
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    run = api.fit(data, **given)
    if run.worker:
        click.echo(f"Worker {run.worker}: done. The chief writes {run.path}.")
    else:
        print_run(run)


@main.command(
    epilog=_examples(
        "hemorrhage-tf evaluate runs/first other_hospital",
        "hemorrhage-tf evaluate runs/first/model.keras head_ct --json",
        "hemorrhage-tf evaluate runs/first other_hospital --report report.html",
        "hemorrhage-tf evaluate runs/first runs/second other_hospital --prevalence 0.1",
        "hemorrhage-tf evaluate head_ct --tta",
        "hemorrhage-tf evaluate runs/first phantomnet head_ct",
    )
)
@click.argument("models", nargs=-1, type=click.Path(), metavar="[MODEL [OTHER]]")
@click.argument("data", type=click.Path())
@click.option("--report", type=click.Path(), help="HTML file to write, with pictures and curves.")
@_prevalence
@_positive
@_target
@_window
@_flips
@_skip_invalid
@_log_json
@_as_json
def evaluate(models: tuple[str, ...], data: str, as_json: bool, **options: Any) -> None:
    """Compute the figures of MODEL on labeled DATA, and compare it with OTHER.

    MODEL is a run folder, its .keras file, what was exported from it, or phantomnet, the embedded
    model, which is taken where no other is named. Labels of whole scans are compared with the mean
    of the three highest probabilities of a scan's slices, at a threshold of their own where the
    model has one.
    """
    import hemorrhage_tf as api
    from hemorrhage_tf.cli.tables import print_comparison, print_metrics

    if len(models) > 2:
        raise click.UsageError("give one model, or two to compare, and then DATA")
    against = models[1] if len(models) == 2 else None
    evaluation = api.evaluate(models[0] if models else None, data, against=against, **options)
    models = models or (EMBEDDED_MODEL,)
    if as_json:
        figures = {**evaluation.metrics, "comparison": evaluation.comparison}
        click.echo(json.dumps(figures, indent=2, sort_keys=True))
        return
    print_metrics(evaluation.metrics, f"{models[0]} on {data}")
    if options["report"]:
        click.echo(f"Report: {options['report']}")
    if evaluation.comparison is not None:
        print_comparison(evaluation.comparison, *models)


@main.command(
    epilog=_examples(
        "hemorrhage-tf predict scan.png",
        "hemorrhage-tf predict runs/first scans/ 'more/*.jpg' --csv > findings.csv",
        "hemorrhage-tf predict runs/first series/ scan.nii.gz --cam overlays",
        "hemorrhage-tf predict scans/ --tta",
    )
)
@click.argument(
    "arguments", nargs=-1, required=True, type=click.Path(), metavar="[MODEL] IMAGES..."
)
@_as_json
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV of the slices, and nothing else.")
@click.option("--cam", type=click.Path(), help="Folder for overlays of what speaks for hemorrhage.")
@_window
@_flips
@_skip_invalid
def predict(arguments: tuple[str, ...], as_json: bool, as_csv: bool, **options: Any) -> None:
    """Predict IMAGES with MODEL.

    IMAGES are PNG, JPEG, DICOM or NIfTI files, folders or globs. MODEL is a run folder, its .keras
    file, what was exported from it, or phantomnet, the embedded model; where the first argument is
    none of these, all are images for the embedded model, which was trained on synthetic phantoms
    alone. A slice that does not look like a head CT gets a warning beside its probability. The
    slices of a series or volume are sorted from the neck to
    the vertex, and the scan gets a line of its own.
    """
    import hemorrhage_tf as api
    from hemorrhage_tf.cli.tables import print_prediction
    from hemorrhage_tf.inference.loading import model_and_images

    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    prediction = api.predict(*model_and_images(arguments), **options)
    if as_json:
        click.echo(json.dumps(prediction.to_dict(), indent=2))
    elif as_csv:
        rows = prediction.to_dict()["slices"]
        writer = csv.DictWriter(sys.stdout, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        print_prediction(prediction)


@main.command(
    epilog=_examples(
        "hemorrhage-tf export runs/first saved_models/first.tflite --quantize int8",
        "hemorrhage-tf export runs/first saved_models/hemorrhage/1",
        "hemorrhage-tf export phantomnet saved_models/phantomnet.tflite --quantize int8 --cam",
    )
)
@click.argument("model", type=click.Path())
@click.argument("target", type=click.Path())
@click.option(
    "--quantize",
    type=click.Choice(QUANTIZATIONS),
    default="none",
    show_default=True,
    help="Of a TFLite file: float16 or int8 weights (dynamic), or int8 throughout.",
)
@click.option(
    "--input-type",
    type=click.Choice(INPUT_TYPES),
    default="float32",
    show_default=True,
    help="Type of the pixels in [0, 255].",
)
@click.option("--cam", is_flag=True, help="Give the class activation map as well (TFLite).")
@click.option(
    "--batch",
    type=click.Choice(BATCHES),
    default="static",
    show_default=True,
    help="Batches of one, or of any size (TFLite).",
)
@click.option(
    "--verify",
    type=click.Path(),
    help=f"Compare on these slices.  [default: the run's; phantoms for {EMBEDDED_MODEL}]",
)
@click.option(
    "--representative",
    type=click.Path(),
    help="Calibrate int8 on these slices.  [default: those the run trained on; phantoms for "
    f"{EMBEDDED_MODEL}]",
)
@click.option(
    "--calibration-slices",
    type=int,
    default=DEFAULT_CALIBRATION_SLICES,
    show_default=True,
    help="Slices to calibrate int8 on, at most.",
)
def export(model: str, target: str, **options: Any) -> None:
    """Export MODEL to TARGET: a .tflite file, or else a SavedModel folder.

    MODEL is a run folder, its .keras file, or phantomnet, the embedded model. TARGET is verified
    against it before it is written.
    """
    import hemorrhage_tf as api
    from hemorrhage_tf.cli.tables import print_export

    print_export(api.export(model, target, **options))


@main.command(
    epilog=_examples(
        "hemorrhage-tf benchmark runs/first saved_models/first.tflite",
        "hemorrhage-tf benchmark saved_models/*.tflite --threads 2 --json",
        "hemorrhage-tf benchmark phantomnet runs/first",
    )
)
@click.argument("models", nargs=-1, required=True, type=click.Path())
@click.option("--images", multiple=True, type=click.Path(), help="Slices.  [default: phantoms]")
@click.option("--threads", type=int, default=1, show_default=True, help="Threads to run with.")
@click.option("--batch-size", type=int, default=32, show_default=True, help="For the throughput.")
@click.option("--rounds", type=int, default=30, show_default=True, help="For the latency.")
@_as_json
def benchmark(models: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Compare MODELS: size, load time, latency, throughput, memory, agreement with the first.

    Each is measured in a process of its own.
    """
    import hemorrhage_tf as api
    from hemorrhage_tf.cli.tables import print_benchmark

    measurements = api.benchmark(models, **options)
    if as_json:
        click.echo(json.dumps([one.to_dict() for one in measurements], indent=2, sort_keys=True))
    else:
        print_benchmark(measurements)


@main.command(
    epilog=_examples(
        "hemorrhage-tf audit head_ct",
        "hemorrhage-tf audit slices --positive bleed --strict --json",
        "hemorrhage-tf audit head_ct --html audit.html",
    )
)
@click.argument("data", type=click.Path())
@click.option(
    "--strict",
    is_flag=True,
    help="Leave with 1 where size, mode and format, or the border, tell the classes apart.",
)
@click.option("--html", type=click.Path(), help="HTML file to write the same to.")
@_positive
@_target
@_as_json
@click.pass_context
def audit(ctx: click.Context, data: str, strict: bool, as_json: bool, **options: Any) -> None:
    """Find what is wrong with labeled DATA, and what gives the labels away.

    Unreadable files, duplicates and contradicting labels; what differs between the classes and is
    not anatomy; and how well simple models do that see that alone.
    """
    import hemorrhage_tf as api
    from hemorrhage_tf.cli.tables import print_audit

    found = api.audit(data, **options)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, sort_keys=True, allow_nan=False))
    else:
        print_audit(found)
        if options["html"]:
            click.echo(f"Page: {options['html']}")
    if strict and found.leaks:
        ctx.exit(1)


@main.command(
    epilog=_examples(
        "hemorrhage-tf phantoms synthetic --count 1000",
        "hemorrhage-tf phantoms synthetic --count 20 --seed 7 --format dicom",
    )
)
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--count", type=int, default=100, show_default=True, help="Slices to draw.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same gives the same.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="png",
    show_default=True,
    help="png: as from screens; dicom and nifti: in Hounsfield units, as from a scanner.",
)
@click.option(
    "--size", type=int, default=DEFAULT_SIZE, show_default=True, help="Side in pixels, 64 to 512."
)
def phantoms(folder: str, **options: Any) -> None:
    """Draw synthetic head-CT slices into DIR, with masks and a manifest.

    They show nobody. Every second one has a hemorrhage of one or two of the five subtypes; all have
    what is bright and no hemorrhage, and what scanners and screens do to a slice.
    """
    import hemorrhage_tf as api

    click.echo(f"Phantoms: {api.phantoms(folder, workers=os.cpu_count() or 1, **options)}")


@main.group(
    epilog=_examples(
        "hemorrhage-tf cache info",
        "hemorrhage-tf cache prune --limit 10GB --older-than 30",
        "hemorrhage-tf cache clear --yes",
    )
)
def cache() -> None:
    """Look at the feature cache, and make room in it.

    Backbone features are computed once and kept there. Whatever is removed is computed again by the
    next fit that needs it; what a fit uses just now is not removed.
    """


@cache.command()
@_cache
@_as_json
def info(cache: str | None, as_json: bool) -> None:
    """Say what the cache holds."""
    import hemorrhage_tf as api
    from hemorrhage_tf.cli.tables import print_cache

    found = api.cache_info(cache)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, sort_keys=True))
    else:
        print_cache(found)


@cache.command()
@_cache
@click.option(
    "--limit",
    metavar="SIZE",
    help=f"What may stay, such as 10GB or none.  [default: ${LIMIT_VARIABLE}, or {DEFAULT_LIMIT}]",
)
@click.option(
    "--older-than",
    "older_than_days",
    type=click.FloatRange(0),
    metavar="DAYS",
    help="Also remove what was not used for so many days.",
)
def prune(**options: Any) -> None:
    """Remove what was used longest ago, and what killed processes left behind."""
    import hemorrhage_tf as api
    from hemorrhage_tf.cli.tables import print_pruned

    print_pruned(api.cache_prune(**options))


@cache.command()
@_cache
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(cache: str | None, yes: bool) -> None:
    """Remove all computed features and drawn phantoms."""
    import hemorrhage_tf as api
    from hemorrhage_tf.cli.tables import print_pruned

    if not yes:
        click.confirm(f"Remove all features in {api.cache_info(cache).folder}?", abort=True)
    print_pruned(api.cache_clear(cache))

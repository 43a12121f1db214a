"""Tables on standard output: how the CLI shows a run, an evaluation and findings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from hemorrhage_tf.api import Run
from hemorrhage_tf.exporters.benchmark import Measurement
from hemorrhage_tf.exporters.export import Export
from hemorrhage_tf.inference import Prediction

_UNWRAPPED = 10_000  # columns: piped output has no width that a path would have to be cut to


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNWRAPPED
    return console


def print_run(run: Run) -> None:
    """Prints a fit's figures, split and settings, and where the run is."""
    print_metrics(run.metrics, str(run.path))
    settings, data = run.config["settings"], run.config["data"]
    table = Table(box=box.SIMPLE, show_header=False, title="Settings", title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _settings_rows(settings, data, run.config):
        table.add_row(name, value)
    console = _console()
    console.print(table)
    console.print(f"Run folder: {run.path}", markup=False, soft_wrap=True)


def _settings_rows(
    settings: dict[str, Any], data: dict[str, Any], config: dict[str, Any]
) -> Iterable[tuple[str, str]]:
    yield (
        "data",
        f"{data['slices']} slices ({data['hemorrhage']} with hemorrhage), {data['layout']}, "
        f"{data['groups']} groups",
    )
    if settings["folds"]:
        repeats = f", {settings['repeats']} times" if settings["repeats"] > 1 else ""
        yield (
            "split",
            (
                f"{settings['folds']} folds{repeats}, stratified, groups "
                "whole; the saved model is trained on all"
            ),
        )
    else:
        yield "split", f"{settings['test_fraction']:.0%} to test on, stratified, groups whole"
    layer = f" to {settings['feature_layer']}" if settings["feature_layer"] else ""
    frozen = "frozen while the head trains" if settings["fine_tune_epochs"] else "frozen"
    yield "backbone", f"{settings['backbone']}{layer}, weights {settings['weights']}, {frozen}"
    model = config["model"]
    form = "the canonical head, " if model["canonical"] else ""
    window = f", window {','.join(model['window'])}" if model["window"] else ""
    yield "input", f"{form}{settings['image_size']} x {settings['image_size']}{window}"
    yield "pooling", settings["pooling"]
    views = (
        f"{settings['views']} views, cached" if settings["feature_cache"] else "fresh each epoch"
    )
    yield "augmentation", f"{', '.join(settings['augment']) or 'none'} ({views})"
    yield (
        "training",
        (
            f"{settings['epochs']} epochs, batches of {settings['batch_size']}, learning rate "
            f"{settings['learning_rate']:g}, class weights {settings['class_weights']}"
        ),
    )
    if settings["fine_tune_epochs"]:
        yield (
            "fine-tuning",
            (
                f"from {settings['fine_tune_from']}, {settings['fine_tune_epochs']} epochs, "
                f"learning rate {settings['fine_tune_learning_rate']:g}"
            ),
        )
    replicas = "1 replica" if config["replicas"] == 1 else f"{config['replicas']} replicas"
    yield "devices", f"{replicas}, training features in {config['training_feature_precision']}"
    yield "seed", str(settings["seed"])
    yield "time", f"{config['seconds']:.0f} s"


def print_metrics(metrics: dict[str, Any], title: str) -> None:
    """Prints figures with their intervals, and the confusion matrix."""
    console = _console()
    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    table.add_column("figure", style="bold")
    table.add_column("estimate", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("n", justify="right")
    for name, label in (
        ("accuracy", "accuracy"),
        ("sensitivity", "sensitivity"),
        ("specificity", "specificity"),
    ):
        figure = metrics[name]
        if figure is None:
            table.add_row(label, "-", "no such slices", "0")
            continue
        table.add_row(
            label,
            f"{figure['estimate']:.1%}",
            f"{figure['low']:.1%} to {figure['high']:.1%}",
            str(figure["n"]),
        )
    area = metrics["roc_auc"]
    if area is None:
        table.add_row("ROC AUC", "-", "needs both classes", str(metrics["n"]))
    else:
        table.add_row(
            "ROC AUC",
            f"{area['estimate']:.3f}",
            f"{area['low']:.3f} to {area['high']:.3f}",
            str(area["n"]),
        )
    console.print(table)
    counts = metrics["confusion"]
    matrix = Table(box=box.SIMPLE, title="Confusion matrix", title_justify="left")
    matrix.add_column("")
    matrix.add_column("called hemorrhage", justify="right")
    matrix.add_column("called normal", justify="right")
    for label, hit, miss in (
        ("hemorrhage", "true_positive", "false_negative"),
        ("normal", "false_positive", "true_negative"),
    ):
        matrix.add_row(label, f"{counts[hit]:g}", f"{counts[miss]:g}")
    console.print(matrix)
    evaluated_on = metrics.get("evaluated_on", f"{metrics['n']} slices")
    mean = " Means over the repeats." if len(metrics["repeats"]["accuracy"]) > 1 else ""
    console.print(
        f"Evaluated on {evaluated_on}, at a threshold of {metrics['threshold']:g}.{mean} "
        "Accuracy, sensitivity and specificity with Wilson intervals, ROC AUC with DeLong's.",
        markup=False,
    )


def print_prediction(prediction: Prediction) -> None:
    """Prints one line a slice, and one a scan."""
    table = Table(box=box.SIMPLE)
    table.add_column("path", overflow="fold")
    table.add_column("probability", justify="right")
    table.add_column("hemorrhage")
    for finding in prediction:
        table.add_row(
            _plain(finding.path),
            f"{finding.probability:.3f}",
            "yes" if finding.is_hemorrhage else "no",
        )
    console = _console()
    console.print(table)
    if not prediction.scans:
        return
    scans = Table(box=box.SIMPLE)
    scans.add_column("scan", overflow="fold", style="bold")
    for name in ("slices", "flagged", "highest", "mean of top 3"):
        scans.add_column(name, justify="right")
    scans.add_column("hemorrhage")
    for found in prediction.scans:
        scans.add_row(
            _plain(found.scan),
            str(found.slices),
            str(found.flagged),
            f"{found.highest:.3f}",
            f"{found.mean_of_top:.3f}",
            "yes" if found.is_hemorrhage else "no",
        )
    console.print(scans)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def print_export(export: Export) -> None:
    """Prints how an export compares with the model that it was made from."""
    table = Table(box=box.SIMPLE, title=f"{export.path} ({export.form})", title_justify="left")
    table.add_column("verified", style="bold")
    for name in ("slices", "largest difference", "mean difference", "changed decisions", "ROC AUC"):
        table.add_column(name, justify="right")
    for name, found in export.verifications.items():
        areas = "-"
        if found.roc_auc is not None:
            areas = f"{found.roc_auc:.4f} (was {found.roc_auc_before:.4f})"
        table.add_row(
            name,
            str(found.slices),
            f"{found.largest_difference:.1e}",
            f"{found.mean_difference:.1e}",
            str(found.changed),
            areas,
        )
    console = _console()
    console.print(table)
    console.print(f"Size: {export.size_bytes / 1e6:.2f} MB", markup=False)


def print_benchmark(measurements: Iterable[Measurement]) -> None:
    """Prints one line a model."""
    table = Table(box=box.SIMPLE)
    table.add_column("model", overflow="fold", style="bold")
    for name in (
        *("form", "MB", "load s", "median ms", "95 % ms", "slices/s", "peak MiB"),
        *("largest diff.", "mean diff.", "changed"),
    ):
        table.add_column(name, justify="right")
    for one in measurements:
        table.add_row(
            _plain(str(one.path)),
            one.format,
            f"{one.size_bytes / 1e6:.2f}",
            f"{one.load_seconds:.2f}",
            f"{one.latency_ms_median:.1f}",
            f"{one.latency_ms_p95:.1f}",
            f"{one.throughput:.0f}",
            f"{one.peak_mib:.0f}",
            f"{one.largest_difference:.1e}",
            f"{one.mean_difference:.1e}",
            f"{one.changed} of {one.slices}",
        )
    _console().print(table)

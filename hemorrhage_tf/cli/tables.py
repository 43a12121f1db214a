"""Tables on standard output: how the CLI shows a run, an evaluation and findings."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from hemorrhage_tf.auditing.audit_result import Audit, Pair
from hemorrhage_tf.core.formatting import format_size
from hemorrhage_tf.exporters.benchmark import Measurement
from hemorrhage_tf.exporters.export import Export
from hemorrhage_tf.inference.predictions import Prediction
from hemorrhage_tf.models.backbone_options import cut_backbones, split_values
from hemorrhage_tf.models.backbones import BACKBONES
from hemorrhage_tf.training.features.cache_limits import CacheInfo, Pruned
from hemorrhage_tf.verbs.results import Run

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
    frozen = "frozen while the head trains" if settings["fine_tune_epochs"] else "frozen"
    model = config["model"]
    weights = split_values(settings["weights"], settings["backbone"])
    for name, cut in cut_backbones(settings["backbone"], settings["feature_layer"]).items():
        side = settings["image_size"] or BACKBONES[name].image_size
        sees = "" if side == model["image_size"] else f", sees {side} x {side}"
        yield "backbone", f"{cut}, weights {weights[name]}, {frozen}{sees}"
    form = "the head crop, " if model["crop_head"] else ""
    window = f", window {','.join(model['window'])}" if model["window"] else ""
    yield "input", f"{form}{model['image_size']} x {model['image_size']}{window}"
    yield "pooling", settings["pooling"]
    views = (
        f"{settings['views']} views, cached" if settings["feature_cache"] else "fresh each epoch"
    )
    yield "augmentation", f"{', '.join(settings['augment']) or 'none'} ({views})"
    if config["head_solver"] == "lbfgs":
        training = f"L-BFGS to convergence, l2 {settings['l2']:.3g}"
    else:
        training = (
            f"{settings['epochs']} epochs, batches of {settings['batch_size']}, learning rate "
            f"{settings['learning_rate']:g}"
        )
    yield "training", f"{training}, class weights {settings['class_weights']}"
    if settings["fine_tune_epochs"]:
        yield (
            "fine-tuning",
            (
                f"from {settings['fine_tune_from']}, {settings['fine_tune_epochs']} epochs, "
                f"learning rate {settings['fine_tune_learning_rate']:g}"
            ),
        )
    replicas = "1 replica" if config["replicas"] == 1 else f"{config['replicas']} replicas"
    policies = split_values(config["training_feature_precision"], settings["backbone"])
    yield (
        "devices",
        f"{replicas}, training features in {' and '.join(dict.fromkeys(policies.values()))}",
    )
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
        ("ppv", "PPV"),
        ("npv", "NPV"),
    ):
        figure = metrics[name]
        if figure is None:
            table.add_row(label, "-", "no such slices", "0")
            continue
        table.add_row(
            label,
            f"{figure['estimate']:.1%}",
            f"{figure['low']:.1%} to {figure['high']:.1%}",
            f"{figure['n']:.4g}",
        )
    there = metrics.get("at_prevalence")
    for name in ("ppv", "npv") if there else ():
        if there[name] is not None:
            table.add_row(
                f"{name.upper()} at a prevalence of {there['prevalence']:g}",
                f"{there[name]['estimate']:.1%}",
                f"{there[name]['low']:.1%} to {there[name]['high']:.1%}",
                "",
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
    calibration = metrics["calibration"]
    for label, figure in (
        ("PR AUC", metrics["pr_auc"]),
        ("Brier score", metrics["brier"]),
        ("calibration slope", calibration["slope"]),
        ("calibration intercept", calibration["intercept"]),
    ):
        if figure is not None:
            table.add_row(
                label,
                f"{figure['estimate']:.3f}",
                f"{figure['low']:.3f} to {figure['high']:.3f}",
                str(figure["n"]),
            )
    shortcut = metrics.get("best_shortcut")
    if shortcut:
        area = shortcut["roc_auc"]
        table.add_row(
            f"ROC AUC of {shortcut['name']} alone",
            f"{area['estimate']:.3f}",
            f"{area['low']:.3f} to {area['high']:.3f}",
            str(area["n"]),
            style="yellow",
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
        f"Evaluated on {evaluated_on}, at a threshold of {metrics['threshold']:.4g}"
        f"{_chosen(metrics)}.{mean} {_INTERVALS[metrics['intervals_of']]}",
        markup=False,
        soft_wrap=True,
    )
    for note in metrics["notes"]:
        console.print(note[:1].upper() + note[1:], markup=False, soft_wrap=True)
    if metrics.get("leaks"):
        console.print(
            f"{len(metrics['leaks'])} slices stand on both sides of the split with their patient "
            "or twin (--allow-leak): these figures flatter the model.",
            style="bold red",
            markup=False,
        )


_INTERVALS = {
    "slices": "Proportions with Wilson intervals, ROC AUC with DeLong's on the logit scale.",
    "patients": "Intervals are over patients, who were drawn whole.",
}


def _chosen(metrics: dict[str, Any]) -> str:
    point = metrics.get("operating_point")
    if not point or point["criterion"].startswith("threshold"):
        return ""
    return f" ({point['criterion']}, chosen out of fold)"


def print_comparison(comparison: dict[str, Any], first: str, second: str) -> None:
    """Prints how two models differ on the same slices."""
    table = Table(box=box.SIMPLE, title="Compared on the same slices", title_justify="left")
    table.add_column("figure", style="bold")
    for name in (first, second):
        table.add_column(_plain(str(name)), justify="right", overflow="fold")
    for name in ("difference", "95 % interval", "p"):
        table.add_column(name, justify="right")
    table.add_column("test")
    for name in ("accuracy", "sensitivity", "specificity", "roc_auc"):
        found = comparison[name]
        if found is None:
            continue
        difference = found["difference"]
        p = found["p_value"]
        table.add_row(
            name.replace("roc_auc", "ROC AUC"),
            f"{found['first']['estimate']:.3f}",
            f"{found['second']['estimate']:.3f}",
            f"{difference['estimate']:+.3f}",
            f"{difference['low']:+.3f} to {difference['high']:+.3f}",
            "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}",
            found["method"],
        )
    _console().print(table)


def print_prediction(prediction: Prediction) -> None:
    """Prints one line a slice, and one a scan."""
    table = Table(box=box.SIMPLE)
    table.add_column("path", overflow="fold")
    table.add_column("probability", justify="right")
    table.add_column("hemorrhage")
    warned = any(finding.warning for finding in prediction)
    if warned:
        table.add_column("warning", style="yellow", overflow="fold")
    for finding in prediction:
        table.add_row(
            _plain(finding.path),
            f"{finding.probability:.3f}",
            "yes" if finding.is_hemorrhage else "no",
            *([finding.warning or ""] if warned else []),
        )
    console = _console()
    console.print(table)
    if not prediction.scans:
        return
    scans = Table(box=box.SIMPLE)
    scans.add_column("scan", overflow="fold", style="bold")
    for name in ("slices", "flagged", "highest", "mean of top 3", "threshold"):
        scans.add_column(name, justify="right")
    scans.add_column("hemorrhage")
    for found in prediction.scans:
        scans.add_row(
            _plain(found.scan),
            str(found.slices),
            str(found.flagged),
            f"{found.highest:.3f}",
            f"{found.mean_of_highest:.3f}",
            f"{found.threshold:.3f}",
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


def print_audit(audit: Audit) -> None:
    """Prints what an audit found, the conclusions last."""
    console = _console()
    console.print(
        f"{audit.slices} slices ({audit.hemorrhage} with hemorrhage), {audit.layout}, "
        f"{audit.groups} groups",
        markup=False,
        style="bold",
    )
    if audit.problems:
        problems = Table(box=box.SIMPLE, title="Files and rows that cannot be used")
        problems.add_column("path", overflow="fold")
        problems.add_column("reason", overflow="fold")
        for problem in audit.problems:
            problems.add_row(_plain(problem.path), _plain(problem.reason))
        _print_left(console, problems)
    if audit.pairs:
        _print_left(console, _pairs_table(audit.pairs))
    _print_left(console, _storage_table(audit))
    if audit.patients.count:
        _print_left(console, _patients_table(audit))
    if audit.differences:
        _print_left(console, _differences_table(audit))
    if audit.shortcuts:
        _print_left(console, _shortcuts_table(audit))
    for sentence in audit.conclusions:
        console.print(sentence, markup=False, soft_wrap=True)


def _print_left(console: Console, table: Table) -> None:
    table.title_justify = "left"
    console.print(table)


def _pairs_table(pairs: Iterable[Pair]) -> Table:
    table = Table(box=box.SIMPLE, title="Slices that show the same picture")
    table.add_column("first", overflow="fold")
    table.add_column("second", overflow="fold")
    table.add_column("relation")
    for name in ("correlation", "sizes", "labels"):
        table.add_column(name, justify="right")
    for pair in pairs:
        width, height = pair.first_size
        sizes = f"{width} x {height}"
        if pair.first_size != pair.second_size:
            width, height = pair.second_size
            sizes += f", {width} x {height}"
        labels = f"{pair.first_label}, {pair.second_label}"
        table.add_row(
            _plain(pair.first),
            _plain(pair.second),
            pair.relation,
            f"{pair.correlation:.3f}",
            sizes,
            f"{labels} contradicting" if pair.contradicting else labels,
        )
    return table


def _storage_table(audit: Audit) -> Table:
    table = Table(box=box.SIMPLE, title="How the slices are stored")
    table.add_column("format", style="bold")
    table.add_column("mode")
    for name in ("bits", "hemorrhage", "normal"):
        table.add_column(name, justify="right")
    for each in audit.storage:
        table.add_row(
            each.file_format, each.mode, str(each.bits), str(each.hemorrhage), str(each.normal)
        )
    return table


def _patients_table(audit: Audit) -> Table:
    patients = audit.patients
    table = Table(box=box.SIMPLE, title="Patients", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("patients", str(patients.count))
    table.add_row("with hemorrhage only", str(patients.with_hemorrhage))
    table.add_row("without only", str(patients.without))
    table.add_row("with both", str(patients.with_both))
    table.add_row("slices each, median", f"{patients.median_slices:g}")
    table.add_row("slices each, most", str(patients.most_slices))
    table.add_row("slices without a patient", str(patients.unnamed))
    return table


def _differences_table(audit: Audit) -> Table:
    table = Table(box=box.SIMPLE, title="Differences between the classes that are not anatomy")
    table.add_column("property", style="bold")
    table.add_column("hemorrhage", overflow="fold")
    table.add_column("normal", overflow="fold")
    table.add_column("effect", justify="right")
    table.add_column("p (Holm)", justify="right")
    for each in audit.differences:
        p = "< 0.001" if each.p_adjusted < 0.001 else f"{each.p_adjusted:.3f}"
        table.add_row(
            each.name,
            each.hemorrhage,
            each.normal,
            f"{each.measure} {each.effect:.2f}",
            p,
            style="yellow" if each.significant else None,
        )
    return table


def _shortcuts_table(audit: Audit) -> Table:
    table = Table(box=box.SIMPLE, title="What simple models reach that see only this")
    table.add_column("seen", style="bold")
    table.add_column("model")
    table.add_column("ROC AUC", justify="right")
    table.add_column("95 % interval")
    table.add_column("above chance")
    for each in audit.shortcuts:
        area = each.roc_auc
        table.add_row(
            each.name,
            each.model,
            "-" if area is None else f"{area.estimate:.3f}",
            (each.reason or "-") if area is None else f"{area.low:.3f} to {area.high:.3f}",
            "yes" if each.above_chance else "no" if area is not None else "-",
        )
    return table


def print_cache(info: CacheInfo) -> None:
    """Prints what the feature cache holds."""
    console = _console()
    limit = "no limit" if info.limit is None else f"limit {format_size(info.limit)}"
    console.print(f"Cache: {info.folder}", markup=False, soft_wrap=True)
    console.print(
        f"{format_size(info.bytes)} of features ({limit}); {format_size(info.other_bytes)} of drawn "
        "phantoms and others"
    )
    if not info.entries:
        return
    table = Table(box=box.SIMPLE, title="Features", title_justify="left")
    for name in ("backbone", "layer", "image size", "precision", "kept as"):
        table.add_column(name)
    for name in ("views", "size"):
        table.add_column(name, justify="right")
    table.add_column("last used")
    for entry in info.entries:
        about = entry.about
        used = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
        state = " (in use)" if entry.in_use else ""
        if not entry.is_readable:
            state = " (of another version; prune removes it)"
        table.add_row(
            *(str(about.get(key) or "") for key in ("backbone", "feature_layer", "image_size")),
            *(str(about.get(key) or "") for key in ("policy", "dtype")),
            f"{entry.rows:,}",
            format_size(entry.bytes),
            used + state,
        )
    console.print(table)


def print_pruned(pruned: Pruned) -> None:
    """Prints what was removed from the feature cache."""
    console = _console()
    console.print(
        f"Removed: {format_size(pruned.bytes)}, the features of {len(pruned.removed)} sets"
    )
    for entry in pruned.kept_in_use:
        backbone = entry.about.get("backbone", entry.path.name)
        console.print(f"Kept: {backbone}, {format_size(entry.bytes)}: in use", markup=False)

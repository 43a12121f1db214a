"""The tables on standard output: the results of the commands, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

from hemorrhage_tf.auditing.audit_result import Audit
from hemorrhage_tf.cli import audit_tables, level_tables
from hemorrhage_tf.cli.console import create_console
from hemorrhage_tf.cli.set_table import set_table
from hemorrhage_tf.cli.subtype_table import subtype_table
from hemorrhage_tf.core.formatting import format_size
from hemorrhage_tf.models.backbone_options import describe_backbones, split_backbone_values
from hemorrhage_tf.models.backbones import BACKBONES
from hemorrhage_tf.reports.number_formats import format_metric
from hemorrhage_tf.training.features.cache_limits import CacheInfo, PruneResult
from hemorrhage_tf.verbs.results import Run

if TYPE_CHECKING:  # importing an exporter takes longer than printing any other table
    from hemorrhage_tf.exporters.benchmark import Measurement
    from hemorrhage_tf.exporters.export import Export


def print_run(run: Run) -> None:
    """Print the metrics of a fit, its settings, and where the run folder is."""
    print_metrics(run.metrics, str(run.path))
    table = Table(box=box.SIMPLE, show_header=False, title="Settings", title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _settings_rows(run.config):
        table.add_row(name, escape(value))
    console = create_console()
    console.print(table)
    console.print(f"Run folder: {run.path}", markup=False, soft_wrap=True)


def _settings_rows(config: dict[str, Any]) -> Iterable[tuple[str, str]]:
    settings, data, model = config["settings"], config["data"], config["model"]
    yield (
        "data",
        f"{data['slices']} slices ({data['hemorrhage']} with hemorrhage), {data['layout']}, "
        f"{data['groups']} groups",
    )
    yield "split", _describe_split(settings)
    frozen = "frozen while the head trains" if settings["fine_tune_epochs"] else "frozen"
    weights = split_backbone_values(settings["weights"], settings["backbone"])
    for name, cut in describe_backbones(settings["backbone"], settings["feature_layer"]).items():
        side = settings["image_size"] or BACKBONES[name].image_size
        resized = "" if side == model["image_size"] else f", input {side} x {side}"
        yield "backbone", f"{cut}, weights {weights[name]}, {frozen}{resized}"
    # Runs of earlier releases name it `canonical`.
    is_cropped = model.get("crop_head", model.get("canonical"))
    crop = "head crop, " if is_cropped else ""
    window = f", window {','.join(model['window'])}" if model["window"] else ""
    yield "input", f"{crop}{model['image_size']} x {model['image_size']}{window}"
    yield "pooling", settings["pooling"]
    cached = f"{settings['views']} views, cached"
    views = cached if settings["feature_cache"] else "new views each epoch"
    yield "augmentation", f"{', '.join(settings['augment']) or 'none'} ({views})"
    if config["head_solver"] == "lbfgs":
        training = f"L-BFGS to convergence, l2 {settings['l2']:.3g}"
    else:
        training = (
            f"{settings['epochs']} epochs, batch size {settings['batch_size']}, learning rate "
            f"{settings['learning_rate']:g}"
        )
    yield "training", f"{training}, class weights {settings['class_weights']}"
    if settings.get("prior", "none") != "none":
        yield "prior", "the embedded head"
    if settings.get("phantoms"):
        how = "chosen out of fold" if settings["phantom_weight"] is None else "given"
        yield (
            "phantoms",
            f"{settings['phantoms']} besides the data, weight {config['phantom_weight']:g} ({how})",
        )
    if settings["fine_tune_epochs"]:
        yield (
            "fine-tuning",
            f"from {settings['fine_tune_from']}, {settings['fine_tune_epochs']} epochs, "
            f"learning rate {settings['fine_tune_learning_rate']:g}",
        )
    replicas = "1 replica" if config["replicas"] == 1 else f"{config['replicas']} replicas"
    policies = split_backbone_values(config["training_feature_precision"], settings["backbone"])
    precision = " and ".join(dict.fromkeys(str(policy) for policy in policies.values()))
    yield "devices", f"{replicas}, training features in {precision}"
    yield "random seed", str(settings["seed"])
    yield "time", f"{config['seconds']:.0f} s"


def _describe_split(settings: dict[str, Any]) -> str:
    if not settings["folds"]:
        return f"{settings['test_fraction']:.0%} for testing, stratified, grouped"
    repeats = f" x {settings['repeats']} repeats" if settings["repeats"] > 1 else ""
    return (
        f"{settings['folds']} folds{repeats}, stratified, grouped; the saved model is trained on "
        "all slices"
    )


def print_metrics(metrics: dict[str, Any], title: str) -> None:
    """Print the metrics of each level with their intervals, and what limits them."""
    console = create_console()
    levels: Mapping[str, Mapping[str, Any]] = {"": metrics}
    if level_tables.has_levels(metrics):
        levels = level_tables.split_levels(metrics)
        console.print(title, markup=False, style="bold", soft_wrap=True)
        tables = level_tables.level_tables(metrics)
    else:
        tables = iter([_metrics_table(metrics, title), _confusion_table(metrics["confusion"])])
    for table in (
        *tables,
        *level_tables.detail_tables(metrics.get("scan_details")),
        *filter(None, [subtype_table(metrics), set_table(metrics)]),
    ):
        console.print(table)
    for name, level in levels.items():
        text = _describe_evaluation(level)
        if name:
            text = f"{name.capitalize()}: {text[:1].lower()}{text[1:]}"
        console.print(text, markup=False)
    details = metrics.get("scan_details") or {"notes": []}
    notes = [note for level in levels.values() for note in level["notes"]] + details["notes"]
    for note in dict.fromkeys(notes):
        console.print(f"{note[:1].upper()}{note[1:]}.", markup=False)
    shortcut = metrics.get("best_shortcut")
    if shortcut and len(levels) > 1:
        area = format_metric(shortcut["roc_auc"])
        text = f"ROC AUC of {shortcut['name']} alone, by slice: {area}."
        console.print(text, markup=False, style="yellow")
    if metrics.get("leaks"):
        console.print(
            "Slices that share a patient or an exact duplicate with the other side of the split: "
            f"{len(metrics['leaks'])} (--allow-leak). These metrics are optimistic.",
            style="bold red",
            markup=False,
        )


def _describe_evaluation(metrics: Mapping[str, Any]) -> str:
    evaluated_on = metrics.get("evaluated_on", f"{metrics['n']} slices")
    mean = " Means over the repeats." if len(metrics["repeats"]["accuracy"]) > 1 else ""
    return (
        f"Evaluated on {evaluated_on}, at a threshold of {metrics['threshold']:.4g}"
        f"{_describe_operating_point(metrics)}.{mean} {_describe_intervals(metrics)}"
    )


def _describe_intervals(metrics: Mapping[str, Any]) -> str:
    if metrics["intervals_of"] == "patients":
        return f"Intervals: bootstrap over {metrics['n_groups']} patients."
    return "Intervals: Wilson for proportions, DeLong on the logit scale for ROC AUC."


_PROPORTIONS = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "accuracy": "accuracy",
    "ppv": "PPV",
    "npv": "NPV",
}


def _metrics_table(metrics: dict[str, Any], title: str) -> Table:
    table = Table(box=box.SIMPLE, title=escape(title), title_justify="left")
    table.add_column("metric", style="bold")
    for name in ("estimate", "95 % interval", "n"):
        table.add_column(name, justify="right")
    level_tables.add_roc_auc(table, metrics)
    shortcut = metrics.get("best_shortcut")
    if shortcut:  # next to the area that it questions
        area = shortcut["roc_auc"]
        label = f"ROC AUC of {shortcut['name']} alone"
        table.add_row(label, *level_tables.decimal_cells(area), str(area["n"]), style="yellow")
    for key, label in _PROPORTIONS.items():
        metric = metrics[key]
        if metric is None:
            table.add_row(label, "-", "no such slices", "0")
        else:
            table.add_row(label, *level_tables.percent_cells(metric), f"{metric['n']:.4g}")
    level_tables.add_predictive_values(table, metrics)
    calibration = metrics["calibration"]
    for label, metric in (
        ("PR AUC", metrics["pr_auc"]),
        ("Brier score", metrics["brier"]),
        ("calibration slope", calibration["slope"]),
        ("calibration intercept", calibration["intercept"]),
    ):
        if metric is not None:
            table.add_row(label, *level_tables.decimal_cells(metric), str(metric["n"]))
    return table


def _confusion_table(counts: dict[str, float]) -> Table:
    table = Table(box=box.SIMPLE, title="Confusion matrix", title_justify="left")
    table.add_column("")
    table.add_column("predicted hemorrhage", justify="right")
    table.add_column("predicted normal", justify="right")
    table.add_row("hemorrhage", f"{counts['true_positive']:g}", f"{counts['false_negative']:g}")
    table.add_row("normal", f"{counts['false_positive']:g}", f"{counts['true_negative']:g}")
    return table


def _describe_operating_point(metrics: Mapping[str, Any]) -> str:
    point = metrics.get("operating_point")
    if not point or point["criterion"].startswith("threshold"):
        return ""
    if point["criterion"] == "balanced":
        return " (balanced)"
    return f" ({point['criterion']}, chosen out of fold)"


def print_comparison(
    comparison: dict[str, Any], first: str, second: str, level: str = "slices"
) -> None:
    """Print how two models differ on the same slices or scans."""
    title = f"Comparison on the same {level}"
    table = Table(box=box.SIMPLE, title=title, title_justify="left", pad_edge=False)
    table.min_width = len(title)
    table.add_column("metric", style="bold")
    for name in (first, second):
        table.add_column(escape(str(name)), justify="right", overflow="fold")
    for name in ("difference", "95 % interval", "p"):
        table.add_column(name, justify="right")
    methods: dict[str, list[str]] = {}
    for key in ("accuracy", "sensitivity", "specificity", "roc_auc"):
        metric = comparison[key]
        if metric is None:
            continue
        difference, p = metric["difference"], metric["p_value"]
        label = key.replace("roc_auc", "ROC AUC")
        table.add_row(
            label,
            f"{metric['first']['estimate']:.3f}",
            f"{metric['second']['estimate']:.3f}",
            f"{difference['estimate']:+.3f}",
            f"{difference['low']:+.3f} to {difference['high']:+.3f}",
            "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}",
        )
        methods.setdefault(metric["method"], []).append(label)
    tests = [f"{method} ({', '.join(labels)})" for method, labels in methods.items()]
    console = create_console()
    console.print(table)
    console.print(f"p: {'; '.join(tests)}.", markup=False, soft_wrap=True)


def print_export(export: Export) -> None:
    """Print how an export agrees with the model that it was made from."""
    title = escape(f"{export.path} ({export.form})")
    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    table.add_column("verified", style="bold")
    for name in ("slices", "largest difference", "mean difference", "changed decisions", "ROC AUC"):
        table.add_column(name, justify="right")
    for name, verification in export.verifications.items():
        areas = "-"
        if verification.roc_auc is not None:
            areas = f"{verification.roc_auc:.4f} (was {verification.roc_auc_before:.4f})"
        table.add_row(
            name,
            str(verification.slices),
            f"{verification.largest_difference:.1e}",
            f"{verification.mean_difference:.1e}",
            str(verification.changed),
            areas,
        )
    console = create_console()
    console.print(table)
    console.print(f"Size: {export.size_bytes / 1e6:.2f} MB", markup=False)


_MEASUREMENT_COLUMNS = (
    "form",
    "MB",
    "load s",
    "median ms",
    "95 % ms",
    "slices/s",
    "peak MiB",
    "largest diff.",
    "mean diff.",
    "changed",
)


def print_benchmark(measurements: Iterable[Measurement]) -> None:
    """Print one line for each model."""
    table = Table(box=box.SIMPLE)
    table.add_column("model", overflow="fold", style="bold")
    for name in _MEASUREMENT_COLUMNS:
        table.add_column(name, justify="right")
    for one in measurements:
        table.add_row(
            escape(str(one.path)),
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
    create_console().print(table)


def print_audit(audit: Audit) -> None:
    """Print the result of an audit, the conclusions last."""
    console = create_console()
    console.print(
        f"{audit.slices} slices ({audit.hemorrhage} with hemorrhage), {audit.layout}, "
        f"{audit.groups} groups",
        markup=False,
        style="bold",
    )
    for table in audit_tables.tables_of(audit):
        table.title_justify = "left"
        table.min_width = len(str(table.title))  # else a short table breaks its title
        console.print(table)
    for sentence in audit.conclusions:
        console.print(sentence, markup=False, soft_wrap=True)


def print_cache(info: CacheInfo) -> None:
    """Print a summary of the feature cache."""
    console = create_console()
    limit = "no limit" if info.limit is None else f"limit {format_size(info.limit)}"
    console.print(f"Cache: {info.folder}", markup=False, soft_wrap=True)
    console.print(
        f"{format_size(info.bytes)} of features ({limit}), {format_size(info.other_bytes)} of "
        "phantoms and other files"
    )
    if not info.entries:
        return
    table = Table(box=box.SIMPLE, title="Features", title_justify="left")
    for name in ("backbone", "layer", "image size", "precision", "stored as"):
        table.add_column(name)
    for name in ("views", "size"):
        table.add_column(name, justify="right")
    table.add_column("last used")
    for entry in info.entries:
        used = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
        state = " (in use)" if entry.in_use else ""
        if not entry.is_readable:
            state = " (from another version; prune removes it)"
        keys = ("backbone", "feature_layer", "image_size", "policy", "dtype")
        described = [str(entry.about.get(key) or "") for key in keys]
        table.add_row(*described, f"{entry.rows:,}", format_size(entry.bytes), used + state)
    console.print(table)


def print_pruned(pruned: PruneResult) -> None:
    """Print what was removed from the feature cache."""
    console = create_console()
    sets = "1 feature set" if len(pruned.removed) == 1 else f"{len(pruned.removed)} feature sets"
    console.print(f"Removed: {format_size(pruned.bytes)}, {sets}")
    for entry in pruned.kept_in_use:
        backbone = entry.about.get("backbone", entry.path.name)
        console.print(f"In use, not removed: {backbone}, {format_size(entry.bytes)}", markup=False)

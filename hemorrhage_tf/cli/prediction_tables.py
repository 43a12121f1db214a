"""What `predict` shows on a terminal: each scan with the slices to look at, then its slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hemorrhage_tf.cli.console import create_console
from hemorrhage_tf.cli.probability_bar import ProbabilityBar
from hemorrhage_tf.inference.predictions import Prediction, ScanPrediction, SlicePrediction


def print_prediction(prediction: Prediction) -> None:
    """Print each scan with the slices to look at and all its slices, then the other slices."""
    console = create_console()
    for part in parts_of(prediction):
        console.print(part)


def parts_of(prediction: Prediction) -> Iterator[RenderableType]:
    """Yield what to print: the scans one after the other, then the slices of no scan."""
    for scan in prediction.scans:
        members = [one for one in prediction if one.scan == scan.scan]
        yield _headline(scan)
        yield ProbabilityBar(
            [one.final_probability for one in members], [one.is_hemorrhage for one in members]
        )
        yield _top_table(scan, members)
        yield _slice_table(members)
    single = [one for one in prediction if one.scan is None]
    if single:
        yield _slice_table(single)


def _headline(scan: ScanPrediction) -> Text:
    decision = "hemorrhage" if scan.is_hemorrhage else "no hemorrhage"
    text = Text(f"{scan.scan}: {decision}", style="bold")
    text.append(
        f"\nprobability {scan.probability:.3f}, threshold {scan.threshold:.3f}; {scan.flagged} of "
        f"{scan.slices} slices flagged",
        style="not bold",
    )
    if scan.disagreement is not None:
        text.append(f"\n{scan.disagreement}", style="not bold")
    return text


def _top_table(scan: ScanPrediction, members: Sequence[SlicePrediction]) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("slices to look at", overflow="fold", style="bold")
    table.add_column("place", justify="right")
    table.add_column("probability", justify="right")
    for path, place in zip(scan.top_slices, scan.top_positions, strict=True):
        probability = members[place - 1].final_probability
        table.add_row(escape(path), f"{place} of {scan.slices}", f"{probability:.3f}")
    return table


def _slice_table(slices: Sequence[SlicePrediction]) -> Table:
    """Return a table of the slices of one scan, or of none, with the columns that they need."""
    in_scan = any(one.probability_in_scan is not None for one in slices)
    has_subtypes = any(one.subtypes for one in slices)
    has_warnings = any(one.warning for one in slices)
    is_scan = slices[0].scan is not None
    table = Table(box=box.SIMPLE)
    if is_scan:
        table.add_column("place", justify="right")
    table.add_column("slice", overflow="fold")
    if in_scan:
        table.add_column("alone", justify="right")
        table.add_column("in scan", justify="right")
    else:
        table.add_column("probability", justify="right")
    table.add_column("hemorrhage")
    if has_subtypes:
        table.add_column("likeliest subtype")
    if has_warnings:
        table.add_column("warning", style="yellow", overflow="fold")
    for place, one in enumerate(slices, start=1):
        # The files of a scan are in one folder, which the scan names.
        name = Path(one.path).name if is_scan else one.path
        cells = [*([str(place)] if is_scan else []), escape(name), f"{one.probability:.3f}"]
        if in_scan:
            cells.append(f"{one.final_probability:.3f}")
        cells.append("yes" if one.is_hemorrhage else "no")
        if has_subtypes:
            cells.append(_likeliest_subtype(one))
        if has_warnings:
            cells.append(escape(one.warning or ""))
        table.add_row(*cells)
    return table


def _likeliest_subtype(one: SlicePrediction) -> str:
    """Return the likeliest subtype of a flagged slice with its probability, else nothing."""
    name = one.likeliest_subtype
    if not one.is_hemorrhage or name is None or one.subtypes is None:
        return ""
    return f"{name} {one.subtypes[name]:.3f}"

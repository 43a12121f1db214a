"""Time the DICOM results of a scan beside its prediction: headers, objects, and the audit trail.

A phantom scan is written as a DICOM series of 512 x 512 and predicted by PhantomNet; its likeliest
slices count as flagged, so that each of them gets a group of the report and a capture. The last
line is JSON: wall and processor seconds of each step.

    python benchmarks/dicom_results.py [--slices 300] [--flagged 60] [--profile]
"""

import argparse
import cProfile
import json
import os
import pstats
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import hemorrhage_tf as htf
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.series import list_images
from hemorrhage_tf.dicom_results.source_scan import find_source_scans
from hemorrhage_tf.dicom_results.writing import scan_results, write_results
from hemorrhage_tf.inference.input_choice import input_through
from hemorrhage_tf.synthesis.draw_scan import draw_phantom_scan
from hemorrhage_tf.synthesis.phantom_dicom import create_ct_image, derive_phantom_uid

STUDY = "1.2.826.0.1.3680043.10.1"
THICKNESS = 0.6  # mm


def write_series(folder: Path, slices: int) -> None:
    """Write a phantom scan with a hemorrhage as a DICOM series."""
    for number, phantom in enumerate(
        draw_phantom_scan(7, 1, 1, thickness=THICKNESS, count=slices), start=1
    ):
        uid = derive_phantom_uid("benchmark", number)
        image = create_ct_image(phantom.hounsfield, phantom.pixel, uid)
        image.StudyInstanceUID, image.SeriesInstanceUID = STUDY, f"{STUDY}.1"
        image.FrameOfReferenceUID = f"{STUDY}.2"
        image.PatientID, image.SeriesNumber, image.InstanceNumber = "benchmark", 1, number
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [0, 0, THICKNESS * number]
        image.SliceThickness = THICKNESS
        image.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def timed(step: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Run a step; return its result, and its wall and processor seconds."""
    wall, before = time.perf_counter(), os.times()
    result = step()
    after = os.times()
    processor = sum(after[:2]) - sum(before[:2])
    return result, {
        "wall": round(time.perf_counter() - wall, 2),
        "processor": round(processor, 2),
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--flagged", type=int, default=60, help="slices that count as flagged")
    parser.add_argument("--profile", action="store_true", help="print where the writing spends it")
    arguments = parser.parse_args()
    steps = {}
    progress = Progress(quiet=True)
    with tempfile.TemporaryDirectory() as name:
        series, out = Path(name, "series"), Path(name, "results")
        series.mkdir()
        write_series(series, arguments.slices)
        model = htf.load("phantomnet")
        model_input = input_through(model.metadata, None)
        listing, steps["listing"] = timed(lambda: list_images([series], (), progress))
        (sources, _), steps["headers"] = timed(lambda: find_source_scans(listing, False))
        prediction, steps["prediction"] = timed(lambda: model.predict(listing, progress=progress))
        order = sorted(prediction, key=lambda one: one.final_probability, reverse=True)
        limit = order[arguments.flagged - 1].final_probability
        slices = [replace(one, is_hemorrhage=one.final_probability >= limit) for one in prediction]
        prediction = replace(prediction, slices=tuple(slices))
        profile = cProfile.Profile() if arguments.profile else nullcontext()

        def write() -> Any:
            results = scan_results(prediction, sources, model, model_input)
            return write_results(results, out, model, model_input, progress)

        with profile:
            written, steps["objects"] = timed(write)
    if isinstance(profile, cProfile.Profile):
        pstats.Stats(profile).sort_stats("cumulative").print_stats(60)
    print(json.dumps({"objects": len(written[0].files), "steps": steps}))


if __name__ == "__main__":
    main()

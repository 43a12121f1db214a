"""Time reading: slices/s by threads, the wait of feature extraction, memory by slices.

Three parts in one run, so that they use the same machine. (1) DICOM slices of 512 x 512 are read,
cropped to the head and brought to model input by 1, 2 and 4 threads. (2) The dataset for feature
extraction: alone, the backbone alone, and both together, with the share of the time that the
backbone waits for the next batch. (3) Peak memory of listing 1,000, 10,000 and 100,000 DICOM files
and of reading the first 500 of them, each in its own process.

    python benchmarks/reading.py [--series DIR] [--slices 256] [--backbone mobilenet_v2]

Without a series it draws phantoms. Part 3 needs 0.6 GB of disk.
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

THREADS = (1, 2, 4)
ROUNDS = 3
BATCH = 16
COUNTS = (1_000, 10_000, 100_000)
READ = 500
SLICES_IN_A_SERIES = 40


def write_slice(path: Path, hounsfield: np.ndarray, **tags: object) -> None:
    """Write a CT slice in implicit VR little endian, the default transfer syntax."""
    from pydicom.dataset import Dataset, FileMetaDataset

    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.Modality = "CT"
    dataset.PatientID = "phantom"
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.Rows, dataset.Columns = hounsfield.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = (hounsfield + 1024).round().astype("<i2").tobytes()
    dataset["PixelData"].VR = "OW"
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)


def draw_series(folder: Path) -> None:
    """Write 32 phantom slices of 512 x 512 in Hounsfield units."""
    from hemorrhage_tf.synthesis.draw import draw_phantom

    for index in range(32):
        hounsfield = draw_phantom(0, index).hounsfield
        tags = {"InstanceNumber": index + 1, "ImagePositionPatient": [0, 0, 5 * index]}
        tags |= {"SeriesInstanceUID": "1.2", "SOPInstanceUID": f"1.2.{index + 1}"}
        write_slice(folder / f"{index:03d}.dcm", hounsfield, **tags)


def write_many(folder: Path, count: int) -> None:
    """Write small slices, each with its own position and UIDs, one series per folder."""
    template = folder / "template"
    # Placeholders that occur nowhere else in the file, as long as their replacements.
    root, series_mark, slice_mark = (
        "1.2.826.0.1.3680043.8.498.77777777777777777",
        "56565",
        "3434343",
    )
    tags = {"InstanceNumber": 1, "ImagePositionPatient": [0, 0, 9797]}
    tags |= {"SeriesInstanceUID": f"{root}.{series_mark}", "SOPInstanceUID": f"{root}.{slice_mark}"}
    write_slice(template, np.zeros((16, 16)), **tags)
    data = template.read_bytes()
    template.unlink()
    for index in range(count):
        series, number = divmod(index, SLICES_IN_A_SERIES)
        place = folder / f"patient{series // 4:05d}" / f"series{series % 4}"
        if number == 0:
            place.mkdir(parents=True)
        values = {  # replaced together, since one may contain the placeholder of another
            slice_mark.encode(): b"%07d" % (1_000_000 + index),
            series_mark.encode(): b"%05d" % (10_000 + series),
            b"9797": b"%04d" % number,
        }
        (place / f"slice{number:04d}.dcm").write_bytes(
            re.sub(b"|".join(values), lambda match, values=values: values[match[0]], data)
        )


def memory(field: str) -> float:
    """Return a field of the memory of this process, in MiB."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(match[1]) / 1024


def reading_rates(slices: list, size: int) -> dict[int, float]:
    """Return slices/s for each number of threads, the best of several rounds."""
    from hemorrhage_tf.pipeline.datasets import input_batches
    from hemorrhage_tf.pipeline.model_input import ModelInput

    model_input = ModelInput(size)
    rates = dict.fromkeys(THREADS, 0.0)
    for _, threads in itertools.product(range(ROUNDS), THREADS):
        start = time.perf_counter()
        count = sum(len(batch) for batch in input_batches(slices, model_input, BATCH, threads))
        rates[threads] = max(rates[threads], count / (time.perf_counter() - start))
    return rates


def consume(batches: Iterable, forward: Callable) -> tuple[float, float, int]:
    """Process batches; return seconds and waited seconds after the first batch, and slices."""
    iterator = iter(batches)
    forward(next(iterator))
    start, waited, count = time.perf_counter(), 0.0, 0
    while True:
        requested = time.perf_counter()
        images = next(iterator, None)
        waited += time.perf_counter() - requested
        if images is None:
            return time.perf_counter() - start, waited, count
        forward(images)
        count += len(images)


def waiting(slices: list, name: str) -> None:
    """Print the speed of the dataset and the backbone, separately and together."""
    from hemorrhage_tf.core.native_output import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    from hemorrhage_tf.models.backbones import backbone_spec, build_backbone
    from hemorrhage_tf.models.batch_norm_folding import fold_batch_normalization
    from hemorrhage_tf.models.classifier import build_feature_model
    from hemorrhage_tf.pipeline.datasets import slice_dataset
    from hemorrhage_tf.pipeline.model_input import ModelInput

    spec = backbone_spec(name)
    size = spec.image_size
    dataset = slice_dataset(slices, ModelInput(size)).map(lambda _, image: image)
    dataset = dataset.batch(BATCH, drop_remainder=True).prefetch(2)  # as for feature extraction
    folded = fold_batch_normalization(build_backbone(name, "none", size), "float32")
    model = build_feature_model(folded, spec.normalization)
    compiled = tf.function(lambda images: model(images, training=False))

    def forward(images) -> None:
        compiled(images).numpy()

    still = [tf.zeros((BATCH, size, size, 3))] * (len(slices) // BATCH)
    print(f"\n{name}, {size} x {size}, batches of {BATCH}:")
    for title, batches, run in (
        ("dataset alone", dataset, lambda images: None),
        ("backbone alone", still, forward),
        ("both", dataset, forward),
    ):
        seconds, waited, count = consume(batches, run)
        line = f"  {title:<16}{count / seconds:8.1f} slices/s"
        print(line + (f"   waits {waited / seconds:.1%}" if title == "both" else ""), flush=True)


def measure_memory(folder: Path) -> None:
    """List a folder and read the first slices; print time and memory as JSON."""
    from hemorrhage_tf.core.progress import Progress
    from hemorrhage_tf.datasets.series import expand_paths, list_slices
    from hemorrhage_tf.imaging.readers import read_slice
    from hemorrhage_tf.pipeline.datasets import input_batches
    from hemorrhage_tf.pipeline.model_input import ModelInput

    read_slice(next(folder.rglob("*.dcm")))  # triggers late imports
    base, start = memory("VmRSS"), time.perf_counter()
    paths = expand_paths([folder])
    measured = {"expand": memory("VmHWM") - base}
    listing = list_slices(paths, Progress(quiet=True))
    del paths
    measured |= {"list": memory("VmHWM") - base, "held": memory("VmRSS") - base}
    measured |= {"seconds": time.perf_counter() - start, "slices": len(listing.slices)}
    measured["scans"] = len(listing.scans)
    for _ in input_batches(listing.slices[:READ], ModelInput(224), BATCH):
        pass
    measured["read"] = memory("VmHWM") - base
    print(json.dumps(measured | {"base": base}))


def memory_table() -> None:
    """Print memory by the number of slices."""
    print(
        f"\nmemory over the base of the process, MiB ({READ} slices are read; a series has "
        f"{SLICES_IN_A_SERIES})\n{'slices':>8}{'scans':>8}{'base':>8}{'paths':>8}{'listed':>8}"
        f"{'held':>8}{'read':>8}{'bytes/slice':>13}{'listing s':>11}"
    )
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            write_many(Path(folder), count)
            command = [sys.executable, __file__, "--list", folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        measured = json.loads(done.stdout)
        keys = ("base", "expand", "list", "held", "read")
        columns = "".join(f"{measured[key]:8.0f}" for key in keys)
        share = measured["list"] * 2**20 / count
        print(
            f"{measured['slices']:>8}{measured['scans']:>8}{columns}{share:13.0f}"
            f"{measured['seconds']:11.1f}",
            flush=True,
        )


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["--list"]:
        measure_memory(Path(sys.argv[2]))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=Path, help="folder of DICOM slices; default: phantoms")
    parser.add_argument("--slices", type=int, default=256, help="length to repeat the series to")
    parser.add_argument("--backbone", action="append", help="default: mobilenet_v2 and resnet152")
    parser.add_argument("--no-memory", action="store_true", help="skip part 3")
    arguments = parser.parse_args()
    from hemorrhage_tf.datasets.series import expand_paths

    with tempfile.TemporaryDirectory() as folder:
        if arguments.series is None:
            draw_series(Path(folder))
        files = expand_paths([arguments.series or folder])
        slices = list(itertools.islice(itertools.cycle(files), arguments.slices))
        print(f"{len(slices)} slices of {len(files)} files; best of {ROUNDS} rounds:")
        for threads, rate in reading_rates(slices, 224).items():
            print(f"  {threads} threads{rate:12.1f} slices/s", flush=True)
        for name in arguments.backbone or ("mobilenet_v2", "resnet152"):
            waiting(slices, name)
    if not arguments.no_memory:
        memory_table()
    print(f"\nload average {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()

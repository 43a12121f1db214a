"""Times reading: slices/s by threads, the wait of feature computation, memory by slices.

Three parts in one run, so that they see the same machine. (1) DICOM slices of 512 x 512 read, cut
to the head and brought to model input, by 1, 2 and 4 threads. (2) The dataset that features are
computed from: alone, the backbone alone, and both together, with the share of the time that the
backbone waits for the next batch. (3) Peak memory of listing 1,000, 10,000 and 100,000 DICOM files
and of reading the first 500 of them, each in a process of its own.

    python benchmarks/reading.py [--series DIR] [--slices 256] [--backbone mobilenet_v2]

Without a series it draws one. It needs 0.6 GB of disk for the files of part 3.
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
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

THREADS = (1, 2, 4)
ROUNDS = 3
BATCH = 16
COUNTS = (1_000, 10_000, 100_000)
READ = 500
SLICES_IN_A_SERIES = 40


def write_slice(path: Path, hounsfield: np.ndarray, **tags) -> None:
    """Writes a CT slice in implicit little endian, as most scanners send it."""
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
    """Writes 32 slices of 512 x 512: phantoms in Hounsfield units."""
    from hemorrhage_tf.synthesis.draw import draw_phantom

    for index in range(32):
        hounsfield = draw_phantom(0, index).hounsfield
        tags = {"InstanceNumber": index + 1, "ImagePositionPatient": [0, 0, 5 * index]}
        tags |= {"SeriesInstanceUID": "1.2", "SOPInstanceUID": f"1.2.{index + 1}"}
        write_slice(folder / f"{index:03d}.dcm", hounsfield, **tags)


def write_many(folder: Path, count: int) -> None:
    """Writes small slices, each with a position and UIDs of its own, in folders of one series."""
    template = folder / "template"
    # Placeholders that occur nowhere else in the file, as long as what takes their place.
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
        own = {  # put in together, for one may contain another's placeholder
            slice_mark.encode(): b"%07d" % (1_000_000 + index),
            series_mark.encode(): b"%05d" % (10_000 + series),
            b"9797": b"%04d" % number,
        }
        (place / f"slice{number:04d}.dcm").write_bytes(
            re.sub(b"|".join(own), lambda found, own=own: own[found[0]], data)
        )


def memory(field: str) -> float:
    """Gives a field of this process's memory in MiB."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024


def reading_rates(slices: list, size: int) -> dict[int, float]:
    """Gives slices/s for each number of threads, the best of some rounds."""
    from hemorrhage_tf.pipeline import datasets
    from hemorrhage_tf.pipeline.model_input import ModelInput

    model_input = ModelInput(size)
    rates = dict.fromkeys(THREADS, 0.0)
    usual = datasets._THREADS
    for _, threads in itertools.product(range(ROUNDS), THREADS):
        datasets._THREADS = threads
        begin = time.perf_counter()
        count = sum(len(batch) for batch in datasets.input_batches(slices, model_input, BATCH))
        rates[threads] = max(rates[threads], count / (time.perf_counter() - begin))
    datasets._THREADS = usual
    return rates


def consume(batches: Iterable, forward) -> tuple[float, float, int]:
    """Goes through batches; gives seconds and seconds waited after the first, and slices."""
    iterator = iter(batches)
    forward(next(iterator))
    begin, waited, count = time.perf_counter(), 0.0, 0
    while True:
        asked = time.perf_counter()
        images = next(iterator, None)
        waited += time.perf_counter() - asked
        if images is None:
            return time.perf_counter() - begin, waited, count
        forward(images)
        count += len(images)


def waiting(slices: list, name: str) -> None:
    """Prints how the dataset and the backbone do, apart and together."""
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
    dataset = dataset.batch(BATCH, drop_remainder=True).prefetch(2)  # as features are computed
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
    """Lists a folder and reads the first slices; prints time and memory as JSON."""
    from hemorrhage_tf.core.progress import Progress
    from hemorrhage_tf.datasets.series import expand_paths, list_slices
    from hemorrhage_tf.imaging.readers import read_slice
    from hemorrhage_tf.pipeline.datasets import input_batches
    from hemorrhage_tf.pipeline.model_input import ModelInput

    read_slice(next(folder.rglob("*.dcm")))  # imports what is imported late
    base, begin = memory("VmRSS"), time.perf_counter()
    paths = expand_paths([folder])
    found = {"expand": memory("VmHWM") - base}
    listing = list_slices(paths, Progress(quiet=True))
    del paths
    found |= {"list": memory("VmHWM") - base, "kept": memory("VmRSS") - base}
    found |= {"seconds": time.perf_counter() - begin, "slices": len(listing.slices)}
    found["scans"] = len(listing.scans)
    for _ in input_batches(listing.slices[:READ], ModelInput(224), BATCH):
        pass
    found["read"] = memory("VmHWM") - base
    print(json.dumps(found | {"base": base}))


def memory_table() -> None:
    """Prints memory by the number of slices."""
    print(
        f"\nmemory over the base of the process, MiB ({READ} slices are read; a series has "
        f"{SLICES_IN_A_SERIES})\n{'slices':>8}{'scans':>8}{'base':>8}{'paths':>8}{'listed':>8}"
        f"{'kept':>8}{'read':>8}{'bytes/slice':>13}{'listing s':>11}"
    )
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            write_many(Path(folder), count)
            command = [sys.executable, __file__, "--list", folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        found = json.loads(done.stdout)
        keys = ("base", "expand", "list", "kept", "read")
        columns = "".join(f"{found[key]:8.0f}" for key in keys)
        share = found["list"] * 2**20 / count
        print(
            f"{found['slices']:>8}{found['scans']:>8}{columns}{share:13.0f}{found['seconds']:11.1f}",
            flush=True,
        )


def main() -> None:
    """Runs the command line."""
    if sys.argv[1:2] == ["--list"]:
        measure_memory(Path(sys.argv[2]))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=Path, help="folder of DICOM slices; default: drawn ones")
    parser.add_argument("--slices", type=int, default=256, help="the series is repeated up to it")
    parser.add_argument("--backbone", action="append", help="default mobilenet_v2 and resnet152")
    parser.add_argument("--no-memory", action="store_true", help="leave part 3 out")
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

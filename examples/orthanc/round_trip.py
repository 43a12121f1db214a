#!/usr/bin/env python3
"""Send a study to an archive, predict it there, and show what the archive has then.

It starts Debian's Orthanc with its DICOMweb plugin on the loopback, in a folder of its own:

    apt-get install orthanc orthanc-dicomweb dcmtk
    pip install 'hemorrhage_tf[dicom]'
    python round_trip.py FOLDER [--folder results] [--http 8042] [--dicom 4242]

Without FOLDER it draws a phantom study. The images are sent as a scanner sends them (C-STORE) where
DCMTK's `storescu` is installed, else over DICOMweb (STOW).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONFIGURATION = Path(__file__).with_name("orthanc.json")
START_SECONDS = 60
COMMAND = [sys.executable, "-m", "hemorrhage_tf"]
# The loopback needs no proxy.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main(arguments: list[str] | None = None) -> None:
    """Run the round trip."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", nargs="?", type=Path, help="Folder of a DICOM study.")
    parser.add_argument("--folder", type=Path, default=Path("results"), help="For the results.")
    parser.add_argument("--http", type=int, default=8042, help="Port of the archive's web server.")
    parser.add_argument("--dicom", type=int, default=4242, help="Port of its DICOM server.")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        images = options.images or draw_study(work / "phantoms")
        with running_orthanc(work, options.http, options.dicom) as url:
            send(images, url, options.dicom)
            for study in studies(url):
                predict(study, url, options.folder)
            show(url)
    show_report(options.folder)


def draw_study(folder: Path) -> Path:
    """Draw a phantom study with a hemorrhage."""
    print("Drawing a phantom study ...", flush=True)
    subprocess.run(
        [*COMMAND, "phantoms", folder, "--format", "study", "--count", "2", "--size", "128"],
        check=True,
    )
    return folder / "studies" / "000001"


@contextmanager
def running_orthanc(folder: Path, http: int, dicom: int) -> Iterator[str]:
    """Start Orthanc, and stop it at the end of the block.

    Args:
        folder: For its configuration and its database.
        http: The port of its web server.
        dicom: The port of its DICOM server.

    Yields:
        The URL of the web server.
    """
    program = shutil.which("Orthanc")
    if program is None:
        sys.exit("Orthanc is not installed. Run apt-get install orthanc orthanc-dicomweb.")
    storage = str(folder / "archive")
    configuration = json.loads(CONFIGURATION.read_text(encoding="utf-8"))
    configuration |= {
        "StorageDirectory": storage,
        "IndexDirectory": storage,
        "HttpPort": http,
        "DicomPort": dicom,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration), encoding="utf-8")
    with open(folder / "orthanc.log", "wb") as log:
        process = subprocess.Popen([program, path], stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{http}"
    try:
        until = time.monotonic() + START_SECONDS
        while not answers(url):
            if process.poll() is not None or time.monotonic() > until:
                sys.exit(f"Orthanc does not start:\n{(folder / 'orthanc.log').read_text()}")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    """Return whether the archive answers."""
    try:
        request(f"{url}/system")
    except OSError:
        return False
    return True


def request(url: str, data: bytes | None = None) -> Any:
    """Return the JSON that the archive answers with."""
    with OPENER.open(urllib.request.Request(url, data), timeout=30) as answer:
        return json.load(answer)


def send(images: Path, url: str, port: int) -> None:
    """Send the images to the archive."""
    if shutil.which("storescu"):
        subprocess.run(
            ["storescu", "+sd", "+r", "-aec", "ORTHANC", "127.0.0.1", str(port), images],
            check=True,
        )
    else:
        for path in sorted(images.rglob("*")):
            if path.is_file():
                request(f"{url}/instances", path.read_bytes())
    print(f"The archive has {request(f'{url}/statistics')['CountInstances']} images.", flush=True)


def studies(url: str) -> list[str]:
    """Return the Study Instance UIDs of the archive."""
    found = request(f"{url}/studies?expand")
    return [one["MainDicomTags"]["StudyInstanceUID"] for one in found]


def predict(study: str, url: str, folder: Path) -> None:
    """Predict a study of the archive, and store the results there."""
    subprocess.run(
        [
            *(*COMMAND, "predict", "--dicomweb", f"{url}/dicom-web", "--study", study),
            *("--dicom-out", folder),
        ],
        check=True,
    )


def show(url: str) -> None:
    """Print the series that the archive has now."""
    print("\nIn the archive:")
    for series in request(f"{url}/series?expand"):
        tags = series["MainDicomTags"]
        count = len(series["Instances"])
        print(f"  {tags['Modality']:3} {count:4} objects  {tags.get('SeriesDescription', '')}")


def show_report(folder: Path) -> None:
    """Print the structured report as DCMTK reads it."""
    reports = sorted(folder.glob("*/report.dcm"))
    if reports and shutil.which("dsrdump"):
        print(f"\n{reports[0]}:", flush=True)
        subprocess.run(["dsrdump", "+Pl", reports[0]], check=True)


if __name__ == "__main__":
    main()

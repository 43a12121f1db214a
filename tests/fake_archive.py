"""A DICOMweb archive on the loopback that can also refuse, break off and answer nonsense."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pydicom

_BOUNDARY = "boundary-of-the-fake-archive"


class FakeArchive(ThreadingHTTPServer):
    """Holds instances in memory.

    Attributes:
        instances: Encoded files by Study, Series and SOP Instance UID.
        token: The bearer token that it wants, or None.
        status: Status of every answer to requests of a method, such as {"POST": 503}.
        breaks_off: Whether the connection ends in the middle of a series.
        nonsense: What it sends in place of JSON, or None.
        rejects: The reason for which it rejects objects, or None.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.instances: dict[tuple[str, str, str], bytes] = {}
        self.token: str | None = None
        self.status: dict[str, int] = {}
        self.breaks_off = False
        self.nonsense: bytes | None = None
        self.rejects: int | None = None
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/dicom-web"

    def load(self, folder: Path) -> None:
        for path in sorted(folder.rglob("*.dcm")):
            self.add(path.read_bytes())

    def add(self, content: bytes) -> None:
        dataset = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
        key = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
        self.instances[tuple(map(str, key))] = content

    def modalities(self) -> list[str]:
        """Modality of each series, sorted."""
        return sorted(one["00080060"]["Value"][0] for one in self.series())

    def series(self, study: str | None = None) -> list[dict]:
        found = {}
        for (of_study, uid, _), content in self.instances.items():
            if study in (None, of_study):
                found.setdefault((of_study, uid), []).append(content)
        answers = []
        for (of_study, uid), contents in found.items():
            dataset = pydicom.dcmread(BytesIO(contents[0]), stop_before_pixels=True)
            answers.append(
                {
                    "0020000D": {"vr": "UI", "Value": [of_study]},
                    "0020000E": {"vr": "UI", "Value": [uid]},
                    "00080060": {"vr": "CS", "Value": [dataset.Modality]},
                    "00200011": {"vr": "IS", "Value": [int(dataset.SeriesNumber)]},
                    "00201209": {"vr": "IS", "Value": [len(contents)]},
                }
            )
        return answers


class _Handler(BaseHTTPRequestHandler):
    server: FakeArchive

    def do_GET(self) -> None:
        if self._is_refused():
            return
        path, _, query = self.path.removeprefix("/dicom-web/").partition("?")
        parts = path.split("/")
        if path == "series":
            series = self.server.series()
            if "CT" in query:
                series = [one for one in series if one["00080060"]["Value"] == ["CT"]]
            self._send_json([] if "offset" in query and "offset=0" not in query else series)
        elif len(parts) == 3:
            self._send_json(self.server.series(parts[1]))
        else:
            self._send_series(parts[1], parts[3])

    def do_POST(self) -> None:
        body = self._read_body()
        if self._is_refused():
            return
        boundary = self.headers["Content-Type"].split('boundary="')[1].split('"')[0].encode()
        answer = {}
        for part in body.split(b"--" + boundary)[1:-1]:
            content = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
            if self.server.rejects is None:
                self.server.add(content)
            else:
                reason = {"00081197": {"vr": "US", "Value": [self.server.rejects]}}
                answer.setdefault("00081198", {"vr": "SQ", "Value": []})["Value"].append(reason)
        self._send_json(answer)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _is_refused(self) -> bool:
        expected = self.server.token
        status = self.server.status.get(self.command)
        if expected and self.headers.get("Authorization") != f"Bearer {expected}":
            status = 401
        if status is None:
            return False
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def _send_json(self, answer: object) -> None:
        content = self.server.nonsense or json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_series(self, study: str, series: str) -> None:
        head = f"\r\n--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        content = b"".join(
            head + one
            for (of_study, uid, _), one in self.server.instances.items()
            if (of_study, uid) == (study, series)
        )
        content += f"\r\n--{_BOUNDARY}--".encode()
        self.send_response(200)
        kind = f'multipart/related; type="application/dicom"; boundary="{_BOUNDARY}"'
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.server.breaks_off:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def running_archive(certificate: Path | None = None) -> Iterator[FakeArchive]:
    """Run an archive; with a certificate and its key in one PEM file it speaks TLS."""
    with FakeArchive() as archive:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            archive.socket = context.wrap_socket(archive.socket, server_side=True)
            archive.scheme = "https"
        thread = threading.Thread(target=archive.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield archive
        finally:
            archive.shutdown()
            thread.join()

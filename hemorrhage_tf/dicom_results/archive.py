"""An archive that is read and written over DICOMweb (PS3.18: QIDO-RS, WADO-RS, STOW-RS)."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pydicom
import requests
from dicomweb_client import DICOMwebClient

from hemorrhage_tf.core.errors import ArchiveError, OptionError

_CONNECT_SECONDS, _READ_SECONDS = 10, 120
_PER_REQUEST = 16  # objects in one request to store
_MODALITIES = ("CT", "")  # series of other modalities are not fetched
_DUPLICATE = 0x0111  # the reason for which an archive rejects what it has already (PS3.4, B.2.3)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

_SERIES_NUMBER = "00200011"
_MODALITY, _SERIES_UID, _STUDY_UID, _INSTANCES = "00080060", "0020000E", "0020000D", "00201209"


class Archive:
    """An archive.

    Args:
        url: The root of its DICOMweb services, such as "http://127.0.0.1:8042/dicom-web".
        token: File with a bearer token. Defaults to None.
        ca: File with the certificates to trust, in PEM format; None for those that requests trusts.
            Defaults to None.

    Raises:
        OptionError: The URL or a file cannot be used.
    """

    def __init__(self, url: str, token: Path | None = None, ca: Path | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OptionError(
                f"--dicomweb {url}: not a URL of DICOMweb services. Pass one such as "
                "https://archive.example/dicom-web."
            )
        session = requests.Session()
        if token is not None:
            if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
                raise OptionError(
                    "--token: a token must not be sent unencrypted. Pass an https URL."
                )
            session.headers["Authorization"] = f"Bearer {_read_token(token)}"
        if ca is not None:
            _check_certificates(ca)
            session.verify = str(ca)
            session.trust_env = False  # else a variable of the environment would replace it
        self._client = DICOMwebClient(
            url.rstrip("/"), session=session, timeout=(_CONNECT_SECONDS, _READ_SECONDS)
        )
        self._client.set_http_retry_params(retry=False)

    def find_studies(self) -> dict[str, int]:
        """Return the number of CT images in each study that has any, by its UID.

        Raises:
            ArchiveError: The archive cannot be reached, or refuses.
        """
        studies: dict[str, int] = {}
        with _explained():
            found = self._client.search_for_series(
                search_filters={"Modality": "CT"},
                fields=["StudyInstanceUID", "NumberOfSeriesRelatedInstances"],
                get_remaining=True,
            )
            for one in found:
                study = _value(one, _STUDY_UID)
                if study:
                    studies[study] = studies.get(study, 0) + int(_value(one, _INSTANCES) or 0)
        return studies

    def fetch(self, study: str, folder: Path) -> int:
        """Fetch the CT series of a study into a folder, each into a folder of its own.

        Args:
            study: The Study Instance UID.
            folder: Where to write; names of files say nothing about the patient.

        Returns:
            The number of files.

        Raises:
            ArchiveError: The archive cannot be reached, refuses, or has no such study.
        """
        count = 0
        with _explained():
            series = [
                one
                for one in self._client.search_for_series(study)
                if (_value(one, _MODALITY) or "") in _MODALITIES and _value(one, _SERIES_UID)
            ]
            for order, one in enumerate(series, start=1):
                place = folder / _folder_name(one, order)
                if place.exists():  # a study may have a Series Number twice
                    place = folder / f"{place.name}-{order}"
                place.mkdir()
                uid = str(_value(one, _SERIES_UID))
                for index, dataset in enumerate(self._client.iter_series(study, uid)):
                    dataset.save_as(place / f"{index:05d}.dcm", enforce_file_format=True)
                    count += 1
        if not count:
            raise ArchiveError(
                "--study: the archive has no CT images of this study. Check the Study Instance UID."
            )
        return count

    def store(self, study: str, files: Sequence[Path]) -> None:
        """Store DICOM files in a study; what the archive has already is not stored again.

        Args:
            study: The Study Instance UID.
            files: The files.

        Raises:
            ArchiveError: The archive cannot be reached, or does not accept an object.
        """
        with _explained():
            for first in range(0, len(files), _PER_REQUEST):
                datasets = [pydicom.dcmread(path) for path in files[first : first + _PER_REQUEST]]
                answer = self._client.store_instances(datasets, study)
                failed = [
                    item
                    for item in answer.get("FailedSOPSequence", ())
                    if item.get("FailureReason") != _DUPLICATE
                ]
                if failed:
                    raise ArchiveError(
                        f"--dicomweb: the archive did not accept {len(failed)} of "
                        f"{len(datasets)} objects (reason {failed[0].get('FailureReason')}). See "
                        "its log."
                    )


def _folder_name(series: dict[str, Any], order: int) -> str:
    """Return the name of the folder for a series: with its number, else with its place."""
    number = _value(series, _SERIES_NUMBER)
    return f"series-{number}" if isinstance(number, int) else f"series-{order}-of-study"


def _value(item: dict[str, Any], tag: str) -> Any:
    """Return the first value of an attribute in DICOM JSON; None if it has none."""
    values = item.get(tag, {}).get("Value") or [None]
    return values[0]


@contextmanager
def _explained() -> Iterator[None]:
    """Turn errors of a connection into messages, which name neither a host nor a study."""
    try:
        yield
    except ArchiveError:
        raise
    except requests.exceptions.SSLError:
        raise ArchiveError(
            "--dicomweb: the certificate of the archive is not trusted. Pass the certificates of "
            "its authority with --ca FILE."
        ) from None
    except requests.exceptions.HTTPError as error:
        code = None if error.response is None else error.response.status_code
        raise ArchiveError(f"--dicomweb: the archive {_explain_status(code)}") from None
    except requests.exceptions.Timeout:
        raise ArchiveError(
            "--dicomweb: the archive does not answer in time. Try again later."
        ) from None
    except (requests.exceptions.RequestException, ConnectionError):
        raise ArchiveError(
            "--dicomweb: the connection to the archive failed, or broke. Check the URL and that "
            "the archive runs, and try again."
        ) from None
    except OSError:
        raise
    except Exception as error:
        # What an archive sends may be anything, and messages about it may quote values.
        raise ArchiveError(
            f"--dicomweb: the archive sent what is not DICOM ({type(error).__name__}). Check the "
            "URL of its DICOMweb services."
        ) from None


def _explain_status(code: int | None) -> str:
    if code in (401, 403):
        return f"refused access ({code}). Pass a valid token with --token FILE."
    if code == 404:
        return "has no such study or service (404). Check the URL and the Study Instance UID."
    if code is not None and code >= 500:
        return f"is not able to answer now ({code}). Try again later."
    return f"refused the request ({code}). See its log."


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise OptionError(f"--token {path}: cannot be read ({reason}). Name a text file.") from None
    if not token or not token.isascii() or any(one.isspace() for one in token):
        raise OptionError(f"--token {path}: not one token. Write the token alone into the file.")
    return token


def _check_certificates(path: Path) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise OptionError(
            f"--ca {path}: no certificates can be read ({error.strerror or error}). Name a file in "
            "PEM format."
        ) from None

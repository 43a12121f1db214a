"""Transfer syntaxes (PS3.5, annex A; PS3.6, annex A) and the decoder used for each."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from hemorrhage_tf.core.errors import SliceError

# A SOP class, not a transfer syntax: the class of a DICOMDIR.
MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
NATIVE = (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN)

RUN_LENGTH = "1.2.840.10008.1.2.5"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSY = ("1.2.840.10008.1.2.4.50", JPEG_EXTENDED)
JPEG_LOSSLESS = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (57, 70))
JPEG = JPEG_LOSSY + JPEG_LOSSLESS
JPEG_LS = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81))
JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))

# pydicom's decoding plugin for each compressed transfer syntax.
PLUGINS = {
    RUN_LENGTH: "pydicom",
    # gdcm reads these too, but some damaged ones make it end the whole process.
    **dict.fromkeys(JPEG_LOSSY, "pillow"),
    **dict.fromkeys(JPEG_LOSSLESS + JPEG_LS, "gdcm"),
    **dict.fromkeys(JPEG_2000, "pylibjpeg"),
}
_PACKAGES = {"gdcm": "python-gdcm", "pylibjpeg": "pylibjpeg-openjpeg"}


def syntax_name(syntax: str) -> str:
    """Return a transfer syntax as it is printed: its name, if known, and its UID."""
    from pydicom.uid import UID

    if not re.fullmatch(r"[0-9.]{1,64}", syntax):
        return "which is not a valid UID"
    name = UID(syntax).name
    return syntax if name == syntax else f"{name} ({syntax})"


def require_plugin(path: Path, syntax: str) -> str:
    """Return the decoding plugin for a compressed transfer syntax.

    Raises:
        SliceError: The package of the plugin is not installed.
    """
    from pydicom.pixels.decoders.base import get_decoder

    plugin = PLUGINS[syntax]
    if plugin not in get_decoder(syntax).available_plugins:
        package = _PACKAGES.get(plugin, plugin)
        raise SliceError(
            path,
            f"its transfer syntax, {syntax_name(syntax)}, needs the package {package}: "
            f"run pip install {package}",
        )
    if plugin == "gdcm":
        silence_gdcm()
    return plugin


@functools.cache
def silence_gdcm() -> None:
    """Keep gdcm from printing warnings and errors to the terminal."""
    import gdcm

    for switch_off in (gdcm.Trace.DebugOff, gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff):
        switch_off()

"""TODO docstring."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from hemorrhage_tf.core.errors import SliceError

_DICOMDIR = "1.2.840.10008.1.3.10"


_IMPLICIT = "1.2.840.10008.1.2"


_EXPLICIT = "1.2.840.10008.1.2.1"


_DEFLATED = "1.2.840.10008.1.2.1.99"


_BIG_ENDIAN = "1.2.840.10008.1.2.2"


_NATIVE = (_IMPLICIT, _EXPLICIT, _DEFLATED, _BIG_ENDIAN)


_RUN_LENGTH = "1.2.840.10008.1.2.5"


_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


_JPEG_LOSSY = ("1.2.840.10008.1.2.4.50", _JPEG_EXTENDED)


_JPEG_LOSSLESS = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (57, 70))


_JPEG = _JPEG_LOSSY + _JPEG_LOSSLESS


_JPEG_LS = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81))


_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))


_PLUGINS = {
    _RUN_LENGTH: "pydicom",
    # gdcm reads these as well, but it ends the whole process at some damaged ones.
    **dict.fromkeys(_JPEG_LOSSY, "pillow"),
    **dict.fromkeys(_JPEG_LOSSLESS + _JPEG_LS, "gdcm"),
    **dict.fromkeys(_JPEG_2000, "pylibjpeg"),
}


def _syntax_name(syntax: str) -> str:
    from pydicom.uid import UID

    if not re.fullmatch(r"[0-9.]{1,64}", syntax):
        return "which is no valid UID"
    name = UID(syntax).name
    return syntax if name == syntax else f"{name} ({syntax})"


def _plugin(path: Path, syntax: str) -> str:
    from pydicom.pixels import get_decoder

    wanted, available = _PLUGINS[syntax], get_decoder(syntax).available_plugins
    if wanted not in available:
        package = {"gdcm": "python-gdcm", "pylibjpeg": "pylibjpeg-openjpeg"}.get(wanted, wanted)
        raise SliceError(
            path, f"needs the package {package} for its transfer syntax, {_syntax_name(syntax)}"
        )
    if wanted == "gdcm":
        _quiet_gdcm()
    return wanted


@functools.cache
def _quiet_gdcm() -> None:
    import gdcm

    for switch_off in (gdcm.Trace.DebugOff, gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff):
        switch_off()

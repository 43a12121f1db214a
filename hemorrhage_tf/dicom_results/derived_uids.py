"""UIDs that are derived from what an object says, so that the same result has the same UIDs."""

from __future__ import annotations

import uuid

# Fixed for ever: another namespace would give the same results other UIDs.
_NAMESPACE = uuid.UUID("6f1d7d0e-5a38-5f0c-9f6a-2f3f6f2f1c21")
_HEX_DIGITS = 12


def derive_uid(*parts: str) -> str:
    """Return a UID that depends on some texts alone.

    Args:
        parts: What it stands for, such as the kind of object, the model and the sources.

    Returns:
        A UID of at most 44 characters.

    Reference:
        DICOM PS3.5, section B.2 (UUID derived UID); RFC 9562, section 5.5 (UUID version 5).
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}"


def anonymous_uid(uid: str) -> str:
    """Return the UID that replaces one where the patient must not be identified."""
    return derive_uid("anonymous", uid)


def derive_name(*parts: str) -> str:
    """Return 12 hexadecimal digits that depend on some texts alone, for a name in outputs."""
    return uuid.uuid5(_NAMESPACE, chr(0).join(parts)).hex[:_HEX_DIGITS]

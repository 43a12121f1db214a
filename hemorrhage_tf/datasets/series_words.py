"""What a series shows, as its description, Image Type and kernel say.

The lists hold words that scanners and hospitals use in English, German and French. The rules that
choose a series are in `series_choice`.
"""

from __future__ import annotations

import re

from hemorrhage_tf.imaging.dicom.tag_checks import BODY_PARTS
from hemorrhage_tf.imaging.header import SeriesTags

# Separated by commas, since some are sequences of words.
_LOCALIZERS = (
    "LOCALIZER, LOC, SCOUT, TOPOGRAM, TOPO, SURVIEW, SCANOGRAM, TRACKER, DOSE REPORT, DOSE INFO, "
    "PATIENT PROTOCOL, SCREEN SAVE"
).split(", ")
_HEAD = (
    "HEAD, BRAIN, SKULL, CRANIAL, CRANIUM, CEREBRUM, CEREBRAL, NEURO, CCT, SCHÄDEL, KOPF, TETE"
).split(", ")
_OTHER_PARTS = (
    "CSPINE, SPINE, CERVICAL, NECK, HALS, HWS, BWS, LWS, THORAX, CHEST, LUNG, ABDOMEN, PELVIS, "
    "BECKEN, SINUS, SINUSES, ORBIT, ORBITS, ORBITA, FACIAL, FACE, MAXILLOFACIAL, MANDIBLE, DENTAL, "
    "TEMPORAL, PETROUS, IAC, FELSENBEIN"
).split(", ")
_ANGIOGRAPHY = (
    "CTA, ANGIO, ANGIOGRAM, ANGIOGRAPHY, ANGIOGRAPHIE, ARTERIAL, ARTERIELL, VENOUS, VENOS, CTV, "
    "MIP, MINIP, PERFUSION, PERF, CTP, CBF, CBV, MTT, TTP, TMAX, BOLUS, PREMONITORING, MONITORING, "
    "CAROTID, CAROTIS, WILLIS, COW, VRT, SUBTRACTION"
).split(", ")
_PLAIN = (
    "WITHOUT, WO, PLAIN, NATIVE, NATIV, UNENHANCED, NONCONTRAST, NONCON, NCCT, NECT, NCT, "
    "PRECONTRAST, NON CONTRAST, NON CON, NO CONTRAST, PRE CONTRAST, OHNE KM, SANS"
).split(", ")
_CONTRAST = ("CONTRAST, POSTCONTRAST, ENHANCED, CECT, KM, IV, POST CON, AVEC INJECTION").split(", ")
_BONE = "BONE, BONES, OSSEOUS, KNOCHEN, OSSEUX".split(", ")
_VOLUME = re.compile(r"\d+(CC|ML)")  # of an injection

# GE and other makers name their sharp kernels.
_SHARP_KERNELS = ("BONE", "EDGE", "LUNG", "ULTRA", "SHARP", "HD BONE")
_PHILIPS_SHARP = ("D", "E", "YD", "YE")
_TOSHIBA_SHARP = (*range(30, 40), *range(50, 60), *range(80, 90))
_SIEMENS_SHARP = 50  # H31 and Hr40 are smooth, H60 and Hr68 are sharp


def is_localizer(tags: SeriesTags) -> bool:
    """Return whether a series is a localizer, or a page of text such as a dose report."""
    return bool(
        {"LOCALIZER", "SCOUT", "TOPOGRAM"} & set(tags.image_type)
        or _has(tags.description, _LOCALIZERS)
    )


def is_head(tags: SeriesTags) -> bool:
    """Return whether a series shows the head, or does not say what it shows.

    The body part is often that of the whole examination. So a description that names another part,
    and not the head, counts more.
    """
    if _has(tags.description, _HEAD):
        return True
    if _has(tags.description, _OTHER_PARTS):
        return False
    return not tags.body_part or tags.body_part.startswith(BODY_PARTS)


def is_plain(tags: SeriesTags) -> bool:
    """Return whether a series is neither an angiography nor another one with contrast agent.

    The contrast agent is often that of the whole examination. So a description that says "without
    contrast" counts more.
    """
    if _has(tags.description, _ANGIOGRAPHY) or set(_ANGIOGRAPHY) & set(tags.image_type):
        return False
    if _has(tags.description, _PLAIN):
        return True
    words = tags.description.split()
    injected = any(_VOLUME.fullmatch(word) for word in words)
    return not (tags.has_contrast or injected or _has(tags.description, _CONTRAST))


def is_original(tags: SeriesTags) -> bool:
    """Return whether a series was reconstructed by the scanner, not derived from another one."""
    return not {"DERIVED", "SECONDARY"} & set(tags.image_type)


def is_sharp(tags: SeriesTags) -> bool:
    """Return whether a series has a sharp kernel, as for bone; by its description if unknown."""
    by_kernel = _is_sharp_kernel(tags.kernel)
    return _has(tags.description, _BONE) if by_kernel is None else by_kernel


def _is_sharp_kernel(kernel: str) -> bool | None:
    """Return whether a kernel is sharp; None if its name says nothing."""
    if not kernel:
        return None
    if kernel.startswith(_SHARP_KERNELS) or kernel in _PHILIPS_SHARP:
        return True
    toshiba = re.match(r"FC(\d\d)", kernel)
    if toshiba:
        return int(toshiba[1]) in _TOSHIBA_SHARP
    siemens = re.match(r"[A-Z][A-Z]?(\d\d)", kernel)
    if siemens:
        return int(siemens[1]) >= _SIEMENS_SHARP
    is_smooth = kernel.startswith(("STD", "STAND", "SOFT", "SMOOTH", "UA", "UB", "UC"))
    return False if is_smooth else None


def _has(description: str, words: list[str]) -> bool:
    """Return whether a description has one of some words, or of some sequences of words."""
    text = f" {description} "
    return any(f" {word} " in text for word in words)

"""The mutations: each takes the bytes of a file and a random generator, and returns other bytes."""

import gzip
import random
import re
import struct
import zlib
from collections.abc import Callable

import numpy as np

from fuzzing.corpus import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, png_chunk

SYNTAXES = (
    IMPLICIT,
    EXPLICIT,
    BIG_ENDIAN,
    DEFLATED,
    "1.2.840.10008.1.2.5",
    *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 100, 201)),
)
US_TAGS = {  # rows, columns, samples, bits and so on
    0x00280002: (0, 1, 2, 3, 4, 65535),
    0x00280006: (0, 1, 2, 65535),
    0x00280010: (0, 1, 2, 63, 64, 65, 511, 513, 4096, 8000, 10000, 32768, 65535),
    0x00280011: (0, 1, 2, 63, 64, 65, 511, 513, 4096, 8000, 10000, 32768, 65535),
    0x00280100: (0, 1, 8, 12, 16, 24, 32, 64, 65535),
    0x00280101: (0, 1, 7, 8, 12, 15, 16, 17, 32, 65535),
    0x00280102: (0, 7, 11, 15, 16, 31, 65535),
    0x00280103: (0, 1, 2, 65535),
    0x00280120: (0, 1, 63536, 32768, 65535),
    0x00280121: (0, 1, 32768, 65535),
}
TEXT_TAGS = {
    0x00080005: ("IS", ("ISO_IR 100", "ISO 2022 IR 87\\ISO 2022 IR 159", "nonsense", "\\" * 40)),
    0x00080060: ("CS", ("CT", "OT", "SC", "MR", "", "\xff\xfe", "CT\\MR")),
    0x00100020: ("LO", ("", "x" * 5000, "\x1b$B\x1b(B", "\0" * 64)),
    0x00200013: ("IS", ("-1", "1e400", "9" * 400, "", "1.5", "nan")),
    0x00200032: ("DS", ("0\\0\\0", "nan\\inf\\-inf", "1e308\\1e308\\1e308", "1\\2", "a\\b\\c")),
    0x00200037: (
        "DS",
        (
            "1\\0\\0\\0\\1\\0",
            "0\\1\\0\\1\\0\\0",
            "-1\\0\\0\\0\\-1\\0",
            "0\\0\\0\\0\\0\\0",
            "nan\\0\\0\\0\\1\\0",
            "1\\0\\0\\0\\0\\1",
            "1e400\\0\\0\\0\\1\\0",
        ),
    ),
    0x00280004: (
        "CS",
        (
            "MONOCHROME1",
            "MONOCHROME2",
            "PALETTE COLOR",
            "RGB",
            "YBR_FULL",
            "YBR_FULL_422",
            "YBR_ICT",
            "YBR_RCT",
            "HSV",
            "",
        ),
    ),
    0x00280008: (
        "IS",
        ("0", "1", "2", "3", "100000", "99999999", "-1", "9" * 300, "1A", "", "1.0"),
    ),
    0x00281050: ("DS", ("40", "nan", "1e400", "40\\50\\60", "")),
    0x00281051: ("DS", ("80", "0", "-1", "inf", "")),
    0x00281052: ("DS", ("-1024", "nan", "inf", "1e300", "-1e9", "", "x")),
    0x00281053: ("DS", ("1", "0", "nan", "1e9", "-1e9", "1e-300", "1\\2")),
}


def flip_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change some bytes, half of the time in the first KiB, where the headers are."""
    changed = bytearray(data)
    end = min(len(changed), 1024) if rng.random() < 0.5 else len(changed)
    for _ in range(rng.choice((1, 1, 2, 4, 16, 64))):
        if end:
            changed[rng.randrange(end)] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
    return bytes(changed)


def put_number(data: bytes, rng: random.Random) -> bytes:
    """Overwrite some bytes with an extreme number."""
    size = rng.choice((1, 2, 4, 8))
    if len(data) <= size:
        return data
    number = rng.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1))
    end = min(len(data), 1024) if rng.random() < 0.6 else len(data)
    at = rng.randrange(max(end - size, 1))
    return data[:at] + number.to_bytes(size, rng.choice(("little", "big"))) + data[at + size :]


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Remove the end, sometimes nearly everything."""
    if rng.random() < 0.3:
        return data[: rng.randrange(0, 512)]
    return data[: rng.randrange(len(data) + 1)]


def insert(data: bytes, rng: random.Random) -> bytes:
    """Insert bytes, or append them."""
    at = rng.choice((rng.randrange(len(data) + 1), len(data)))
    extra = rng.choice((rng.randbytes(rng.randrange(1, 200)), bytes(rng.randrange(1, 5000))))
    return data[:at] + extra + data[at:]


def delete(data: bytes, rng: random.Random) -> bytes:
    """Remove bytes."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 2, 3, 8, 100, 1000)) :]


def repeat(data: bytes, rng: random.Random) -> bytes:
    """Repeat a block twice or many times."""
    at = rng.randrange(len(data) + 1)
    block = data[at : at + rng.choice((1, 8, 64, 2000))]
    return data[:at] + block * rng.choice((2, 3, 50)) + data[at:]


def swap(data: bytes, rng: random.Random) -> bytes:
    """Swap two neighboring blocks."""
    first, second, third = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:first] + data[second:third] + data[first:second] + data[third:]


GENERIC = (flip_bytes, flip_bytes, put_number, put_number, truncate, insert, delete, repeat, swap)


def edit_dicom(data: bytes, rng: random.Random) -> bytes:
    """Change the value or length of an element, or damage the compressed pixels."""
    draw = rng.random()
    if draw < 0.06:  # bits that are consistent, but do not fit the pixels
        allocated = rng.choice((8, 16, 32))
        stored = rng.randint(1, allocated)
        for tag, value in ((0x280100, allocated), (0x280101, stored), (0x280102, stored - 1)):
            data = set_element(data, tag, "US", value, rng)
        return data
    if draw < 0.4:
        tag = rng.choice(tuple(US_TAGS))
        return set_element(data, tag, "US", rng.choice(US_TAGS[tag]), rng)
    if draw < 0.7:
        tag = rng.choice(tuple(TEXT_TAGS))
        vr, values = TEXT_TAGS[tag]
        return set_element(data, tag, vr, rng.choice(values), rng)
    if draw < 0.78:
        return set_element(data, 0x00020010, "UI", rng.choice(SYNTAXES), rng)
    if draw < 0.86:
        return change_length(data, rng)
    return edit_codestream(data, rng)


def find_element(data: bytes, tag: int) -> tuple[int, str, bool, int, int] | None:
    """Find a tag: position, byte order, whether it has a VR, length of its head and value."""
    for order in "<>":
        at = data.find(struct.pack(order + "HH", tag >> 16, tag & 0xFFFF))
        if at < 0 or len(data) < at + 12:
            continue
        vr = data[at + 4 : at + 6]
        if not vr.isalpha() or not vr.isupper():
            return at, order, False, 8, struct.unpack_from(order + "I", data, at + 4)[0]
        if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
            return at, order, True, 12, struct.unpack_from(order + "I", data, at + 8)[0]
        return at, order, True, 8, struct.unpack_from(order + "H", data, at + 6)[0]
    return None


def set_element(data: bytes, tag: int, vr: str, value: int | str, rng: random.Random) -> bytes:
    """Replace an element, or insert it before the next known one."""
    element = find_element(data, tag)
    if element is None:
        next_tag = 0x00280010 if tag < 0x00280010 else 0x7FE00010
        element = find_element(data, next_tag)
        if element is None:
            return flip_bytes(data, rng)
        at, order, explicit, _, _ = element
        end = at
    else:
        at, order, explicit, head, length = element
        end = at + head + length
    if isinstance(value, int):
        content = struct.pack(order + "H", value)
    else:
        content = value.encode("latin-1")
        content += b" " * (len(content) % 2)
    start = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if explicit:
        start += vr.encode() + struct.pack(order + "H", len(content))
    else:
        start += struct.pack(order + "I", len(content))
    return data[:at] + start + content + data[end:]


def change_length(data: bytes, rng: random.Random) -> bytes:
    """Change the declared length of an element."""
    element = find_element(data, rng.choice((*US_TAGS, *TEXT_TAGS, 0x7FE00010, 0x52009229)))
    if element is None:
        return flip_bytes(data, rng)
    at, order, explicit, head, length = element
    size = 2 if explicit and head == 8 else 4
    extreme = (0, 1, length + 1, max(length - 2, 0), 2 ** (8 * size) - 1, 2 ** (8 * size - 1))
    number = rng.choice(extreme) % 2 ** (8 * size)
    packed = struct.pack(order + ("H" if size == 2 else "I"), number)
    return data[: at + head - size] + packed + data[at + head :]


def edit_codestream(data: bytes, rng: random.Random) -> bytes:
    """Damage compressed pixels: item lengths, marker segments, sizes, entropy-coded bytes."""
    start = data.find(b"\xe0\x7f\x10\x00")
    if start < 0:
        return flip_bytes(data, rng)
    head, pixels = data[: start + 12], data[start + 12 :]
    markers = [match.start() for match in re.finditer(rb"\xff[\x4f-\x64\xc0-\xfe]", pixels[:4000])]
    if not markers or rng.random() < 0.25:
        return head + rng.choice(GENERIC)(pixels, rng)
    return head + edit_segment(pixels, rng.choice(markers), rng)


def edit_segment(data: bytes, at: int, rng: random.Random) -> bytes:
    """Change the marker segment at a position of a JPEG of any kind."""
    if len(data) < at + 4:
        return flip_bytes(data, rng)
    end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
    draw = rng.random()
    if data[at + 1] in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7) and draw < 0.3 and len(data) > at + 5:
        return data[: at + 4] + bytes([rng.randint(0, 17)]) + data[at + 5 :]  # bits of a sample
    if draw < 0.2:
        return data[:at] + data[end:]
    if draw < 0.4:
        return data[:end] + data[at:end] * rng.choice((1, 2, 200)) + data[end:]
    if draw < 0.5:
        length = rng.choice((0, 1, 2, 3, 0xFFFF))
        return data[: at + 2] + struct.pack(">H", length) + data[at + 4 :]
    if draw < 0.6:
        marker = rng.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xCC, 0xD8, 0xDA, 0xDB, 0xDD, 0xF7))
        return data[: at + 1] + bytes([marker]) + data[at + 2 :]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        place = at + 4 + rng.randrange(max(min(end, len(data)) - at - 4, 1))
        if place < len(changed):
            changed[place] = rng.choice((0, 1, 2, 4, 8, 16, 17, 0x7F, 0xFF, rng.randrange(256)))
    return bytes(changed)


NIFTI_FIELDS = {  # for NIfTI-1 and NIfTI-2: position, type and count of numbers
    1: {
        **{"dim": (40, "h", 8), "type": (70, "h", 2), "pixdim": (76, "f", 8)},
        **{"offset": (108, "f", 3), "forms": (252, "h", 2), "affine": (256, "f", 18)},
        **{"size": (0, "i", 1), "unit": (123, "b", 1)},
    },
    2: {
        **{"dim": (16, "q", 8), "type": (12, "h", 2), "pixdim": (104, "d", 8)},
        **{"offset": (168, "q", 1), "forms": (344, "i", 2), "affine": (352, "d", 18)},
        **{"size": (0, "i", 1), "slope": (176, "d", 2)},
    },
}
SIZES = (0, 1, -1, 2, 3, 4, 5, 7, 8, 31, 33, 64, 100, 512, 8000, 10000, 32767, -32768)
LARGE_SIZES = (*SIZES, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**63))
REALS = (0.0, 1.0, -1.0, 0.5, 352.0, 353.5, 1e-38, 1e6, 1e30, 3e38, -3e38, np.nan, np.inf, -np.inf)
TYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 255, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304)


def edit_nifti(data: bytes, rng: random.Random) -> bytes:
    """Change the numbers in some fields of the header."""
    if len(data) < 540:
        return flip_bytes(data, rng)
    changed = bytearray(data)
    fields = NIFTI_FIELDS[2 if data[4:7] == b"n+2" else 1]
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(("dim", "dim", *fields))
        at, code, count = fields[name]
        at += struct.calcsize(code) * rng.randrange(count)
        if code in "fd":
            values = REALS
        else:
            values = TYPES if name == "type" else LARGE_SIZES if code == "q" else SIZES
        number = rng.choice([each for each in values if code != "b" or abs(each) < 128])
        struct.pack_into(rng.choice("<<<<>") + code, changed, at, number)
    return bytes(changed)


def edit_gzip(data: bytes, rng: random.Random) -> bytes:
    """Damage the compressed content, or sometimes the stream."""
    if rng.random() < 0.3:
        return rng.choice(GENERIC)(data, rng)
    try:
        inner = gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return rng.choice(GENERIC)(data, rng)
    change = edit_nifti if rng.random() < 0.7 else rng.choice(GENERIC)
    packed = gzip.compress(change(inner, rng), 1, mtime=0)
    return packed + packed if rng.random() < 0.03 else packed


SIDES = (0, 1, 39, 41, 63, 65, 8000, 10000, 10001, 64000, 2**31 - 1, 2**32 - 1)
# Width, height, bits, color type, compression, filter, interlacing.
HEADER_VALUES = (SIDES, SIDES, (1, 2, 4, 8, 16, 32), (0, 2, 3, 4, 6, 7), (0, 1), (0, 1), (0, 1, 2))


def edit_png(data: bytes, rng: random.Random) -> bytes:
    """Change, swap, repeat or remove chunks; most checksums are recomputed."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return flip_bytes(data, rng)
    index = rng.randrange(len(chunks))
    kind, content = chunks[index]
    draw = rng.random()
    if draw < 0.4 and chunks[0][0] == b"IHDR" and len(chunks[0][1]) == 13:
        header = list(struct.unpack(">IIBBBBB", chunks[0][1]))
        for _ in range(rng.choice((1, 1, 2))):
            field = rng.randrange(len(header))
            header[field] = rng.choice(HEADER_VALUES[field])
        chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *header))
    elif draw < 0.5:
        other = rng.randrange(len(chunks))
        chunks[index], chunks[other] = chunks[other], chunks[index]
    elif draw < 0.6:
        chunks.insert(index, (kind, content) if rng.random() < 0.5 else chunks[-1])
    elif draw < 0.68:
        del chunks[index]
    elif draw < 0.78:
        extra = (b"tRNS", b"PLTE", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"iTXt", b"zTXt", b"iCCP")
        chunks.insert(index, (rng.choice(extra), rng.randbytes(rng.choice((0, 1, 6, 26, 300)))))
    elif draw < 0.88 and kind == b"IDAT":
        raw = zlib.decompressobj()
        try:
            pixels = raw.decompress(content, 1 << 20)
            chunks[index] = (kind, zlib.compress(rng.choice(GENERIC)(pixels, rng)))
        except zlib.error:
            chunks[index] = (kind, rng.choice(GENERIC)(content, rng))
    else:
        chunks[index] = (kind, rng.choice(GENERIC)(content, rng))
    edited = data[:8] + b"".join(png_chunk(kind, content) for kind, content in chunks)
    return rng.choice(GENERIC)(edited, rng) if rng.random() < 0.1 else edited


def edit_jpeg(data: bytes, rng: random.Random) -> bytes:
    """Change a marker segment, half of the time the one with the sizes."""
    markers = [match.start() for match in re.finditer(rb"\xff[\xc0-\xfe]", data[:4000])]
    if not markers:
        return flip_bytes(data, rng)
    frames = [at for at in markers if data[at + 1] in (0xC0, 0xC1, 0xC2)]
    if frames and rng.random() < 0.4:
        at = frames[0]
        changed = bytearray(data)
        for _ in range(rng.choice((1, 2))):
            size = rng.choice((0, 1, 63, 65, 8000, 10000, 10001, 65500, 65535))
            struct.pack_into(">H", changed, at + rng.choice((5, 7)), size)
        if rng.random() < 0.3:
            changed[at + rng.choice((4, 9, 10, 11, 12))] = rng.randrange(256)
        return bytes(changed)
    return edit_segment(data, rng.choice(markers), rng)


EDITS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "DICOM": edit_dicom,
    "NIfTI": edit_nifti,
    "NIfTI gzip": edit_gzip,
    "PNG": edit_png,
    "JPEG": edit_jpeg,
}


def format_specific_edit(kind: str) -> Callable[[bytes, random.Random], bytes]:
    """Return the mutation that is specific to a format."""
    return EDITS["DICOM" if kind.startswith("DICOM") else kind]

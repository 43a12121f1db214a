"""Create the inputs: a random file of the corpus after random mutations, or two files spliced."""

import random
from pathlib import Path

from fuzzing.mutations import GENERIC, flip_bytes, format_specific_edit, truncate

# The largest accepted files take seconds each, so they are drawn rarely.
BOMB_SHARE = 0.005


class Mutator:
    """Inputs created from the files of a corpus; each depends only on the seed and its number.

    Args:
        corpus: The folder that `write_corpus` filled.
        seed: Random seed.
    """

    def __init__(self, corpus: Path, seed: int) -> None:
        self.seed = seed
        self.files: dict[str, list[Path]] = {}
        self.all = sorted(corpus.iterdir())
        for path in self.all:
            self.files.setdefault(path.name.split(".")[0], []).append(path)
        self.formats = [kind for kind in self.files if not kind.startswith("bomb")]
        # Most of the reading code is for DICOM.
        self.weights = [8 if kind == "DICOM" else 4 for kind in self.formats]

    def make(self, number: int) -> tuple[str, str, bytes]:
        """Return format, suffix and bytes of an input; the first inputs are the unchanged files."""
        if number < len(self.all):
            path = self.all[number]
            return path.name.split(".")[0].removeprefix("bomb "), _suffix(path), path.read_bytes()
        rng = random.Random(f"{self.seed}/{number}")
        kind = rng.choices(self.formats, self.weights)[0]
        if rng.random() < BOMB_SHARE:
            kinds = [each for each in self.files if each.startswith("bomb")]
            path = rng.choice([path for each in kinds for path in self.files[each]])
            kind = path.name.split(".")[0].removeprefix("bomb ")
            data = path.read_bytes()
            if rng.random() < 0.5:
                return kind, _suffix(path), data
            return kind, _suffix(path), rng.choice((flip_bytes, truncate))(data, rng)
        path = rng.choice(self.files[kind])
        data = path.read_bytes()
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            draw = rng.random()
            if draw < 0.55:
                data = format_specific_edit(kind)(data, rng)
            elif draw < 0.95:
                data = rng.choice(GENERIC)(data, rng)
            else:
                data = self._splice(data, kind, rng)
        suffix = _suffix(path)
        if rng.random() < 0.03:
            suffix = rng.choice((".dcm", "", ".nii", ".nii.gz", ".png", ".jpg"))
        return kind, suffix, data

    def _splice(self, data: bytes, kind: str, rng: random.Random) -> bytes:
        """Join the start of a file and the end of another, mostly of the same format."""
        other_kind = kind if rng.random() < 0.6 else rng.choice(self.formats)
        other = rng.choice(self.files[other_kind]).read_bytes()
        return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _suffix(path: Path) -> str:
    return "." + path.name.split(".", 2)[2] if path.name.count(".") > 1 else ""

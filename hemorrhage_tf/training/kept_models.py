"""Backbones and classifiers of earlier fits, so that a later fit need not build them.

`CACHE/models/` holds for each backbone what its features depend on, and the last classifiers as
Keras saved them. Only the standardization and the dense units of a classifier differ between fits
with the same options, so its file can be written again with others, without TensorFlow. Whatever is
missing or damaged is built again.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf import models
from hemorrhage_tf.core.atomic_files import atomic_folder, write_atomically
from hemorrhage_tf.models.backbone_options import BackboneOptions
from hemorrhage_tf.models.backbones import BackboneFacts, fingerprint
from hemorrhage_tf.training.features.cache_location import MODELS
from hemorrhage_tf.training.head_solver import HeadWeights
from hemorrhage_tf.version import __version__

MOST_CLASSIFIERS = 3  # kept; a whole ResNet152 takes 240 MB

_FORMAT = 1
_CONFIG, _WEIGHTS, _CHECK, _METADATA = (
    "config.json",
    "model.weights.h5",
    "check.json",
    "metadata.json",
)
_CHUNK = 2**22  # bytes


class KeptModels:
    """The models that a cache folder keeps.

    A folder that cannot be written to keeps nothing, without an error.

    Args:
        cache: The cache folder; None keeps nothing.
    """

    def __init__(self, cache: Path | None) -> None:
        self._folder = None if cache is None else cache / MODELS

    def facts(self, options: BackboneOptions, seed: int) -> BackboneFacts | None:
        """Return the facts of a backbone that was built before, or None.

        Args:
            options: The backbone.
            seed: The random seed of weights that are not pretrained.
        """
        if self._folder is None:
            return None
        try:
            text = self._facts_path(self._folder, options, seed).read_text(encoding="utf-8")
            facts = BackboneFacts(**json.loads(text))
        except (OSError, ValueError, TypeError):
            return None
        types = [type(value) for value in asdict(facts).values()]
        return facts if types == [str, int, int] else None

    def keep_facts(self, options: BackboneOptions, seed: int, facts: BackboneFacts) -> None:
        """Keep the facts of a backbone."""
        if self._folder is None:
            return
        text = json.dumps(asdict(facts), sort_keys=True) + "\n"
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._facts_path(self._folder, options, seed)
            write_atomically(path, lambda file: file.write(text.encode()))

    def write_classifier(self, key: str, path: Path, head: HeadWeights) -> bool:
        """Write a classifier like one that was kept, with another head.

        Args:
            key: The key of the classifier, see `classifier_key`.
            path: The `.keras` file to write.
            head: The standardization and the dense units.

        Returns:
            Whether it was written. False if there is none, or a damaged one, which is removed.

        Raises:
            OSError: The file cannot be written.
        """
        if self._folder is None:
            return False
        folder = self._folder / key
        try:
            config = (folder / _CONFIG).read_bytes()
            check = json.loads((folder / _CHECK).read_text(encoding="utf-8"))
            with open(folder / _WEIGHTS, "rb") as file:
                weights = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            places = _head_places(folder / _WEIGHTS, head)
        except (OSError, ValueError, KeyError):
            places = None
        if places is None:
            shutil.rmtree(folder, ignore_errors=True)
            return False
        with weights:
            if check != {"config": zlib.crc32(config), "weights": _crc(weights)}:
                shutil.rmtree(folder, ignore_errors=True)
                return False
            for begin, values in places:  # only in this process
                weights[begin : begin + values.nbytes] = values.tobytes()
            _write_archive(path, config, weights)
        with suppress(OSError):
            os.utime(folder)
        return True

    def keep_classifier(self, key: str, path: Path, head: HeadWeights) -> None:
        """Keep a classifier, and remove those that were not used for the longest time.

        Args:
            key: The key of the classifier, see `classifier_key`.
            path: The `.keras` file, as Keras saved it.
            head: Its standardization and dense units.
        """
        if self._folder is None or (self._folder / key).exists():
            return
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_folder(self._folder / key) as folder:
                with zipfile.ZipFile(path) as archive:
                    crcs = {name: archive.getinfo(name).CRC for name in (_CONFIG, _WEIGHTS)}
                    for name in (_CONFIG, _WEIGHTS):
                        archive.extract(name, folder)
                check = {"config": crcs[_CONFIG], "weights": crcs[_WEIGHTS]}
                (folder / _CHECK).write_text(json.dumps(check), encoding="utf-8")
                if not _holds(folder / _WEIGHTS, head):
                    raise OSError("a later Keras stores the head elsewhere")
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        assert self._folder is not None
        kept = [path for path in self._folder.iterdir() if (path / _WEIGHTS).is_file()]
        kept.sort(key=lambda path: -path.stat().st_mtime)
        for path in kept[MOST_CLASSIFIERS:]:
            shutil.rmtree(path, ignore_errors=True)

    @staticmethod
    def _facts_path(folder: Path, options: BackboneOptions, seed: int) -> Path:
        return folder / f"{_backbone_key(options, seed)}.json"


def classifier_key(backbones: Sequence[tuple[BackboneOptions, int]], **options: Any) -> str:
    """Return the key of a classifier: the hash of all that decides its file, except for the head.

    Args:
        backbones: Each with the random seed of weights that are not pretrained.
        **options: Further plain values that decide its layers.
    """
    keys = [_backbone_key(*backbone) for backbone in backbones]
    return fingerprint({"backbones": keys, **options})


def _backbone_key(options: BackboneOptions, seed: int) -> str:
    """Return the hash of all that decides a backbone's weights and layers."""
    weights: dict[str, Any] = {"kind": options.weights}
    path: str | Path = options.weights
    if options.weights == "embedded" and options.spec.weights_file is not None:
        path = _MODELS_FOLDER / "pretrained" / options.spec.weights_file
    if Path(path).is_file():
        weights = {"file": _file_hash(str(path), Path(path).stat().st_mtime_ns)}
    elif options.weights == "none":
        weights["seed"] = seed
    return fingerprint(
        {
            "format": _FORMAT,
            "backbone": options.spec.name,
            "weights": weights,
            "feature_layer": options.feature_layer,
            "image_size": options.image_size,
            "code": _code_hash(),
            "versions": [__version__, *(version(name) for name in ("keras", "tensorflow"))],
            "platform": [sys.platform, sys.byteorder],
        }
    )


_MODELS_FOLDER = Path(next(iter(models.__path__)))


@cache
def _file_hash(path: str, modified: int) -> str:
    """Hash a file; `modified` is its time, so that a changed file is hashed again."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


@cache
def _code_hash() -> str:
    """Hash the code that builds backbones and classifiers, which a developer may change."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(_MODELS_FOLDER.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _head_arrays(head: HeadWeights) -> list[tuple[str, np.ndarray]]:
    """Return the data sets of Keras' weights file that hold a head, with their values."""
    arrays = [
        ("layers/normalization/vars/0", head.mean),
        ("layers/normalization/vars/1", head.variance),
        ("layers/dense/vars/0", head.kernel[:, :1]),
        ("layers/dense/vars/1", head.bias[:1]),
    ]
    if len(head.bias) > 1:
        arrays.append(("layers/dense_1/vars/0", head.kernel[:, 1:]))
        arrays.append(("layers/dense_1/vars/1", head.bias[1:]))
    return arrays


def _read_head(path: Path, head: HeadWeights, read: Callable[[Any], Any]) -> list[Any]:
    """Read something of each data set of a head."""
    import h5py

    with h5py.File(path) as file:
        results = []
        for name, values in _head_arrays(head):
            stored = file[name]
            if stored.size != values.size or stored.dtype != np.float32:
                raise ValueError(f"{name} has the shape {stored.shape}")
            results.append(read(stored))
        return results


def _head_places(path: Path, head: HeadWeights) -> list[tuple[int, np.ndarray]]:
    """Return where in a weights file each array of a head is, and its values."""
    offsets = _read_head(path, head, lambda stored: stored.id.get_offset())
    if None in offsets:
        raise ValueError("the data are compressed")
    values = [np.ascontiguousarray(array, np.float32) for _, array in _head_arrays(head)]
    return list(zip(offsets, values, strict=True))


def _holds(path: Path, head: HeadWeights) -> bool:
    """Return whether a weights file holds a head in the known data sets."""
    try:
        stored = _read_head(path, head, lambda stored: stored[()])
    except (OSError, ValueError, KeyError):
        return False
    arrays = [values for _, values in _head_arrays(head)]
    return all(
        np.array_equal(one.ravel(), other.ravel())
        for one, other in zip(stored, arrays, strict=True)
    )


def _crc(data: mmap.mmap) -> int:
    crc = 0
    for begin in range(0, len(data), _CHUNK):
        crc = zlib.crc32(data[begin : begin + _CHUNK], crc)
    return crc


def _write_archive(path: Path, config: bytes, weights: mmap.mmap) -> None:
    """Write a `.keras` file with the members that Keras writes."""
    metadata: Mapping[str, str] = {
        "keras_version": version("keras"),
        "date_saved": time.strftime("%Y-%m-%d@%H:%M:%S"),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in ((_METADATA, json.dumps(metadata).encode()), (_CONFIG, config)):
            with archive.open(name, "w") as file:
                file.write(data)
        info = zipfile.ZipInfo(_WEIGHTS, time.localtime()[:6])
        info.file_size = len(weights)
        with archive.open(info, "w") as file:
            for begin in range(0, len(weights), _CHUNK):
                file.write(weights[begin : begin + _CHUNK])

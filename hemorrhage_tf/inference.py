"""One interface over every form of a trained model: run folder, `.keras`, SavedModel, `.tflite`.

The embedded model is one of them, by name: its TFLite file needs no TensorFlow to predict.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.data.model_input import ModelInput
from hemorrhage_tf.data.overlay import draw_overlay
from hemorrhage_tf.data.pipeline import input_batches
from hemorrhage_tf.data.readers import SliceRef, read_slice
from hemorrhage_tf.data.scan import find_slices
from hemorrhage_tf.data.windows import DEFAULT_WINDOW, parse_windows
from hemorrhage_tf.errors import ModelError, OptionError, OutputError
from hemorrhage_tf.evaluation.calibration import log_odds
from hemorrhage_tf.models.classifier import with_class_activation_map
from hemorrhage_tf.models.embedded import (
    EMBEDDED_MODEL,
    TFLITE_FILE,
    build_embedded_classifier,
    embedded_file,
)
from hemorrhage_tf.models.metadata import ModelMetadata, read_metadata
from hemorrhage_tf.models.scan_figure import mean_of_top
from hemorrhage_tf.reporting import Reporter, import_tensorflow, quietly
from hemorrhage_tf.training.run import (
    MODEL_FILE,
    is_run_folder,
    training_hashes,
    training_look,
)

BATCH_SIZE = 32

# What a model may be; the embedded one is named, the others are paths.
RUN_FOLDER, KERAS, SAVED_MODEL, TFLITE = "run folder", "keras", "saved_model", "tflite"
EMBEDDED = "embedded"
FORMATS = (
    "a run folder (it holds model.keras), a .keras file from one, and what was exported from one: "
    f"a SavedModel folder or a .tflite file; or {EMBEDDED_MODEL}, the embedded model"
)
# Axes of a batch of slices, and of their maps: the slice itself, and its three flips.
_FLIPS = ((), (2,), (1,), (1, 2))

# From float32 `(n, size, size, 3)` to probabilities `(n,)` and class activation maps `(n, h, w)`.
Explained = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Finding:
    """What a model says of one slice.

    Attributes:
        path: the file, with `#` and the number of the slice behind it where it holds several.
        probability: P(hemorrhage), in [0, 1].
        is_hemorrhage: whether it is at or above the model's threshold.
        scan: the volume or series that the slice is of, or None.
        cam: the overlay that was written for it, or None.
        warning: what makes it look like something else than a head CT, a clause; or None.
    """

    path: str
    probability: float
    is_hemorrhage: bool
    scan: str | None = None
    cam: str | None = None
    warning: str | None = None


@dataclass(frozen=True)
class ScanFinding:
    """What a model says of one volume or series.

    Attributes:
        scan: the file or folder.
        slices: how many slices it has.
        flagged: how many of them are at or above the model's threshold.
        highest: the highest probability of a slice.
        mean_of_top: the mean of the three highest, which a single odd slice moves less.
        threshold: the model's for scans.
        is_hemorrhage: whether that mean is at or above it.
    """

    scan: str
    slices: int
    flagged: int
    highest: float
    mean_of_top: float
    threshold: float
    is_hemorrhage: bool


@dataclass(frozen=True)
class Prediction:
    """Findings, to be gone through like a list, and what they add up to for whole scans.

    Attributes:
        findings: one for each slice; those of a scan follow each other, from the neck up.
        scans: one for each volume and series of more than one slice.
    """

    findings: tuple[Finding, ...]
    scans: tuple[ScanFinding, ...]

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Gives plain values for JSON: `slices` and `scans`."""
        slices = [
            {
                "path": finding.path,
                "probability": round(finding.probability, 6),
                "hemorrhage": int(finding.is_hemorrhage),
                "scan": finding.scan,
                "warning": finding.warning,
                **({} if finding.cam is None else {"cam": finding.cam}),
            }
            for finding in self.findings
        ]
        scans = [
            {
                "scan": found.scan,
                "slices": found.slices,
                "flagged": found.flagged,
                "highest": round(found.highest, 6),
                "mean_of_top_3": round(found.mean_of_top, 6),
                "threshold": round(found.threshold, 6),
                "hemorrhage": int(found.is_hemorrhage),
            }
            for found in self.scans
        ]
        return {"slices": slices, "scans": scans}

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __getitem__(self, index: int) -> Finding:
        return self.findings[index]


class Model:
    """A trained classifier of any form, ready to predict.

    Args:
        path: where it was loaded from.
        metadata: what it carries.
        run: from float32 `(n, size, size, 3)` in [0, 255] to float32 probabilities `(n,)`.
        explain: makes the function that gives the class activation maps `(n, h, w)` too, or None
            where the model has none. Default None.
        kept: what must live as long as the model does. Default None.
        classifier: the Keras model, where there is one. Default None.
        flips: whether `run` and the maps are means over the flips of a slice. Default False.
        is_embedded: whether it is the one that comes with the package. Default False.
    """

    def __init__(
        self,
        path: Path,
        metadata: ModelMetadata,
        run: Callable[[np.ndarray], np.ndarray],
        explain: Callable[[], Explained] | None = None,
        kept: Any = None,
        classifier: Any = None,
        flips: bool = False,
        is_embedded: bool = False,
    ) -> None:
        self.path = path
        self.metadata = metadata
        self._run = run
        self._explain = explain
        self._kept = kept
        self._classifier = classifier
        self.flips = flips
        self.is_embedded = is_embedded

    @property
    def has_cam(self) -> bool:
        """Whether it gives class activation maps."""
        return self._explain is not None

    @property
    def threshold(self) -> float:
        """Probabilities at or above it count as hemorrhage."""
        return self.metadata.threshold

    @property
    def scan_threshold(self) -> float:
        """Scans of which the mean of the three highest is at or above it count as hemorrhage."""
        chosen = self.metadata.scan_threshold
        return self.threshold if chosen is None else chosen

    def run(self, images: np.ndarray) -> np.ndarray:
        """Predicts model input.

        Args:
            images: float32 `(n, size, size, 3)`, RGB, in [0, 255].

        Returns:
            float32 `(n,)` in [0, 1].
        """
        return self._run(images)

    def with_flips(self) -> Model:
        """Gives the same model asked four times: of a slice, its mirror images and both together.

        The logits are averaged; so are the class activation maps, turned back, so that the mean of
        a map stays the mean of the logits. It takes four times as long.
        """
        if self.flips:
            return self

        def run(images: np.ndarray) -> np.ndarray:
            return _mean_probability([self._run(_flip(images, axes)) for axes in _FLIPS])

        def explain() -> Explained:
            explained = self._explain()

            def flipped(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                found = [explained(_flip(images, axes)) for axes in _FLIPS]
                maps = [_flip(cam, axes) for (_, cam), axes in zip(found, _FLIPS, strict=True)]
                return _mean_probability([each for each, _ in found]), np.mean(maps, axis=0)

            return flipped

        return Model(
            *(self.path, self.metadata, run, explain if self.has_cam else None),
            kept=self._kept,
            classifier=self._classifier,
            flips=True,
            is_embedded=self.is_embedded,
        )

    def training_hashes(self) -> set[str]:
        """Content hashes of the slices it was trained on; empty where only a file is known."""
        return training_hashes(self.path) if self._is_run else set()

    def training_look(self) -> dict[str, Any] | None:
        """How the slices that it was trained on look; None where only a file is known."""
        return training_look(self.path) if self._is_run else None

    @property
    def _is_run(self) -> bool:
        return not self.is_embedded and is_run_folder(self.path)

    def input_for(
        self,
        is_hounsfield: np.ndarray,
        window: str | Sequence[str] | None = None,
        reporter: Reporter | None = None,
    ) -> ModelInput:
        """Says what slices are brought to, and refuses what the model was not trained for.

        Args:
            is_hounsfield: bool `(n,)`: which slices are in HU; the others are pictures.
            window: the window that the user asks for, or None for the model's.
            reporter: where a note goes, or None for nowhere.

        Returns:
            The model's own, with a window for Hounsfield units.

        Raises:
            OptionError: another window than the model's, a window for pictures, or pictures where
                every channel is a window of its own.
        """
        trained = self.metadata.window
        asked = None if window is None else parse_windows(window)
        if asked and trained and asked != trained:
            raise OptionError(
                f"--window {','.join(asked)}: this model was trained with {','.join(trained)} and "
                "knows no other. Leave --window out, or train one with it"
            )
        if asked and not is_hounsfield.all():
            raise OptionError(
                f"--window {','.join(asked)}: {int((~is_hounsfield).sum())} of "
                f"{len(is_hounsfield)} slices are pictures, which were windowed already; only "
                "Hounsfield units (DICOM, NIfTI) can be. Leave --window or the pictures out"
            )
        model_input = self.metadata.model_input
        if not model_input.takes_pictures and not is_hounsfield.all():
            raise OptionError(
                f"this model takes Hounsfield units through {', '.join(trained)}, one a channel, "
                f"and {int((~is_hounsfield).sum())} of {len(is_hounsfield)} slices are pictures. "
                "Give DICOM or NIfTI"
            )
        if trained is None and is_hounsfield.any():
            asked = asked or DEFAULT_WINDOW
            if reporter is not None:
                reporter.note(
                    "The model was trained on pictures: Hounsfield units are shown to it through "
                    f"the window {','.join(asked)}."
                )
            model_input = replace(model_input, window=asked)
        return model_input

    def standardized(
        self, slices: Sequence[SliceRef | Path], model_input: ModelInput | None = None
    ) -> np.ndarray | None:
        """Gives the features of slices as the head sees them, standardized as in training.

        Args:
            slices: where they are; they are known to be readable.
            model_input: from `input_for`; None for the model's own.

        Returns:
            float32 `(n, width)`; None for a form that does not give them.
        """
        if self._classifier is None:
            return None
        import keras
        import tensorflow as tf

        classifier = self._classifier
        to_features = keras.Model(classifier.input, classifier.get_layer("standardization").output)
        forward = tf.function(lambda images: to_features(images, training=False))
        model_input = model_input or self.metadata.model_input
        batches = input_batches(slices, model_input, BATCH_SIZE)
        return np.concatenate([forward(tf.constant(images)).numpy() for images in batches])

    def probabilities(
        self,
        slices: Sequence[SliceRef | Path],
        reporter: Reporter | None = None,
        model_input: ModelInput | None = None,
    ) -> np.ndarray:
        """Predicts slices that are known to be readable.

        Args:
            slices: where they are.
            reporter: where progress goes, or None for nowhere.
            model_input: from `input_for`; None for the model's own.

        Returns:
            float32 `(n,)` in [0, 1].
        """
        reporter = reporter or Reporter(quiet=True)
        model_input = model_input or self.metadata.model_input
        found = []
        with reporter.progress("Predicting", len(slices)) as advance:
            for images in input_batches(slices, model_input, BATCH_SIZE):
                found.append(self.run(images))
                advance(len(images))
        return np.concatenate(found) if found else np.empty(0, np.float32)

    def explained(
        self,
        slices: Sequence[SliceRef | Path],
        reporter: Reporter | None = None,
        model_input: ModelInput | None = None,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Predicts slices one batch after the other, with the class activation map of each.

        Args:
            slices: where they are; they are known to be readable.
            reporter: where progress goes, or None for nowhere.
            model_input: from `input_for`; None for the model's own.

        Yields:
            P(hemorrhage), and the map, float32 `(h, w)`, whose mean is the logit.

        Raises:
            ModelError: the model gives no map.
        """
        if self._explain is None:
            raise ModelError(
                f"{self.path}: gives no class activation map. Export it with --cam, or name the "
                "run folder"
            )
        reporter = reporter or Reporter(quiet=True)
        model_input = model_input or self.metadata.model_input
        run = self._explain()
        with reporter.progress("Predicting", len(slices)) as advance:
            for images in input_batches(slices, model_input, BATCH_SIZE):
                yield from zip(*run(images), strict=True)
                advance(len(images))

    def predict(
        self,
        images: str | Path | Iterable[str | Path],
        skip_bad: bool = False,
        reporter: Reporter | None = None,
        window: str | Sequence[str] | None = None,
        cam: str | Path | None = None,
        flips: bool = False,
    ) -> Prediction:
        """Predicts files, folders and globs.

        Args:
            images: one of them, or several.
            skip_bad: go on without files that cannot be read. Default False.
            reporter: where progress and notes go, or None for nowhere.
            window: for Hounsfield units; None for the model's.
            cam: a folder to write overlays of the class activation map to, or None for none.
            flips: average over the flips of each slice, see `with_flips`. Default False.

        Returns:
            A finding for each slice, in the order given, and one for each scan.

        Raises:
            DataError: files that cannot be read, all in one message; or nothing to predict.
            OptionError: a window that does not fit the model or the slices.
            OutputError: an overlay cannot be written.
        """
        if flips and not self.flips:
            return self.with_flips().predict(images, skip_bad, reporter, window, cam)
        reporter = reporter or Reporter(quiet=True)
        found = find_slices(images, reporter, skip_bad)
        model_input = self.input_for(found.is_hounsfield, window, reporter)
        overlays: list[str | None] = [None] * len(found)
        if cam is None:
            probabilities = self.probabilities(found.slices, reporter, model_input)
        else:
            folder = Path(cam)
            overlays = _overlay_paths(folder, found.slices)
            probabilities = np.empty(len(found), np.float32)
            explained = self.explained(found.slices, reporter, model_input)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                for index, (probability, weights) in enumerate(explained):
                    probabilities[index] = probability
                    pixels = read_slice(found.slices[index])
                    draw_overlay(pixels, weights, model_input).save(overlays[index], "PNG")
            except OSError as error:
                raise OutputError(
                    f"--cam {folder}: cannot be written ({error.strerror or error})"
                ) from None
        findings = tuple(
            Finding(
                *(str(ref), float(probability), bool(probability >= self.threshold)),
                *(scan, at, warning),
            )
            for ref, probability, scan, at, warning in zip(
                found.slices, probabilities, found.scans, overlays, found.warnings, strict=True
            )
        )
        return Prediction(findings, self.scan_findings(found.scans, probabilities))

    def scan_findings(
        self, scans: Sequence[str | None], probabilities: np.ndarray
    ) -> tuple[ScanFinding, ...]:
        """Adds up the slices of each scan.

        Args:
            scans: the scan of each slice, or None.
            probabilities: `(n,)`, of each slice.

        Returns:
            A finding for each scan, in the order in which they first occur.
        """
        members: dict[str, list[int]] = {}
        for index, scan in enumerate(scans):
            if scan is not None:
                members.setdefault(scan, []).append(index)
        found = []
        for scan, indices in members.items():
            values = probabilities[indices]
            top = np.float32(mean_of_top(values))
            found.append(
                ScanFinding(
                    scan,
                    len(indices),
                    int((values >= self.threshold).sum()),
                    float(values.max()),
                    float(top),
                    self.scan_threshold,
                    bool(top >= self.scan_threshold),
                )
            )
        return tuple(found)


def _overlay_paths(folder: Path, slices: Sequence[SliceRef]) -> list[str]:
    """Names overlays after their slices; slices of one name in two folders are numbered."""
    names: dict[str, None] = {}
    for ref in slices:
        stem = ref.path.name if ref.frame is None else f"{ref.path.name}.{ref.frame:04d}"
        name, number = f"{stem}.cam.png", 1
        while name in names:
            number += 1
            name = f"{stem}.{number}.cam.png"
        names[name] = None
    return [str(folder / name) for name in names]


def _flip(batch: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    # Runtimes below Python take no negative strides.
    return np.ascontiguousarray(np.flip(batch, axes)) if axes else batch


def _mean_probability(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Averages logits, of which none is taken for infinite, and gives the probability of that."""
    mean = np.mean([log_odds(each) for each in probabilities], axis=0)
    return (1 / (1 + np.exp(-mean))).astype(np.float32)


def is_embedded(path: str | Path) -> bool:
    """Says whether the embedded model is named; a file or folder of that name goes before it."""
    return str(path) == EMBEDDED_MODEL and not Path(path).exists()


def model_form(path: str | Path) -> str | None:
    """Says which form of a model a path is, without loading it.

    Returns:
        "run folder", "keras", "saved_model", "tflite" or "embedded"; None for what is no model.
    """
    if is_embedded(path):
        return EMBEDDED
    path = Path(path)
    if (path / MODEL_FILE).is_file():
        return RUN_FOLDER
    if (path / "saved_model.pb").is_file():
        return SAVED_MODEL
    if path.is_file() and path.suffix.lower() in (".keras", ".tflite"):
        return path.suffix.lower().removeprefix(".")
    return None


def model_and_images(
    arguments: Sequence[str | Path],
) -> tuple[str | Path | None, list[str | Path]]:
    """Tells the model among arguments from the images.

    Args:
        arguments: images, or a model of any form before them.

    Returns:
        The model, None where none is named and the embedded one is meant, and the images.

    Raises:
        OptionError: nothing is named, no image is, or a model stands behind an image.
        ModelError: the first is neither.
    """
    if not arguments:
        raise OptionError("no images are named. Name files, folders or globs")
    first, *others = arguments
    for other in others:
        if model_form(other) is not None:
            raise OptionError(f"{other}: a model. Name one model, before the images")
    if model_form(first) is None:
        # What is to be a pattern is told of with the images.
        if not Path(first).exists() and not glob.has_magic(str(first)):
            raise ModelError(
                f"{first}: neither a model nor an image is there. Accepted as a model: {FORMATS}. "
                f"Without one the embedded model, {EMBEDDED_MODEL}, is used"
            )
        return None, [first, *others]
    if not others:
        raise OptionError(f"{first}: a model, and no images. Name images behind it")
    return first, others


def load(path: str | Path, threads: int | None = None) -> Model:
    """Loads a trained model of any form.

    Args:
        path: a run folder, a `.keras` file from one, a SavedModel folder or a `.tflite` file that
            was exported from one; or "phantomnet", the embedded model, where no file or folder has
            that name.
        threads: threads that a `.tflite` file runs with; None for as many as there are processors.
            The others run with as many as TensorFlow was set up with.

    Returns:
        The model.

    Raises:
        ModelError: nothing is there, or it is no whole model of this package.
    """
    path = Path(path)
    if is_embedded(path):
        return load_embedded(threads)
    if path.suffix.lower() == ".tflite" and path.is_file():
        return _load_tflite(path, threads)
    if (path / "saved_model.pb").is_file():
        return _load_saved_model(path)
    metadata, classifier = load_classifier(path)
    import tensorflow as tf

    forward = tf.function(lambda images: classifier(images, training=False), reduce_retracing=True)

    def explain() -> Explained:
        with_map = with_class_activation_map(classifier)
        both = tf.function(lambda images: with_map(images, training=False), reduce_retracing=True)
        return lambda images: _both(both(tf.constant(images)))

    def run(images: np.ndarray) -> np.ndarray:
        return forward(tf.constant(images)).numpy()[:, 0]

    return Model(path, metadata, run, explain, classifier=classifier)


def load_embedded(threads: int | None = None) -> Model:
    """Loads the model that comes with the package, to be run by its TFLite file.

    Args:
        threads: see `load`.

    Returns:
        The model.

    Raises:
        ModelError: its file is missing or damaged.
    """
    model = _load_tflite(embedded_file(TFLITE_FILE), threads)
    model.path, model.is_embedded = Path(EMBEDDED_MODEL), True
    return model


def load_classifier(path: Path) -> tuple[ModelMetadata, Any]:
    """Loads the Keras model of a run folder, a `.keras` file or the embedded model.

    Args:
        path: the run folder, the file, or "phantomnet".

    Returns:
        What the model carries, and the Keras model, from `image` to `probability`.

    Raises:
        ModelError: nothing is there, or it is no whole Keras model of this package.
    """
    if is_embedded(path):
        import_tensorflow()
        return build_embedded_classifier()
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"{path}: no model there. Accepted: {FORMATS}")
    if file.suffix.lower() != ".keras":
        raise ModelError(f"{path}: not a known model format. Accepted: {FORMATS}")
    metadata = read_metadata(file)
    import_tensorflow()
    import keras

    try:
        classifier = keras.saving.load_model(file, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: cannot be loaded, the file is damaged ({error})") from None
    expected = (None, metadata.image_size, metadata.image_size, 3)
    if tuple(classifier.input_shape) != expected or tuple(classifier.output_shape) != (None, 1):
        raise ModelError(
            f"{file}: a model from {classifier.input_shape} to {classifier.output_shape}, where "
            f"{expected} to (None, 1) was expected"
        )
    return metadata, classifier


def _load_saved_model(path: Path) -> Model:
    metadata = read_metadata(path)
    import_tensorflow()
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
        serve = loaded.signatures["serving_default"]
        dtype = serve.structured_input_signature[1]["image"].dtype
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        raise ModelError(f"{path}: cannot be loaded, the folder is damaged ({error})") from None

    def explained(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _both(serve(image=tf.constant(as_type(images, dtype.name))))

    return Model(
        path, metadata, lambda images: explained(images)[0], lambda: explained, kept=loaded
    )


def _load_tflite(path: Path, threads: int | None) -> Model:
    metadata = read_metadata(path)
    from ai_edge_litert.interpreter import Interpreter

    try:
        with quietly(2):  # it says which delegate it made
            interpreter = Interpreter(str(path), num_threads=threads or os.cpu_count())
            interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner("serving_default")
        details = runner.get_input_details()["image"]
    except (ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{path}: cannot be loaded, the file is damaged ({error})") from None
    fixed = details["shape_signature"][0] != -1
    dtype = np.dtype(details["dtype"]).name

    def run(images: np.ndarray) -> np.ndarray:
        images = as_type(images, dtype)
        parts = np.split(images, len(images)) if fixed else [images]
        return np.concatenate([runner(image=part)["probability"][:, 0] for part in parts])

    def explained(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = as_type(images, dtype)
        parts = np.split(images, len(images)) if fixed else [images]
        found = [runner(image=part) for part in parts]
        probabilities = np.concatenate([each["probability"][:, 0] for each in found])
        return probabilities, np.concatenate([each["cam"] for each in found])

    has_cam = "cam" in runner.get_output_details()
    return Model(path, metadata, run, (lambda: explained) if has_cam else None)


def _both(outputs: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    return outputs["probability"].numpy()[:, 0], outputs["cam"].numpy()


def as_type(images: np.ndarray, dtype: str) -> np.ndarray:
    """Brings float32 images in [0, 255] to the type of a model's input; uint8 is rounded."""
    if dtype == "uint8":
        return np.rint(images).clip(0, 255).astype(np.uint8)
    return images.astype(np.float32)

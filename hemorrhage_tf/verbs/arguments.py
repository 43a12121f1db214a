"""Arguments that several verbs share: settings, a model in any form, images, labeled data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.inference.forms import model_form
from hemorrhage_tf.inference.loading import load
from hemorrhage_tf.inference.model import Model

if TYPE_CHECKING:  # `predict` needs none of them
    from hemorrhage_tf.datasets.records import Manifest
    from hemorrhage_tf.exporters.settings import ExportSettings
    from hemorrhage_tf.training.settings import FitSettings
    from hemorrhage_tf.verbs.results import Run

ModelArgument: TypeAlias = "str | Path | Model | Run"
Settings = TypeVar("Settings", "FitSettings", "ExportSettings")


def create_settings(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Create settings from keyword arguments.

    Raises:
        OptionError: There is no setting of that name, or its value is not accepted.
    """
    fields = kind.__dataclass_fields__
    unknown = [name for name in values if name not in fields]
    if unknown:
        raise OptionError(
            f"{', '.join(unknown)}: no such setting. Pass some of {', '.join(fields)}."
        )
    try:
        return kind(**values)
    except TypeError as error:
        raise OptionError(
            f"a setting has a value of the wrong type ({error}). Pass numbers and text as such."
        ) from None


def resolve_model(model: ModelArgument, progress: Progress, tta: bool = False) -> Model:
    """Load a model in any form, and note where it is the embedded one.

    Args:
        model: A path, "phantomnet", a loaded model, or a run.
        progress: Shows the progress and the note.
        tta: Return it with test-time augmentation. Defaults to False.
    """
    if not isinstance(model, Model):
        path = model if isinstance(model, str | Path) else model.path
        with progress.stage(f"Loading {path}"):
            model = load(path)
    if model.is_embedded:
        progress.note(
            "Model: PhantomNet, trained on synthetic phantoms alone. Research software, not a "
            "medical device."
        )
    return model.with_tta() if tta else model


def model_name(model: ModelArgument) -> str:
    """Return the name of a model in outputs: its path."""
    return str(model if isinstance(model, str | Path) else model.path)


def check_images(
    images: str | Path | Iterable[str | Path] | Model | Run,
) -> list[str | Path]:
    """Return images as a list, and reject a model in their place.

    Raises:
        OptionError: No images, or a model among them.
    """
    paths: list[str | Path]
    if isinstance(images, str | Path):
        paths = [images]
    else:
        paths = list(images) if isinstance(images, Iterable) else [images.path]
    if not paths:
        raise OptionError("no images were passed. Pass files, folders or globs.")
    for path in paths:
        if model_form(path) is not None:
            raise OptionError(
                f"{path}: this is a model, not an image. Pass it as --model {path}, and the images "
                "as IMAGES."
            )
    return paths


def check_data(data: str | Path | Manifest | Model | Run) -> str | Path | Manifest:
    """Return labeled data, and reject a model in its place.

    Raises:
        OptionError: It is a model.
    """
    from hemorrhage_tf.verbs.results import Run

    is_model = isinstance(data, Model | Run)
    if is_model or (isinstance(data, str | Path) and model_form(data) is not None):
        path = data.path if isinstance(data, Model | Run) else data
        raise OptionError(
            f"{path}: this is a model, not labeled data. Pass it as --model {path}, and the "
            "labeled slices as DATA."
        )
    assert not isinstance(data, Model | Run)
    return data

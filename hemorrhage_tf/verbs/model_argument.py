"""TODO docstring."""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.inference.loading import load, load_embedded
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.verbs.results import Run


def _loaded(model: str | Path | Model | Run | None, progress: Progress, tta: bool = False) -> Model:
    """Loads a model, the embedded one for None, and says what that is."""
    if model is None:
        model = load_embedded()
    elif not isinstance(model, Model):
        path = model.path if isinstance(model, Run) else model
        with progress.stage(f"Loading {path}"):
            model = load(path)
    if model.is_embedded:
        progress.note(
            "The embedded PhantomNet predicts. It was trained on synthetic phantoms alone; it is "
            "research software, not a medical device."
        )
    return model.with_tta() if tta else model

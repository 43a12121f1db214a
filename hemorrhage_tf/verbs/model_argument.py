"""TODO docstring."""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.core.progress import Reporter
from hemorrhage_tf.inference.loading import load, load_embedded
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.verbs.results import Run


def _loaded(
    model: str | Path | Model | Run | None, reporter: Reporter, flips: bool = False
) -> Model:
    """Loads a model, the embedded one for None, and says what that is."""
    if model is None:
        model = load_embedded()
    elif not isinstance(model, Model):
        path = model.path if isinstance(model, Run) else model
        with reporter.stage(f"Loading {path}"):
            model = load(path)
    if model.is_embedded:
        reporter.note(
            "The embedded PhantomNet predicts. It was trained on synthetic phantoms alone; it is "
            "research software, not a medical device."
        )
    return model.with_tta() if flips else model

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hemorrhage_tf.exporters.export_card import write_export_card

EXPORT = {
    "form": "tflite",
    "quantize": "int8",
    "input_type": "uint8",
    "verification": {"serving_default": {"slices": 40, "largest_difference": 0.0123, "changed": 1}},
}


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "model_card.md").write_text("# Card\n\nText.\n")
    (folder / "model_card.json").write_text('{"n": 40}')
    return folder


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_adds_the_verification_to_the_card(source, tmp_path, kind):
    if kind == "file":
        draft, prefix = tmp_path / "a.tflite", f"{tmp_path}/a."
        draft.touch()
    else:
        draft, prefix = tmp_path / "saved", f"{tmp_path}/saved/"
        draft.mkdir()
    write_export_card(source, draft, EXPORT)
    values = json.loads(Path(f"{prefix}model_card.json").read_text())
    assert values == {"n": 40, "export": EXPORT}
    text = Path(f"{prefix}model_card.md").read_text()
    assert text.startswith("# Card\n\nText.\n\n## Export\n")
    assert "Form: tflite, quantize int8, input uint8." in text
    assert "| serving_default | 40 | 1.2e-02 | 1 |" in text


def test_a_source_without_a_card_is_exported_without_one(source, tmp_path):
    (source / "model_card.md").unlink()
    draft = tmp_path / "a.tflite"
    draft.touch()
    write_export_card(source, draft, EXPORT)
    assert not list(tmp_path.glob("*.model_card.*"))

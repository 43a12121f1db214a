"""The model card of an export: the card of the trained model, plus the verification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hemorrhage_tf.reports.model_card import JSON_FILE, MARKDOWN_FILE


def write_export_card(source: Path, draft: Path, export: dict[str, Any]) -> None:
    """Write the model card of an export, if the source has a card.

    The card goes into a SavedModel folder, or next to a file, with the file's name as prefix.

    Args:
        source: The folder with the card of the trained model.
        draft: The exported file or folder.
        export: Plain values: `form`, `quantize`, `input_type` and `verification`.
    """
    folder, prefix = (draft, "") if draft.is_dir() else (draft.parent, f"{draft.stem}.")
    markdown, values = source / MARKDOWN_FILE, source / JSON_FILE
    if not (markdown.is_file() and values.is_file()):
        return
    card = {**json.loads(values.read_text(encoding="utf-8")), "export": export}
    (folder / f"{prefix}{JSON_FILE}").write_text(
        json.dumps(card, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    lines = [
        markdown.read_text(encoding="utf-8").rstrip(),
        f"\n## Export\n\nForm: {export['form']}, quantize {export['quantize']}, input "
        f"{export['input_type']}. Compared with the trained model:\n",
        "| signature | slices | largest difference of probability | changed decisions |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {one['slices']} | {one['largest_difference']:.1e} | {one['changed']} |"
        for name, one in export["verification"].items()
    ]
    (folder / f"{prefix}{MARKDOWN_FILE}").write_text("\n".join(lines) + "\n", encoding="utf-8")

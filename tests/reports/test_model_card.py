from __future__ import annotations

import json
import re

import numpy as np
import pytest
from report_examples import METRIC

from hemorrhage_tf.core.errors import DataError, OutputError
from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.evaluation.metrics import binary_metrics
from hemorrhage_tf.evaluation.operating_point import choose
from hemorrhage_tf.reports.checklists import REFERENCES
from hemorrhage_tf.reports.model_card import (
    INDEPENDENCE,
    OPEN,
    CardContent,
    escape_markdown,
    model_card,
    write_model_card,
)

rng = np.random.default_rng(0)
LABELS = np.arange(60) % 2
PROBABILITIES = np.clip(0.5 * LABELS + rng.uniform(0, 0.6, 60), 0, 1)
METRICS = binary_metrics(LABELS, [PROBABILITIES], 0.5, prevalence=0.1)
AUDIT = {
    "root": "/home/someone/patients",
    "problems": [{"path": "Jane-Doe/1.png", "reason": "truncated"}],
    "pairs": [{"first": "Jane-Doe/2.png", "second": "Jane-Doe/3.png"}],
    "shortcuts": [
        {"name": "border", "model": "random forest", "roc_auc": METRIC},
        {"name": "size", "model": "random forest", "roc_auc": None},
    ],
}


def minimal_card(**values):
    required = {
        "name": "tiny on phantoms",
        "metrics": METRICS,
        "independence": "same set",
        "split": "20 % of the slices held out",
    }
    return CardContent(**required | values)


def full_card():
    return minimal_card(
        counts={"slices": 60},
        sources=("phantoms",),
        model_rows=(("backbone", "tiny"),),
        training_rows=(("epochs", "3"),),
        preprocessing="resized",
        weights="random",
        operating_point=choose(LABELS, PROBABILITIES, "sensitivity=0.95").to_dict(),
        calibration=LogitCalibration(1.3, -1.6),
        audit=AUDIT,
        robustness=[
            {"name": "flip", "n": 60, "changed_decisions": 3, "largest_change": 0.2, "note": None},
            {"name": "JPEG", "n": 0, "changed_decisions": None, "note": "Hounsfield units"},
        ],
        subgroups=[{"group": "a"}],
        report="report.html",
        limits=("one phantom generator",),
        warnings=("12 slices were trained on",),
        versions={"hemorrhage_tf": "0.1.0"},
        answers={"funding": "none"},
    )


class TestModelCard:
    def test_markdown_contains_every_text_of_the_json(self):
        markdown, card = model_card(full_card())
        assert json.loads(json.dumps(card, allow_nan=False)) == card
        texts = [row["text"] for row in [*card["metrics"], *card["shortcuts"]]]
        texts += [item["recorded"] for item in card["checklists"] if item["recorded"]]
        texts += [*card["limits"], *card["out_of_scope"], *card["references"].values()]
        texts += [card["intended_use"], card["operating_point"], card["calibration"]]
        for text in texts:
            assert escape_markdown(text) in markdown

    def test_prints_every_metric_with_its_interval(self):
        markdown, _ = model_card(full_card())
        metric = METRICS["sensitivity"]
        text = f"{metric['estimate']:.1%} ({metric['low']:.1%} to {metric['high']:.1%})"
        assert f"| sensitivity | {text} |" in markdown
        assert "| border | random forest | 0.800 (0.700 to 0.900) |" in markdown
        assert "| size | random forest | not available |" in markdown
        assert escape_markdown("logits divided by 1.300, offset -1.600") in markdown
        assert "| flip | 3 of 60 | 0.200 |" in markdown
        assert "at a prevalence of 10 %: positive predictive value" in markdown

    @pytest.mark.parametrize("calibration", [None, LogitCalibration()])
    def test_says_if_there_is_no_calibration(self, calibration):
        _, card = model_card(minimal_card(calibration=calibration))
        assert card["calibration"].endswith("; logits not calibrated")

    def test_notes_of_the_metrics_become_sentences(self):
        _, card = model_card(minimal_card(metrics={**METRICS, "notes": ["few slices"]}))
        assert "Few slices." in card["limits"]

    def test_states_first_that_it_is_not_a_medical_device(self):
        markdown, _ = model_card(minimal_card())
        assert "not a medical device" in markdown.split("## Model")[0]

    @pytest.mark.parametrize("level", INDEPENDENCE)
    def test_states_how_independent_the_evaluation_is(self, level):
        markdown, card = model_card(minimal_card(independence=level))
        assert f"**{level}**. {INDEPENDENCE[level]}" in markdown
        external = {item["recorded"] for item in card["checklists"] if item["key"] == "external"}
        assert external == {
            "60 slices from another site"
            if level == "other site"
            else "none: the model was not tested on data from another site"
        }

    def test_names_no_file_and_no_patient(self):
        markdown, card = model_card(full_card())
        assert "Doe" not in markdown + json.dumps(card)
        assert "someone" not in markdown + json.dumps(card)

    def test_accepts_one_class_and_required_fields_only(self):
        one = binary_metrics(np.ones(12, int), [np.linspace(0, 1, 12)])
        markdown, card = model_card(minimal_card(metrics=one))
        assert "| specificity | not available |" in markdown
        assert "The data were not audited." in markdown
        assert not re.search(r"\b(nan|inf|None)\b", markdown)
        json.dumps(card, allow_nan=False)

    def test_values_are_escaped(self):
        name = "<script>alert(1)</script> | *a* [b](c) `d`\n# e"
        markdown, card = model_card(minimal_card(name=name, sources=(name,)))
        assert "<script" not in markdown and "\n# e" not in markdown
        assert r"\| \*a\* \[b\](c) \`d\` # e" in markdown
        assert card["name"] == name

    def test_table_rows_have_as_many_cells_as_the_header(self):
        markdown, _ = model_card(full_card())
        for block in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(cells) == 1, block


class TestChecklists:
    def test_every_checklist_is_cited(self):
        markdown, card = model_card(minimal_card())
        assert {each["checklist"] for each in card["checklists"]} == REFERENCES.keys()
        for name, reference in REFERENCES.items():
            assert f"### {name}\n\n{escape_markdown(reference)}." in markdown

    def test_open_items_can_be_answered_by_a_person(self):
        markdown, card = model_card(minimal_card())
        assert f"**{OPEN}** (ethics)" in markdown
        assert "ethics" in card["open_items"]
        markdown, card = model_card(minimal_card(answers={"ethics": "waived, no. 12"}))
        assert "| waived, no. 12 |" in markdown
        assert "ethics" not in card["open_items"]

    def test_rejects_an_answer_to_an_unknown_item(self):
        with pytest.raises(
            DataError, match="answers to fundign: the model card has no such item.*funding"
        ):
            minimal_card(answers={"fundign": "none"})

    def test_rejects_an_unknown_level_of_independence(self):
        with pytest.raises(DataError, match="'somewhere': must be one of 'same set'"):
            minimal_card(independence="somewhere")


class TestWriteModelCard:
    def test_writes_both_files(self, tmp_path):
        values = full_card()
        paths = write_model_card(tmp_path / "run", values)
        markdown, card = model_card(values)
        assert [path.name for path in paths] == ["model_card.md", "model_card.json"]
        assert paths[0].read_text("utf-8") == markdown
        assert json.loads(paths[1].read_text("utf-8")) == card
        assert len(list((tmp_path / "run").iterdir())) == 2

    def test_a_file_that_cannot_be_written_is_an_output_error(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="model_card.md: cannot be written"):
            write_model_card(tmp_path / "file", minimal_card())

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from hemorrhage_tf.core.errors import DataError, OutputError
from hemorrhage_tf.evaluation.metrics import binary_metrics
from hemorrhage_tf.evaluation.operating_point import choose
from hemorrhage_tf.reports.model_card import (
    INDEPENDENCE,
    OPEN,
    REFERENCES,
    CardContent,
    escape_markdown,
    model_card,
    write_model_card,
)

rng = np.random.default_rng(0)
LABELS = np.arange(60) % 2
PROBABILITIES = np.clip(0.5 * LABELS + rng.uniform(0, 0.6, 60), 0, 1)
METRICS = binary_metrics(LABELS, [PROBABILITIES], 0.5, prevalence=0.1)
FIGURE = {"estimate": 0.8, "low": 0.7, "high": 0.9, "n": 60}
AUDIT = {
    "root": "/home/someone/patients",
    "problems": [{"path": "Jane-Doe/1.png", "reason": "truncated"}],
    "pairs": [{"first": "Jane-Doe/2.png", "second": "Jane-Doe/3.png"}],
    "shortcuts": [
        {"name": "border", "model": "random forest", "roc_auc": FIGURE},
        {"name": "size", "model": "random forest", "roc_auc": None},
    ],
}


def card_of(**values):
    given = {
        "name": "tiny on phantoms",
        "metrics": METRICS,
        "independence": "same set",
        "split": "80 % to train, 20 % to test",
        **values,
    }
    return CardContent(**given)


def full():
    return card_of(
        counts={"slices": 60},
        sources=("phantoms",),
        model_rows=(("backbone", "tiny"),),
        training_rows=(("epochs", "3"),),
        preprocessing="resized",
        weights="random",
        operating_point=choose(LABELS, PROBABILITIES, "sensitivity=0.95").to_dict(),
        temperature=1.3,
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
    def test_holds_the_same_in_both_forms(self):
        markdown, card = model_card(full())
        assert json.loads(json.dumps(card, allow_nan=False)) == card
        said = [row["said"] for row in [*card["figures"], *card["shortcuts"]]]
        said += [item["recorded"] for item in card["checklists"] if item["recorded"]]
        said += [*card["limits"], *card["out_of_scope"], *card["references"].values()]
        said += [card["intended_use"], card["operating_point"], card["calibration"]]
        for text in said:
            assert escape_markdown(text) in markdown

    def test_says_every_figure_with_its_interval(self):
        markdown, _ = model_card(full())
        figure = METRICS["sensitivity"]
        said = f"{figure['estimate']:.1%} ({figure['low']:.1%} to {figure['high']:.1%})"
        assert f"| sensitivity | {said} |" in markdown
        assert "| border | random forest | 0.800 (0.700 to 0.900) |" in markdown
        assert "| size | random forest | cannot be had |" in markdown
        assert "temperature 1.300" in markdown
        assert "| flip | 3 of 60 | 0.200 |" in markdown
        assert "where 10 of 100 slices show hemorrhage" in markdown

    def test_says_that_it_is_no_medical_device(self):
        markdown, _ = model_card(card_of())
        assert "not a medical device" in markdown.split("## Model")[0]

    @pytest.mark.parametrize("level", INDEPENDENCE)
    def test_says_how_independent_the_evaluation_is(self, level):
        markdown, card = model_card(card_of(independence=level))
        assert f"**{level}**. {INDEPENDENCE[level]}" in markdown
        external = {item["recorded"] for item in card["checklists"] if item["key"] == "external"}
        assert external == {
            "60 slices of another site"
            if level == "other site"
            else "none: the model was not tested on data of another site"
        }

    def test_names_no_file_and_no_patient(self):
        markdown, card = model_card(full())
        assert "Doe" not in markdown + json.dumps(card)
        assert "someone" not in markdown + json.dumps(card)

    def test_works_without_what_is_optional_and_with_one_class(self):
        one = binary_metrics(np.ones(12, int), [np.linspace(0, 1, 12)])
        markdown, card = model_card(card_of(metrics=one))
        assert "| specificity | cannot be had |" in markdown
        assert "The data were not audited." in markdown
        assert not re.search(r"\b(nan|inf|None)\b", markdown)
        json.dumps(card, allow_nan=False)

    def test_nothing_written_in_a_value_becomes_markup(self):
        name = "<script>alert(1)</script> | *a* [b](c) `d`\n# e"
        markdown, card = model_card(card_of(name=name, sources=(name,)))
        assert "<script" not in markdown and "\n# e" not in markdown
        assert r"\| \*a\* \[b\](c) \`d\` # e" in markdown
        assert card["name"] == name

    def test_tables_have_as_many_cells_as_heads(self):
        markdown, _ = model_card(full())
        for block in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(cells) == 1, block


class TestChecklists:
    def test_claim_has_all_44_items_in_order(self):
        _, card = model_card(card_of())
        found = [each["item"] for each in card["checklists"] if each["checklist"] == "CLAIM 2024"]
        assert found == [str(number) for number in range(1, 45)]

    def test_tripod_has_its_27_items_in_order(self):
        _, card = model_card(card_of())
        found = [
            int(re.match(r"\d+", each["item"])[0])
            for each in card["checklists"]
            if each["checklist"] == "TRIPOD+AI 2024"
        ]
        assert list(dict.fromkeys(found)) == list(range(1, 28))
        assert found == sorted(found)

    def test_each_checklist_is_cited(self):
        markdown, card = model_card(card_of())
        assert {each["checklist"] for each in card["checklists"]} == REFERENCES.keys()
        for name, reference in REFERENCES.items():
            assert f"### {name}\n\n{escape_markdown(reference)}." in markdown

    def test_open_items_are_for_a_person_and_can_be_answered(self):
        markdown, card = model_card(card_of())
        assert f"**{OPEN}** (ethics)" in markdown
        assert "ethics" in card["open_items"]
        markdown, card = model_card(card_of(answers={"ethics": "waived, no. 12"}))
        assert "| waived, no. 12 |" in markdown
        assert "ethics" not in card["open_items"]

    def test_an_answer_to_no_item_is_refused(self):
        with pytest.raises(DataError, match="no item of the model card is called fundign.*funding"):
            card_of(answers={"fundign": "none"})

    def test_an_unknown_level_of_independence_is_refused(self):
        with pytest.raises(DataError, match="same set.*Received: somewhere"):
            card_of(independence="somewhere")


class TestWriteModelCard:
    def test_writes_both_files(self, tmp_path):
        values = full()
        paths = write_model_card(tmp_path / "run", values)
        markdown, card = model_card(values)
        assert [path.name for path in paths] == ["model_card.md", "model_card.json"]
        assert paths[0].read_text("utf-8") == markdown
        assert json.loads(paths[1].read_text("utf-8")) == card
        assert len(list((tmp_path / "run").iterdir())) == 2

    def test_what_cannot_be_written_is_an_output_error(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="model_card.md: cannot be written"):
            write_model_card(tmp_path / "file", card_of())

from __future__ import annotations

import re

from hemorrhage_tf.reports.checklists import CHECKLIST_ITEMS, CLAIM, REFERENCES, TRIPOD


def numbers(checklist: str) -> list[str]:
    return [item.number for item in CHECKLIST_ITEMS if item.checklist == checklist]


def test_claim_has_all_44_items_in_order():
    assert numbers(CLAIM) == [str(number) for number in range(1, 45)]


def test_tripod_has_its_27_items_in_order():
    leading = [int(re.match(r"\d+", number)[0]) for number in numbers(TRIPOD)]
    assert list(dict.fromkeys(leading)) == list(range(1, 28))
    assert leading == sorted(leading)


def test_every_checklist_has_a_reference():
    assert {item.checklist for item in CHECKLIST_ITEMS} == REFERENCES.keys()

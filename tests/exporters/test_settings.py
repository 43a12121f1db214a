from __future__ import annotations

import pytest

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.exporters.settings import ExportSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantize": "int4"}, "--quantize int4: unknown. Pass one of none, float16"),
        ({"input_type": "int8"}, "--input-type int8: unknown. Pass one of float32, uint8"),
        ({"batch": "8"}, "--batch 8: unknown. Pass one of static, dynamic"),
        ({"quantize": "full-int8", "cam": True}, "one signature.*Leave out --cam"),
        ({"quantize": "full-int8", "batch": "dynamic"}, "Leave out --batch dynamic"),
        ({"calibration_slices": 7}, "--calibration-slices 7: too few for int8. Pass 8 or more"),
    ],
)
def test_rejects_wrong_values_and_lists_the_accepted(settings, message):
    with pytest.raises(OptionError, match=message):
        ExportSettings(**settings)


def test_defaults_are_accepted():
    assert ExportSettings().quantize == "none"

from __future__ import annotations

import json


def test_prints_a_row_for_each_model(run, embedded_model):
    result = run("benchmark", "phantomnet", "--rounds", 2, "--batch-size", 4, "--json")
    assert result.exit_code == 0, result.output
    (measurement,) = json.loads(result.stdout)
    assert (measurement["path"], measurement["format"]) == ("phantomnet", "embedded")
    assert measurement["size_bytes"] == (embedded_model / "phantomnet.tflite").stat().st_size

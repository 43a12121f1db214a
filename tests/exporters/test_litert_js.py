"""An exported file in LiteRT.js under Node, which has no dynamic shapes, against Python."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.inference.tflite_model import FixedShapeTFLiteModel
from hemorrhage_tf.models.scan_model import PADDED_SCAN_SLICES, scan_geometry
from hemorrhage_tf.synthesis.draw import draw_phantom

SCRIPT = Path(__file__).with_name("run_litert.mjs")
CORE = Path(__file__).parents[2] / "web" / "node_modules" / "@litertjs" / "core"


def run_in_node(model: Path, requests: list, folder: Path) -> list[dict[str, np.ndarray]]:
    if shutil.which("node") is None or not CORE.is_dir():
        pytest.skip("needs Node and web/node_modules: npm --prefix web ci")
    (folder / "requests.json").write_text(json.dumps(requests))
    done = subprocess.run(
        ["node", SCRIPT, CORE, model, folder / "requests.json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [{name: np.array(each) for name, each in one.items()} for one in json.loads(done.stdout)]


def request(signature: str, **inputs: np.ndarray) -> dict:
    tensors = {
        name: {"shape": each.shape, "values": each.ravel().astype(float).tolist()}
        for name, each in inputs.items()
    }
    return {"signature": signature, "inputs": tensors}


def padded(values: np.ndarray) -> np.ndarray:
    missing = PADDED_SCAN_SLICES - len(values)
    return np.concatenate([values, np.zeros((missing, *values.shape[1:]))])[np.newaxis]


@pytest.mark.slow
def test_the_file_that_comes_with_phantomnet_runs(tmp_path):
    settings = {"quantize": "float16", "cam": True, "batch": "dynamic"}
    export = htf.export("phantomnet", tmp_path / "a.tflite", quiet=True, **settings)
    assert export.size_bytes < 2_000_000
    model = FixedShapeTFLiteModel(export.path)
    prepare = model.metadata.model_input
    images = np.stack([prepare(draw_phantom(3, i, size=224).hounsfield) for i in range(4)])
    expected = model.run_outputs(images, features=True, cam=True)
    geometry = scan_geometry(np.arange(4) * 5.0)
    scan = model.run_scan(expected["features"], geometry)

    slices = [request("serve_slice", image=images[i : i + 1]) for i in range(4)]
    inputs = {"features": expected["features"], "geometry": geometry, "mask": np.ones(4)}
    of_scan = request("serve_padded_scan", **{name: padded(one) for name, one in inputs.items()})
    *answers, last = run_in_node(export.path, [*slices, of_scan], tmp_path)

    for index, answer in enumerate(answers):
        np.testing.assert_allclose(answer["probability"], expected["probability"][index], atol=1e-4)
        np.testing.assert_allclose(answer["features"], expected["features"][index], atol=1e-2)
        np.testing.assert_allclose(answer["cam"], expected["cam"][index].ravel(), atol=1e-1)
    assert np.ptp([one["probability"] for one in answers]) > 0.1
    np.testing.assert_allclose(last["probability"], scan.probability, atol=1e-5)
    np.testing.assert_allclose(last["slice_probability"][:4], scan.slice_probabilities, atol=1e-5)

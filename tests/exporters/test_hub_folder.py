"""Folders for the Hugging Face Hub, and their download from a server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import ModelError, OptionError, OutputError
from hemorrhage_tf.inference import hub

COMMIT = "0" * 39 + "1"


@pytest.fixture(scope="module")
def folder(once, scan_run) -> Path:
    return once("hub", lambda path: htf.export(scan_run, path, format="hub", quiet=True))


@pytest.fixture
def server(folder, tmp_path, monkeypatch):
    """Serve `folder` as `somebody/head-ct` by the Hub's protocol; return the paths asked for."""
    from huggingface_hub import constants

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            asked.append(path)
            files = [one.name for one in folder.iterdir()]
            name = path.rsplit("/", 1)[-1]
            if path.startswith("/api/models/somebody/head-ct/revision/"):
                body = {"id": "somebody/head-ct", "sha": COMMIT}
                body["siblings"] = [{"rfilename": one} for one in files]
                self._answer(json.dumps(body).encode(), "application/json")
            elif path.startswith("/api/models/somebody/head-ct/tree/"):
                tree = [
                    {
                        "type": "file",
                        "path": one,
                        "size": (folder / one).stat().st_size,
                        "oid": hashlib.sha1((folder / one).read_bytes()).hexdigest(),
                    }
                    for one in files
                ]
                self._answer(json.dumps(tree).encode(), "application/json")
            elif path.startswith("/somebody/head-ct/resolve/") and name in files:
                self._answer((folder / name).read_bytes(), "application/octet-stream")
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    asked: list[str] = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        address = f"http://127.0.0.1:{httpd.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        url = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield asked
        httpd.shutdown()
        thread.join()


@pytest.mark.slow
class TestFolder:
    def test_holds_what_people_on_the_hub_expect(self, folder):
        names = {path.name for path in folder.iterdir()}
        assert names == {
            *("config.json", "metadata.json", "model.weights.h5", "scan_model.keras"),
            *("model.tflite", "model.onnx", "model.scan.onnx", "hemorrhage_tf.json"),
            *("README.md", "model_card.json", "SHA256SUMS"),
        }

    def test_lists_the_checksum_of_every_other_file(self, folder):
        lines = (folder / "SHA256SUMS").read_text().splitlines()
        listed = dict(reversed(line.split("  ")) for line in lines)
        for path in folder.iterdir():
            if path.name != "SHA256SUMS":
                assert listed[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_the_card_has_front_matter_with_intervals(self, folder, scan_run):
        _, front, text = (folder / "README.md").read_text().split("---\n", 2)
        values = yaml.safe_load(front)
        assert values["library_name"] == "keras"
        assert values["license"] == "other"
        assert {"keras", "tflite", "onnx"} <= set(values["tags"])
        (entry,) = values["model-index"]
        metrics = {one["type"]: one for result in entry["results"] for one in result["metrics"]}
        expected = json.loads((scan_run / "metrics.json").read_text())["roc_auc"]["estimate"]
        assert metrics["roc_auc"]["value"] == pytest.approx(expected, abs=1e-4)
        assert " to " in metrics["roc_auc"]["name"]
        assert "not a medical device" in text

    def test_keras_alone_loads_it(self, folder, scan_run):
        import keras

        images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
        alone = keras.saving.load_model(folder)(images, training=False)
        expected = htf.load(scan_run).run(images)
        np.testing.assert_allclose(np.array(alone)[:, 0], expected, atol=1e-6)

    @pytest.mark.parametrize("name", ["", "model.tflite", "model.onnx"])
    def test_is_a_model_and_holds_models(
        self, folder, scan_run, write_series, head, tmp_path, name
    ):
        series = write_series(tmp_path / "series", [head(index) for index in range(5)])[0].parent
        expected = htf.predict(series, model=scan_run, quiet=True)
        result = htf.predict(series, model=folder / name, quiet=True)
        assert result.scans[0].probability == pytest.approx(expected.scans[0].probability, abs=1e-4)
        for one, other in zip(result, expected, strict=True):
            assert one.probability == pytest.approx(other.probability, abs=1e-4)

    def test_a_damaged_file_is_named(self, folder, tmp_path):
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        content = bytearray((copy / "model.weights.h5").read_bytes())
        content[-1] ^= 1
        (copy / "model.weights.h5").write_bytes(content)
        with pytest.raises(ModelError, match="model.weights.h5 damaged or replaced"):
            htf.load(copy)


@pytest.mark.slow
class TestDownload:
    def test_predicts_like_the_run(self, server, scan_run, kaggle_once):
        image = kaggle_once / "head_ct" / "head_ct" / "000.png"
        (result,) = htf.predict(image, model="hf://somebody/head-ct", quiet=True)
        (expected,) = htf.predict(image, model=scan_run, quiet=True)
        assert result.probability == pytest.approx(expected.probability, abs=1e-6)
        fetched = {path.rsplit("/", 1)[-1] for path in server if "/resolve/" in path}
        assert "model.weights.h5" in fetched
        assert not fetched & {"model.tflite", "model.onnx", "README.md"}

    def test_is_exported_and_benchmarked(self, server, kaggle_once, tmp_path):
        target = tmp_path / "a.tflite"
        export = htf.export("hf://somebody/head-ct", target, verify=kaggle_once, quiet=True)
        assert export.verifications["serving_default"].largest_difference < 1e-5

    def test_names_a_model_that_does_not_exist(self, server):
        with pytest.raises(ModelError, match="hf://somebody/other: cannot be downloaded"):
            htf.load("hf://somebody/other")


class TestNames:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("hf://user/name", "user/name"),
            (Path("hf://user/name"), "user/name"),
            ("runs/first", None),
            ("hf", None),
            ("hf:x", None),
        ],
    )
    def test_are_recognized(self, path, name):
        assert hub.hub_name(path) == name

    def test_an_invalid_name_is_rejected(self):
        with pytest.raises(ModelError, match="hf://a/b/c: cannot be downloaded"):
            htf.load("hf://a/b/c")

    def test_names_the_missing_package(self, monkeypatch):
        monkeypatch.setattr(hub, "find_spec", lambda name: None)
        with pytest.raises(ModelError, match=r"huggingface_hub.*hemorrhage_tf\[hub\]"):
            htf.load("hf://user/name")


class TestTarget:
    def test_an_existing_folder_is_left_unchanged(self, tmp_path):
        with pytest.raises(OutputError, match="already exists"):
            htf.export("phantomnet", tmp_path, format="hub", quiet=True)

    def test_an_unknown_format_is_rejected(self, tmp_path):
        with pytest.raises(OptionError, match="--format zip: unknown. Pass one of web, hub"):
            htf.export("phantomnet", tmp_path / "a", format="zip", quiet=True)

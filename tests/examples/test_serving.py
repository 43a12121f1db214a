"""The serving example, with a server on the loopback that responds like TensorFlow Serving."""

from __future__ import annotations

import base64
import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "serving" / "request.py"


def load_example():
    spec = importlib.util.spec_from_file_location("serving_request", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load_example()


@pytest.fixture
def image(tmp_path) -> Path:
    path = tmp_path / "slice.png"
    Image.new("L", (5, 4), 77).save(path)
    return path


@pytest.fixture
def server(monkeypatch):
    """Respond with the `status` and `response` of a test, and record the requests."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            self.server.requests.append((self.path, json.loads(self.rfile.read(length))))
            content = self.server.response
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.status, server.response, server.requests = 200, b"", []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(server, *arguments) -> int:
    return example.main(
        [*map(str, arguments), "--host", "127.0.0.1", "--port", str(server.server_port)]
    )


class TestBody:
    def test_contains_the_bytes_of_the_file(self, image):
        body = example.request_body(image.read_bytes())
        assert body.keys() == {"signature_name", "instances"}
        assert body["signature_name"] == "serve_bytes"
        [instance] = body["instances"]
        assert instance.keys() == {"image_bytes"}
        assert base64.b64decode(instance["image_bytes"]["b64"], validate=True) == (
            image.read_bytes()
        )

    def test_dry_run_prints_it_without_sending(self, image, server, capsys):
        assert run(server, image, "--dry-run") == 0
        assert json.loads(capsys.readouterr().out) == example.request_body(image.read_bytes())
        assert server.requests == []


class TestResponse:
    @pytest.mark.parametrize(
        "prediction",
        [
            {"probability": [0.9], "cam": [[0.5, 3.9], [1.0, 3.4]]},
            {"probability": [0.9]},
            [0.9],  # TensorFlow Serving, for a signature with one output
        ],
    )
    def test_is_printed(self, image, server, capsys, prediction):
        server.response = json.dumps({"predictions": [prediction]}).encode()
        assert run(server, image, image) == 0
        assert capsys.readouterr().out == f"{image}\t0.900000\n" * 2
        body = example.request_body(image.read_bytes())
        assert server.requests == [("/v1/models/hemorrhage:predict", body)] * 2

    def test_another_model_has_another_address(self, image, server):
        server.response = b'{"predictions": [[1]]}'
        assert run(server, image, "--model", "second") == 0
        assert server.requests[0][0] == "/v1/models/second:predict"


class TestErrors:
    @pytest.fixture
    def error(self, capsys):
        def error() -> str:
            output = capsys.readouterr()
            assert output.out == ""
            assert output.err.startswith("Error: ")
            assert output.err.count("\n") == 1
            return output.err

        return error

    def test_reports_an_error_of_the_server(self, image, server, error):
        server.status = 404
        server.response = b'{"error": "Servable not found\\nfor request: Latest(hemorrhage)"}'
        assert run(server, image) == 1
        message = error()
        assert "404, Servable not found for request: Latest(hemorrhage)" in message
        assert f"http://127.0.0.1:{server.server_port}/v1/models/hemorrhage:predict" in message

    def test_reports_a_server_that_does_not_respond_with_json(self, image, server, error):
        server.status, server.response = 502, b"<html>"
        assert run(server, image) == 1
        assert "502, Bad Gateway" in error()

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"<html>",
            b"[]",
            b"null",
            b"{}",
            b"\xff",
            b'{"predictions": []}',
            b'{"predictions": [{"cam": [1]}]}',
            b'{"predictions": [{"probability": []}]}',
        ],
    )
    def test_reports_a_response_without_a_probability(self, image, server, error, answer):
        server.response = answer
        assert run(server, image) == 1
        assert "the response has no probability" in error()

    def test_reports_a_missing_server(self, image, server, error):
        server.server_close()
        assert run(server, image) == 1
        assert "Check that the server is running" in error()

    def test_reports_a_missing_image(self, server, error, tmp_path):
        assert run(server, tmp_path / "gone.png") == 1
        assert "gone.png: No such file or directory" in error()
        assert server.requests == []

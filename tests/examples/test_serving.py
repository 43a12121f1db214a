"""The serving example, against a server on the loopback that answers as TensorFlow Serving does."""

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
def picture(tmp_path) -> Path:
    path = tmp_path / "scan.png"
    Image.new("L", (5, 4), 77).save(path)
    return path


@pytest.fixture
def server(monkeypatch):
    """Answers what a test puts into `status` and `answer`, and keeps what it was asked."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            self.server.asked.append((self.path, json.loads(self.rfile.read(length))))
            content = self.server.answer
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.status, server.answer, server.asked = 200, b"", []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, *arguments) -> int:
    return example.main(
        [*map(str, arguments), "--host", "127.0.0.1", "--port", str(server.server_port)]
    )


class TestBody:
    def test_carries_the_bytes_of_the_file(self, picture):
        body = example.request_body(picture.read_bytes())
        assert body.keys() == {"signature_name", "instances"}
        assert body["signature_name"] == "serve_bytes"
        [instance] = body["instances"]
        assert instance.keys() == {"image_bytes"}
        assert base64.b64decode(instance["image_bytes"]["b64"], validate=True) == (
            picture.read_bytes()
        )

    def test_dry_run_prints_it_and_sends_nothing(self, picture, server, capsys):
        assert ask(server, picture, "--dry-run") == 0
        assert json.loads(capsys.readouterr().out) == example.request_body(picture.read_bytes())
        assert server.asked == []


class TestAnswer:
    @pytest.mark.parametrize(
        "prediction",
        [
            {"probability": [0.9], "cam": [[0.5, 3.9], [1.0, 3.4]]},
            {"probability": [0.9]},
            [0.9],  # what TensorFlow Serving makes of a signature with one output
        ],
    )
    def test_is_printed(self, picture, server, capsys, prediction):
        server.answer = json.dumps({"predictions": [prediction]}).encode()
        assert ask(server, picture, picture) == 0
        assert capsys.readouterr().out == f"{picture}\t0.900000\n" * 2
        body = example.request_body(picture.read_bytes())
        assert server.asked == [("/v1/models/hemorrhage:predict", body)] * 2

    def test_of_another_model(self, picture, server):
        server.answer = b'{"predictions": [[1]]}'
        assert ask(server, picture, "--model", "second") == 0
        assert server.asked[0][0] == "/v1/models/second:predict"


class TestErrors:
    @pytest.fixture
    def told(self, capsys):
        def told() -> str:
            output = capsys.readouterr()
            assert output.out == ""
            assert output.err.startswith("Error: ")
            assert output.err.count("\n") == 1
            return output.err

        return told

    def test_of_the_server(self, picture, server, told):
        server.status = 404
        server.answer = b'{"error": "Servable not found\\nfor request: Latest(hemorrhage)"}'
        assert ask(server, picture) == 1
        message = told()
        assert "404, Servable not found for request: Latest(hemorrhage)" in message
        assert f"http://127.0.0.1:{server.server_port}/v1/models/hemorrhage:predict" in message

    def test_of_a_server_that_does_not_speak_json(self, picture, server, told):
        server.status, server.answer = 502, b"<html>"
        assert ask(server, picture) == 1
        assert "502, Bad Gateway" in told()

    @pytest.mark.parametrize(
        "answer",
        [
            *(b"", b"<html>", b"[]", b"null", b"{}", b'{"predictions": []}', b"\xff"),
            *(b'{"predictions": [{"cam": [1]}]}', b'{"predictions": [{"probability": []}]}'),
        ],
    )
    def test_answer_without_a_probability(self, picture, server, told, answer):
        server.answer = answer
        assert ask(server, picture) == 1
        assert "the answer has no probability in it" in told()

    def test_no_server(self, picture, server, told):
        server.server_close()
        assert ask(server, picture) == 1
        assert "Is the server running?" in told()

    def test_no_picture(self, server, told, tmp_path):
        assert ask(server, tmp_path / "gone.png") == 1
        assert "gone.png: No such file or directory" in told()
        assert server.asked == []

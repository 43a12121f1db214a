"""Request predictions from TensorFlow Serving's REST API, with the standard library alone.

    python request.py IMAGE... [--host HOST] [--port PORT] [--model NAME] [--dry-run]

The server decodes the images, so they are sent unchanged. README.md describes how to start it.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

SIGNATURE = "serve_bytes"


class RequestError(Exception):
    """An image that cannot be sent, or an unusable response; the message is one line."""


def request_body(content: bytes) -> dict[str, Any]:
    """Build the body of the request for one image.

    Args:
        content: The bytes of a PNG or JPEG file.

    Returns:
        Plain values for JSON, in TensorFlow Serving's row format.

    Reference:
        https://www.tensorflow.org/tfx/serving/api_rest#predict_api
    """
    image = {"b64": base64.b64encode(content).decode("ascii")}
    return {"signature_name": SIGNATURE, "instances": [{"image_bytes": image}]}


def predict(url: str, body: dict[str, Any], timeout: float = 60.0) -> float:
    """Send the request for one image.

    Args:
        url: `http://HOST:PORT/v1/models/NAME:predict`.
        body: From `request_body`.
        timeout: Seconds to wait for data from the server. Default 60.

    Returns:
        P(hemorrhage) in [0, 1].

    Raises:
        RequestError: No response, an error of the server, or a response of another model.
    """
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            content = response.read()
    except urllib.error.HTTPError as error:
        with error:
            raise RequestError(f"{url}: {error.code}, {_server_message(error)}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise RequestError(
            f"{url}: no response ({reason}). Check that the server is running"
        ) from None
    except ValueError as error:
        raise RequestError(f"{url}: not an address ({error}). Check --host and --port") from None
    try:
        prediction = json.loads(content)["predictions"][0]
        # TensorFlow Serving leaves out the name of a signature's only output.
        value = prediction["probability"] if isinstance(prediction, dict) else prediction
        return float(value[0] if isinstance(value, list) else value)
    except (ValueError, KeyError, IndexError, TypeError):
        raise RequestError(f"{url}: the response has no probability. Check --model") from None


def _server_message(error: urllib.error.HTTPError) -> str:
    try:
        content = error.read()
        message = json.loads(content)["error"]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        message = error.reason
    return " ".join(str(message).split())


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The command-line arguments; None for those of the process.

    Returns:
        0, or 1 if an image cannot be read or the server returns no probability.
    """
    parser = argparse.ArgumentParser(description="Request predictions from TensorFlow Serving.")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="a PNG or JPEG file")
    parser.add_argument("--host", default="localhost", help="default: localhost")
    parser.add_argument("--port", type=int, default=8501, help="default: 8501")
    parser.add_argument("--model", default="hemorrhage", help="default: hemorrhage")
    parser.add_argument("--dry-run", action="store_true", help="print the JSON without sending it")
    options = parser.parse_args(arguments)

    url = f"http://{options.host}:{options.port}/v1/models/{options.model}:predict"
    for image in options.images:
        try:
            body = request_body(Path(image).read_bytes())
            if options.dry_run:
                print(json.dumps(body))
            else:
                print(f"{image}\t{predict(url, body):.6f}", flush=True)
        except RequestError as error:
            print(f"Error: {error}", file=sys.stderr)
            return 1
        except OSError as error:
            print(f"Error: {image}: {error.strerror or error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

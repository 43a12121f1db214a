from __future__ import annotations

import base64
import io

import pytest
from PIL import Image
from report_examples import noise_png

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.reports import embedded_images
from hemorrhage_tf.reports.embedded_images import data_uris


def decode(uri: str) -> Image.Image:
    kind, content = uri.split(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_reduces_images_to_small_jpegs():
    (uri,) = data_uris([noise_png(side=600)])
    assert decode(uri).size == (192, 192)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA"])
def test_accepts_every_mode(mode):
    (uri,) = data_uris([noise_png(side=40, mode=mode)])
    assert decode(uri).size == (40, 40)


def test_all_images_together_stay_under_the_limit(monkeypatch):
    monkeypatch.setattr(embedded_images, "MAX_IMAGE_BYTES", 400_000)
    images = [noise_png(seed, side=200) for seed in range(4)] * 10
    uris = data_uris(images)
    assert sum(map(len, uris)) <= 400_000
    assert decode(uris[0]).width < 192


@pytest.mark.parametrize("bad", [b"", b"GIF89a", noise_png(side=32)[:80]])
def test_rejects_a_file_that_is_no_image(bad):
    with pytest.raises(DataError, match="image 1 of the gallery: not a PNG or JPEG"):
        data_uris([noise_png(side=8), bad])

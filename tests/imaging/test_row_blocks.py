import numpy as np
import pytest

from hemorrhage_tf.imaging import row_blocks


@pytest.mark.parametrize("block_pixels", [1, 30, 100, 10_000])
def test_blocks_of_any_size_have_the_same_result(block_pixels, monkeypatch):
    monkeypatch.setattr(row_blocks, "BLOCK_PIXELS", block_pixels)
    pixels = np.arange(13 * 12).reshape(13, 12)
    largest = []

    def double(block):
        largest.append(block.size)
        return 2 * block

    result = row_blocks.convert_in_blocks(double, pixels, pixels.shape, np.float32)
    assert result.dtype == np.float32
    assert max(largest) <= max(block_pixels, 12)
    np.testing.assert_array_equal(result, 2 * pixels)

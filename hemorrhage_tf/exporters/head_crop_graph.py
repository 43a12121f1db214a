"""The head crop in a TensorFlow graph: the steps of `imaging/head_crop.py` for display images.

All decisions are made in integer arithmetic in both, so that both return the same pixels. Only
display images are cropped in a graph, because `serve_bytes` decodes PNG and JPEG only.
"""

from __future__ import annotations

from typing import Any

from hemorrhage_tf.imaging.head_crop import (
    BRIGHT_PER_MILLE,
    DARK_PER_MILLE,
    DISPLAY_OPENING,
    DISPLAY_RIM,
    GRID,
    MARGIN,
    MAX_FILL_SIXTEENTHS,
    MIN_DEPTH,
    SIDEWAYS_SIXTEENTHS,
    TISSUE_SIXTEENTHS,
)


def crop_head(pixels: Any, upright: bool) -> Any:
    """Crop a display image to its head, like `imaging.head_crop.crop_head`.

    Args:
        pixels: uint8 `(height, width, 3)`.
        upright: Whether to turn a sideways head upright.

    Returns:
        uint8 `(side, side, 3)`.
    """
    import tensorflow as tf

    gray = tf.cast(tf.reduce_max(pixels, axis=-1), tf.int32)
    height, width = tf.shape(gray)[0], tf.shape(gray)[1]
    tissue = gray > _tissue_level(gray)
    cells, cell = _cells(tissue)
    head = _thickest(_filled(cells))

    def whole_image() -> Any:
        side = tf.maximum(height, width)
        all_cells = tf.ones_like(head)
        return (height - side) // 2, (width - side) // 2, side, all_cells, 0

    def around_head() -> Any:
        spread = tf.repeat(tf.repeat(head, cell, axis=0), cell, axis=1)[:height, :width]
        visible = spread & tissue
        top, bottom = _ends(tf.reduce_any(visible, axis=1))
        left, right = _ends(tf.reduce_any(visible, axis=0))
        longer = tf.maximum(bottom - top, right - left)
        side = longer + 2 * (longer * MARGIN // 64)
        turns = 0
        if upright:
            sideways = 16 * (right - left) > SIDEWAYS_SIXTEENTHS * (bottom - top)
            turns = tf.where(sideways, _turns(head), 0)
        rim = head
        for _ in range(DISPLAY_RIM):
            rim = _dilated(rim)
        return (top + bottom - side) // 2, (left + right - side) // 2, side, rim, turns

    count = tf.reduce_sum(tf.cast(head, tf.int32))
    has_head = (count > 0) & (16 * count <= MAX_FILL_SIXTEENTHS * tf.size(head))
    top, left, side, head, turns = tf.cond(has_head, around_head, whole_image)
    mask = tf.repeat(tf.repeat(head, cell, axis=0), cell, axis=1)[:height, :width, tf.newaxis]
    pixels = tf.where(mask, pixels, tf.zeros_like(pixels))
    before = tf.maximum(tf.stack([-top, -left]), 0)
    after = tf.maximum(tf.stack([top + side - height, left + side - width]), 0)
    padded = tf.pad(pixels, [[before[0], after[0]], [before[1], after[1]], [0, 0]])
    top, left = top + before[0], left + before[1]
    square = padded[top : top + side, left : left + side]
    return tf.image.rot90(square, turns) if upright else square


def _tissue_level(gray: Any) -> Any:
    import tensorflow as tf

    size = tf.cast(tf.size(gray), tf.int64)
    counts = tf.math.bincount(tf.reshape(gray, [-1]), minlength=256, maxlength=256, dtype=tf.int64)
    cumulated = tf.cumsum(counts) * 1000
    dark, bright = (
        tf.reduce_sum(tf.cast(cumulated < per_mille * size, tf.int32))
        for per_mille in (DARK_PER_MILLE, BRIGHT_PER_MILLE)
    )
    return dark + (bright - dark) * TISSUE_SIXTEENTHS // 16


def _cells(tissue: Any) -> Any:
    import tensorflow as tf

    height, width = tf.shape(tissue)[0], tf.shape(tissue)[1]
    cell = -(-tf.maximum(height, width) // GRID)
    rows, columns = -(-height // cell), -(-width // cell)
    padding = [[0, rows * cell - height], [0, columns * cell - width]]
    blocks = tf.reshape(tf.pad(tf.cast(tissue, tf.int32), padding), [rows, cell, columns, cell])
    heights = tf.minimum(tf.range(1, rows + 1) * cell, height) - tf.range(rows) * cell
    widths = tf.minimum(tf.range(1, columns + 1) * cell, width) - tf.range(columns) * cell
    return 2 * tf.reduce_sum(blocks, axis=[1, 3]) >= heights[:, tf.newaxis] * widths, cell


def _filled(cells: Any) -> Any:
    import tensorflow as tf

    free = tf.pad(~cells, [[1, 1], [1, 1]], constant_values=True)
    outside = tf.pad(tf.zeros_like(cells), [[1, 1], [1, 1]], constant_values=True)

    def grow(outside: Any, _: Any) -> Any:
        grown = (_pooled(outside, 3, 1) | _pooled(outside, 1, 3)) & free
        return grown, tf.reduce_any(grown != outside)

    shapes = [tf.TensorShape([None, None]), tf.TensorShape([])]
    outside, _ = tf.while_loop(
        lambda outside, changed: changed, grow, [outside, True], shape_invariants=shapes
    )
    return ~outside[1:-1, 1:-1]


def _thickest(cells: Any) -> Any:
    import tensorflow as tf

    unknown = tf.TensorShape([None, None])
    depth, _ = tf.while_loop(
        lambda depth, left: tf.reduce_any(left),
        lambda depth, left: (depth + tf.cast(left, tf.int32), _eroded(left)),
        [tf.zeros_like(cells, tf.int32), cells],
        shape_invariants=[unknown, unknown],
    )
    deepest = tf.reduce_max(depth)
    opening = tf.minimum(DISPLAY_OPENING, deepest - 1)
    core = depth > opening
    # The first in raster order, like NumPy's argmax.
    flat = tf.reshape(depth, [-1])
    places = tf.range(tf.size(flat))
    seed = tf.reduce_min(tf.where(flat == deepest, places, tf.size(flat)))
    body = tf.reshape(places == seed, tf.shape(depth))

    def grow(body: Any, _: Any) -> Any:
        grown = _dilated(body) & core
        return grown, tf.reduce_any(grown != body)

    body, _ = tf.while_loop(
        lambda body, changed: changed,
        grow,
        [body, True],
        shape_invariants=[unknown, tf.TensorShape([])],
    )
    _, body = tf.while_loop(
        lambda step, body: step < opening,
        lambda step, body: (step + 1, _dilated(body) & cells),
        [0, body],
        shape_invariants=[tf.TensorShape([]), unknown],
    )
    return body & (deepest >= MIN_DEPTH)


def _turns(head: Any) -> Any:
    import tensorflow as tf

    begin, end = _ends(tf.reduce_any(head, axis=0))
    middle = (begin + end) // 2
    counts = tf.cast(head, tf.int32)
    first = tf.reduce_sum(counts[:, begin:middle])
    second = tf.reduce_sum(counts[:, end - (middle - begin) : end])
    return tf.where(first > second, 1, 3)


def _dilated(cells: Any) -> Any:
    return _pooled(cells, 3, 3)


def _eroded(cells: Any) -> Any:
    import tensorflow as tf

    return ~_dilated(tf.pad(~cells, [[1, 1], [1, 1]], constant_values=True))[1:-1, 1:-1]


def _pooled(cells: Any, rows: int, columns: int) -> Any:
    import tensorflow as tf

    values = tf.cast(cells, tf.float32)[tf.newaxis, :, :, tf.newaxis]
    return tf.nn.max_pool2d(values, (rows, columns), 1, "SAME")[0, :, :, 0] > 0


def _ends(flags: Any) -> Any:
    """Return the first index that is True, and the one after the last; at least one is True."""
    import tensorflow as tf

    places = tf.cast(tf.where(flags)[:, 0], tf.int32)
    return tf.reduce_min(places), tf.reduce_max(places) + 1

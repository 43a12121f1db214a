"""SavedModel: one folder with two signatures, every weight in it once, and the metadata beside.

Keras' own `export` writes every weight twice; a `tf.Module` that holds the variables once does not.
"""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.exporters.head_crop_graph import crop_head
from hemorrhage_tf.models.classifier import with_class_activation_map
from hemorrhage_tf.models.metadata import ModelMetadata, write_metadata
from hemorrhage_tf.pipeline.model_input import ModelInput


def write_saved_model(
    classifier, folder: Path, metadata: ModelMetadata, input_type: str = "float32"
) -> None:
    """Writes a SavedModel.

    Its signatures are `serving_default` (`image`: `(batch, size, size, 3)` in [0, 255]) and
    `serve_bytes` (`image_bytes`: strings, encoded PNG or JPEG), which a model whose channels are
    windows of their own does not have. Both give `probability`
    `(batch, 1)` and `cam` `(batch, height, width)`.

    Args:
        classifier: the Keras model, from pixels to probability.
        folder: where to; must not exist.
        metadata: written beside as JSON.
        input_type: "float32" or "uint8", of `image`. Default "float32".
    """
    import tensorflow as tf

    module = served_module(classifier)
    size = metadata.image_size
    image = tf.TensorSpec((None, size, size, 3), input_type, name="image")
    image_bytes = tf.TensorSpec((None,), tf.string, name="image_bytes")

    @tf.function(input_signature=[image_bytes])
    def serve_bytes(image_bytes):
        images = tf.map_fn(
            lambda content: decode_to_model_input(content, metadata.model_input),
            image_bytes,
            fn_output_signature=tf.TensorSpec((size, size, 3), tf.float32),
        )
        return module.forward(images)

    @tf.function(input_signature=[image])
    def serve(image):
        return module.forward(tf.cast(image, tf.float32))

    signatures = {"serving_default": serve}
    if metadata.model_input.takes_display_images:
        signatures["serve_bytes"] = serve_bytes
    tf.saved_model.save(module, str(folder), signatures=signatures)
    write_metadata(folder, metadata)


def served_module(classifier):
    """Wraps a classifier in a `tf.Module` that holds each of its variables once.

    Args:
        classifier: the Keras model, from pixels to probability.

    Returns:
        A module whose `forward` takes float32 images and gives `probability` and `cam`.
    """
    import tensorflow as tf

    explained = with_class_activation_map(classifier)

    class Served(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = [weight.value for weight in explained.weights]

        def forward(self, images):
            return explained(images, training=False)

    return Served()


def decode_to_model_input(content, model_input: ModelInput):
    """Decodes one picture in the graph and brings it to the model, as `read_slice` and that do.

    Args:
        content: scalar string tensor, an encoded PNG or JPEG.
        model_input: what it is brought to.

    Returns:
        float32 `(size, size, 3)` in [0, 255].
    """
    import tensorflow as tf

    def decode_jpeg():
        # The decoder's default is allowed to be a faster, less exact one.
        return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")

    def decode_png():
        rgba = tf.cast(tf.io.decode_png(content, channels=4), tf.int32)
        # TensorFlow leaves gray of 1, 2 or 4 bits in its own range. Depth and color type (0 is
        # gray) stand in the header: PNG specification, section 11.2.1.
        header = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 24, 2), tf.uint8), tf.int32)
        depth, color = header[0], header[1]
        scale = tf.where((color == 0) & (depth < 8), 255 // (2 ** tf.minimum(depth, 8) - 1), 1)
        return tf.cast((rgba[..., :3] * scale * rgba[..., 3:] + 127) // 255, tf.uint8)

    pixels = tf.cond(tf.io.is_jpeg(content), decode_jpeg, decode_png)
    pixels = tf.ensure_shape(pixels, (None, None, 3))
    if model_input.crop_head:
        pixels = crop_head(pixels, model_input.upright)
    size = (model_input.image_size, model_input.image_size)
    return tf.image.resize(tf.cast(pixels, tf.float32), size, method="bilinear", antialias=True)

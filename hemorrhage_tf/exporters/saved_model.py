"""SavedModel: one folder with up to three signatures, each weight once, and the metadata.

Keras' own `export` writes every weight twice; a `tf.Module` that holds the variables once does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hemorrhage_tf.exporters.head_crop_graph import crop_head
from hemorrhage_tf.models.classifier import with_class_activation_map
from hemorrhage_tf.models.metadata import ModelMetadata, write_metadata
from hemorrhage_tf.models.scan_model import PADDED_SCAN_SLICES, SCAN_SIGNATURE
from hemorrhage_tf.pipeline.model_input import ModelInput


def write_saved_model(
    classifier: Any,
    folder: Path,
    metadata: ModelMetadata,
    input_type: str = "float32",
    scan_model: Any = None,
) -> None:
    """Write a SavedModel.

    Its signatures are `serving_default` (`image`: `(batch, size, size, 3)` in [0, 255]) and, unless
    each channel is a window of its own, `serve_bytes` (`image_bytes`: strings `(batch,)`, encoded
    PNG or JPEG). Both output `probability` `(batch, 1)` and `cam` `(batch, height, width)`; with a
    scan model also `features` `(batch, width)`. A scan model adds `serve_scan`, from the `features`
    `(batch, slices, width)` and the `geometry` `(batch, slices, 3)` of the slices of each scan to
    `probability` `(batch, 1)` and `slice_probability` `(batch, slices)`. Its `mask`
    `(batch, slices)` is 1 for a slice and 0 for padding.

    Args:
        classifier: The Keras model, from pixels to probability.
        folder: The target, which must not exist.
        metadata: Written into the folder as JSON.
        input_type: "float32" or "uint8", type of `image`. Defaults to "float32".
        scan_model: The Keras model from `build_scan_model`; None if there is none. Defaults to
            None.
    """
    import tensorflow as tf

    module = served_module(classifier, scan_model)
    size = metadata.image_size
    image = tf.TensorSpec((None, size, size, 3), input_type, name="image")
    serve = image_function(module, image)
    image_bytes = tf.TensorSpec((None,), tf.string, name="image_bytes")

    @tf.function(input_signature=[image_bytes])
    def serve_bytes(image_bytes: Any) -> Any:
        images = tf.map_fn(
            lambda content: decode_to_model_input(content, metadata.model_input),
            image_bytes,
            fn_output_signature=tf.TensorSpec((size, size, 3), tf.float32),
        )
        return module.forward(images)

    signatures = {"serving_default": serve}
    if metadata.model_input.takes_display_images:
        signatures["serve_bytes"] = serve_bytes
    if scan_model is not None:
        signatures[SCAN_SIGNATURE] = scan_function(module, scan_model)
    tf.saved_model.save(module, str(folder), signatures=signatures)
    write_metadata(folder, metadata)


def served_module(classifier: Any, scan_model: Any = None) -> Any:
    """Wrap a classifier, and its scan model, in a `tf.Module` that holds each variable once.

    Args:
        classifier: The Keras model, from pixels to probability.
        scan_model: The Keras model from `build_scan_model`; None if there is none. Defaults to
            None.

    Returns:
        A module whose `forward` takes float32 images `(batch, size, size, 3)` and returns
        `probability`, `subtypes` if there are any, and `cam`; with a scan model also `features`.
        Its `scan` applies the scan model.
    """
    import keras
    import tensorflow as tf

    explained = with_class_activation_map(classifier)
    if scan_model is not None:
        features = classifier.get_layer("standardization").output
        explained = keras.Model(explained.input, {**explained.output, "features": features})

    class Served(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            models = [explained] if scan_model is None else [explained, scan_model]
            self.weights = [weight.value for model in models for weight in model.weights]

        def forward(self, images: Any) -> Any:
            return explained(images, training=False)

        def scan(self, inputs: Any) -> Any:
            return scan_model(inputs, training=False)

    return Served()


def image_function(module: Any, spec: Any, cam: bool = True) -> Any:
    """Return the function behind the signature `serving_default`.

    Args:
        module: From `served_module`.
        spec: The `tf.TensorSpec` of `image`.
        cam: Whether it outputs the class activation map. Defaults to True.
    """
    import tensorflow as tf

    @tf.function(input_signature=[spec])
    def serve(image: Any) -> Any:
        outputs = dict(module.forward(tf.cast(image, tf.float32)))
        if not cam:
            del outputs["cam"]
        return outputs

    return serve


def scan_function(module: Any, scan_model: Any, batch: int | None = None) -> Any:
    """Return the function behind the signature `serve_scan`.

    Args:
        module: From `served_module`, with the scan model.
        scan_model: The Keras model from `build_scan_model`.
        batch: Number of scans: None for any number, with a `mask`; or 1, without. Defaults to None.
    """
    import tensorflow as tf

    def spec(name: str) -> Any:
        shape = scan_model.input[name].shape
        return tf.TensorSpec((batch, *shape[1:]), tf.float32, name=name)

    @tf.function(input_signature=[spec("features"), spec("geometry"), spec("mask")])
    def serve_masked(features: Any, geometry: Any, mask: Any) -> Any:
        return module.scan({"features": features, "geometry": geometry, "mask": mask})

    @tf.function(input_signature=[spec("features"), spec("geometry")])
    def serve(features: Any, geometry: Any) -> Any:
        mask = tf.ones_like(features[..., 0])
        return module.scan({"features": features, "geometry": geometry, "mask": mask})

    return serve_masked if batch is None else serve


def padded_scan_function(module: Any, scan_model: Any) -> Any:
    """Return the function behind the signature `serve_padded_scan`: one scan, padded.

    Args:
        module: From `served_module`, with the scan model.
        scan_model: The Keras model from `build_scan_model`.
    """
    import tensorflow as tf

    def spec(name: str) -> Any:
        shape = scan_model.input[name].shape
        return tf.TensorSpec((1, PADDED_SCAN_SLICES, *shape[2:]), tf.float32, name=name)

    def of_any_length(tensor: Any) -> Any:
        # Where all sides are known, Keras adds vectors as a bias in an order of axes that the
        # converter rejects. The converter still finds the length out. See docs/decisions.md.
        return tf.compat.v1.placeholder_with_default(tensor, (1, None, *tensor.shape[2:]))

    @tf.function(input_signature=[spec("features"), spec("geometry"), spec("mask")])
    def serve(features: Any, geometry: Any, mask: Any) -> Any:
        inputs = {"features": features, "geometry": geometry, "mask": mask}
        return module.scan({name: of_any_length(tensor) for name, tensor in inputs.items()})

    return serve


def decode_to_model_input(content: Any, model_input: ModelInput) -> Any:
    """Decode a display image in the graph and preprocess it, like `read_slice` and `ModelInput`.

    Args:
        content: Scalar string tensor, an encoded PNG or JPEG.
        model_input: The preprocessing.

    Returns:
        float32 `(size, size, 3)` in [0, 255].
    """
    import tensorflow as tf

    def decode_jpeg() -> Any:
        # By default TensorFlow may choose a faster, less exact method.
        return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")

    def decode_png() -> Any:
        rgba = tf.cast(tf.io.decode_png(content, channels=4), tf.int32)
        # TensorFlow does not scale gray of 1, 2 or 4 bits to [0, 255]. The header holds depth and
        # color type (0 is gray): PNG specification, section 11.2.1.
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

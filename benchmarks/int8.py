"""Measure a backbone in int8 and float32 on LiteRT: time, time of each operator, and cost in AUC.

    python benchmarks/int8.py mobilenet_v2 [--weights FILE] [--feature-layer LAYER] [--operators]
        [--onnxruntime] [--data DATA ...] [--most 400]

Seconds are processor time of one thread, so that other work on the machine hardly counts. The time
of an operator is the difference between a file that ends at it and one that ends before it. With
DATA, heads are trained on the features of every form, in 5 folds with 3 seeds, and their ROC AUC
out of fold is compared. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in commands

import numpy as np

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.slice_index import build_slice_index
from hemorrhage_tf.datasets.splits import folds
from hemorrhage_tf.models.backbones import backbone_spec, build_backbone
from hemorrhage_tf.models.batch_norm_folding import fold_batch_normalization
from hemorrhage_tf.models.classifier import build_feature_model, standardize
from hemorrhage_tf.pipeline.datasets import input_batches
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.synthesis.phantom_sets import cached_phantoms
from hemorrhage_tf.training.head_solver import class_weight, feature_statistics, solve_head

OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MAX_POOL_2D", "PAD")
CALIBRATION_SLICES = 32
ROUNDS = 7
SIGNATURE = "serving_default"
L2 = 1 / 64
SEEDS = 3


def convert(model: Any, folder: Path, images: list[np.ndarray]) -> dict[str, Path]:
    """Convert a Keras model to TFLite files in float32, and with the backbone in int8."""
    import tensorflow as tf
    from litert_quantizer import Quantizer
    from litert_quantizer.qtyping import TFLOperationName

    module = tf.Module()
    module.weights = [weight.value for weight in model.weights]
    shape = (1, *model.input_shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])
    def serve(image: Any) -> dict[str, Any]:
        return {"features": model(image, training=False)}

    tf.saved_model.save(module, str(folder / "saved"), signatures={SIGNATURE: serve})
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder / "saved"), signature_keys=[SIGNATURE]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    paths = {"float32": folder / "float32.tflite", "int8": folder / "int8.tflite"}
    paths["float32"].write_bytes(converter.convert())
    quantizer = Quantizer(str(paths["float32"]))
    for name in OPERATORS:
        # Global average and max pooling are MEAN and REDUCE_MAX, which stay in float32.
        quantizer.add_static_config(".*", TFLOperationName[name], 8, 8)
    ranges = quantizer.calibrate({SIGNATURE: [{"image": image[np.newaxis]} for image in images]})
    paths["int8"].write_bytes(bytes(quantizer.quantize(ranges).quantized_model))
    return paths


def interpreter_of(path: Path) -> Any:
    """Load a file with one thread."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def runner(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from an image to its output."""
    interpreter = interpreter_of(path)
    place = interpreter.get_input_details()[0]["index"]
    output = interpreter.get_output_details()[0]["index"]

    def run(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(place, image[np.newaxis])
        interpreter.invoke()
        return interpreter.get_tensor(output)[0].copy()

    return run


def onnxruntime_runner(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from an image to its output, computed by onnxruntime in one thread."""
    import onnxruntime
    import tensorflow as tf
    import tf2onnx

    shape = (1, *model.input_shape[1:])
    proto, _ = tf2onnx.convert.from_function(
        tf.function(lambda image: model(image, training=False)),
        input_signature=[tf.TensorSpec(shape, tf.float32, name="image")],
        opset=17,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda image: session.run(None, {"image": image[np.newaxis]})[0][0]


def milliseconds(run: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> float:
    """Return the processor time of this process in the fastest round."""
    run(image)
    rounds = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        run(image)
        rounds.append(time.process_time() - begin)
    return 1000 * min(rounds)


def operator_times(path: Path, image: np.ndarray) -> dict[str, float]:
    """Return milliseconds by kind of operator, from files that end at each of them."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    whole = flatbuffer_utils.read_model(str(path))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name[0] != "_"}
    operators = list(whole.subgraphs[0].operators)
    times: dict[str, float] = defaultdict(float)
    before = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for end in range(1, len(operators) + 1):
            graph = whole.subgraphs[0]
            graph.operators = operators[:end]
            graph.outputs = operators[end - 1].outputs
            whole.signatureDefs = []
            part = Path(folder, "part.tflite")
            flatbuffer_utils.write_model(whole, str(part))
            now = milliseconds(runner(part), image)
            code = whole.operatorCodes[operators[end - 1].opcodeIndex]
            name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            times[name] += now - before
            before = now
    return {name: round(value, 3) for name, value in times.items()}


def auc_out_of_fold(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """Return the mean ROC AUC of heads out of fold, over several seeds."""
    from sklearn.metrics import roc_auc_score

    values = []
    for seed in range(SEEDS):
        scores = np.zeros(len(labels))
        for train, test in folds(labels, groups, 5, seed):
            mean, variance = feature_statistics(features[train])
            inputs = standardize(features[train], mean, variance)
            weights = class_weight(labels[train], "balanced")
            solution = solve_head(inputs, labels[train], weights, L2)
            kernel = np.asarray(solution.kernel).reshape(len(mean))
            scores[test] = standardize(features[test], mean, variance) @ kernel
        values.append(roc_auc_score(labels, scores))
    return float(np.mean(values))


def cost_in_auc(
    data: str, size: int, forms: dict[str, Callable[[np.ndarray], np.ndarray]], most: int
) -> dict[str, Any]:
    """Compare the AUC of heads on the features of each form."""
    index = build_slice_index(read_manifest(data), Progress(quiet=True), skip_invalid=True)
    chosen = np.arange(len(index))
    if len(chosen) > most:
        chosen = np.unique(np.linspace(0, len(index) - 1, most).astype(int))
    features: dict[str, list[np.ndarray]] = {name: [] for name in forms}
    refs = [index.refs[place] for place in chosen.tolist()]
    for batch in input_batches(refs, ModelInput(size), 16):
        for image in batch:
            for name, run in forms.items():
                features[name].append(run(image))
    labels, groups = index.labels[chosen], index.groups[chosen]
    result: dict[str, Any] = {"slices": len(chosen)}
    for name, rows in features.items():
        result[name] = round(auc_out_of_fold(np.stack(rows), labels, groups), 5)
    return result


def main() -> None:
    """Convert, time and compare."""
    import tensorflow as tf

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backbone", nargs="?", default="mobilenet_v2")
    parser.add_argument("--weights", default="none", help="as for `fit`")
    parser.add_argument("--feature-layer")
    parser.add_argument("--operators", action="store_true", help="time each operator")
    parser.add_argument("--onnxruntime", action="store_true", help="time onnxruntime, too")
    parser.add_argument("--data", nargs="*", default=(), help="labeled slices, as for `fit`")
    parser.add_argument("--most", type=int, default=400, help="slices of each data set")
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    spec = backbone_spec(options.backbone)
    size = spec.image_size
    backbone = build_backbone(options.backbone, options.weights, size, options.feature_layer)
    model = build_feature_model(fold_batch_normalization(backbone, "float32"), spec.normalization)
    with tempfile.TemporaryDirectory() as folder:
        phantoms = read_manifest(cached_phantoms(Path(folder), CALIBRATION_SLICES, 0))
        batches = input_batches(phantoms.records.refs, ModelInput(size), CALIBRATION_SLICES)
        images = [image for batch in batches for image in batch]
    compiled = tf.function(lambda image: model(image, training=False))
    forms: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "tensorflow float32": lambda image: compiled(image[np.newaxis]).numpy()[0]
    }
    result: dict[str, Any] = {"backbone": options.backbone}
    if options.onnxruntime:
        forms["onnxruntime float32"] = onnxruntime_runner(model)
    with tempfile.TemporaryDirectory() as folder:
        paths = convert(model, Path(folder), images)
        forms |= {f"litert {name}": runner(path) for name, path in paths.items()}
        times = {name: round(milliseconds(run, images[0]), 2) for name, run in forms.items()}
        result["milliseconds"] = times
        print(times, flush=True)
        result["int8 to float32"] = round(times["litert int8"] / times["litert float32"], 3)
        if options.operators:
            result["operators"] = {
                name: operator_times(path, images[0]) for name, path in paths.items()
            }
            print(result["operators"], flush=True)
        result["auc"] = {}
        for data in options.data:
            kept = {name: forms[name] for name in ("litert float32", "litert int8")}
            result["auc"][Path(data).name] = cost_in_auc(data, size, kept, options.most)
            print(result["auc"], flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

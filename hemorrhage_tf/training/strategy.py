"""The devices that train, and the precision in which a frozen backbone computes features."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

from hemorrhage_tf.core.native_output import import_tensorflow, is_tensorflow_imported
from hemorrhage_tf.models.backbones import BackboneSpec

_CPUINFO = Path("/proc/cpuinfo")
_DEVICES = Path("/dev")
_GPU_DEVICES = ("nvidia*", "nvhost*", "nvgpu*", "kfd", "dxg")  # without them there is no GPU
_POLICIES = {"off": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def resolve_strategy(name: str) -> Any:
    """Return the distribution strategy of a setting.

    Args:
        name: "auto": `MirroredStrategy` over all visible GPUs, or the default strategy without
            GPUs. "mirrored": `MirroredStrategy` over all GPUs, or over all logical CPU devices
            without GPUs. "none": the default strategy. A `tf.distribute.Strategy` is returned as it
            is. "multiworker" is handled by `distributed.cluster.join_cluster` instead.

    Returns:
        A `tf.distribute.Strategy`. None for the default strategy if TensorFlow was not imported
        yet and is not needed to choose it.
    """
    if not is_tensorflow_imported() and (name == "none" or (name == "auto" and not has_gpus())):
        return None
    import_tensorflow()
    import tensorflow as tf

    if isinstance(name, tf.distribute.Strategy):
        return name
    gpus = tf.config.list_logical_devices("GPU")
    if name == "none" or (name == "auto" and not gpus):
        return tf.distribute.get_strategy()
    devices = gpus or tf.config.list_logical_devices("CPU")
    return _mirrored_strategy(tuple(device.name for device in devices))


@functools.cache
def _mirrored_strategy(devices: tuple[str, ...]) -> Any:
    """Create one strategy per set of devices; two in one process would share collective keys."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(list(devices))


def resolve_precision(name: str, spec: BackboneSpec, cpuinfo: Path = _CPUINFO) -> str:
    """Choose the Keras dtype policy under which the frozen backbone computes features.

    The choice depends on the hardware and not on a timing, so that it is the same in every run on
    one machine.

    Args:
        name: "auto": float16 on GPUs; bfloat16 on a CPU that has it in hardware, for backbones that
            are faster with it. Otherwise "off", "bfloat16" or "float16".
        spec: The backbone.
        cpuinfo: See `cpu_has_bfloat16`.

    Returns:
        "float32", "mixed_bfloat16" or "mixed_float16".
    """
    if name != "auto":
        return _POLICIES[name]
    if has_gpus():
        return "mixed_float16"
    if spec.bfloat16_is_faster and cpu_has_bfloat16(cpuinfo):
        return "mixed_bfloat16"
    return "float32"


def has_gpus(devices: Path = _DEVICES) -> bool:
    """Return whether TensorFlow sees a GPU. Imports it only if there could be one.

    Args:
        devices: The folder in which Linux lists the devices.
    """
    if not is_tensorflow_imported() and sys.platform == "linux":
        found = (next(devices.glob(pattern), None) for pattern in _GPU_DEVICES)
        if all(path is None for path in found):
            return False
    import_tensorflow()
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


def cpu_has_bfloat16(cpuinfo: Path = _CPUINFO) -> bool:
    """Return whether the CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX).

    Args:
        cpuinfo: The file in which Linux lists the CPU's flags. Without it the answer is False.
    """
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags

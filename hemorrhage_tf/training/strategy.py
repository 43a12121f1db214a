"""Which devices train, and in which precision the frozen backbone runs."""

from __future__ import annotations

import functools
from pathlib import Path

from hemorrhage_tf.models.backbones import BackboneSpec


def resolve_strategy(name: str):
    """Makes the distribution strategy.

    Args:
        name: "auto": `MirroredStrategy` over all visible GPUs, and the default strategy where there
            is none; "mirrored": the same, and over all logical CPU devices where there is no GPU;
            "none": the default strategy. A `tf.distribute.Strategy` is returned as it is. What
            "multiworker" trains with comes from `cluster.join_cluster`.

    Returns:
        A `tf.distribute.Strategy`.
    """
    import tensorflow as tf

    if isinstance(name, tf.distribute.Strategy):
        return name
    gpus = tf.config.list_logical_devices("GPU")
    if name == "none" or (name == "auto" and not gpus):
        return tf.distribute.get_strategy()
    devices = gpus or tf.config.list_logical_devices("CPU")
    return _mirrored(tuple(device.name for device in devices))


@functools.cache
def _mirrored(devices: tuple[str, ...]):
    """Makes one strategy for each set of devices: two in one process share collective keys."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(list(devices))


def resolve_precision(name: str, spec: BackboneSpec) -> str:
    """Chooses the Keras dtype policy under which the frozen backbone computes features.

    Args:
        name: "auto": float16 on GPUs, bfloat16 on a CPU that has it where the registry says that
            it is faster for this backbone; "off", "bfloat16" or "float16".
        spec: the backbone.

    Returns:
        "float32", "mixed_bfloat16" or "mixed_float16". The answer depends on the hardware and not
        on a timing, so that it is the same in every run on one machine.
    """
    if name != "auto":
        return {"off": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}[name]
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        return "mixed_float16"
    if spec.bfloat16_is_faster and cpu_has_bfloat16():
        return "mixed_bfloat16"
    return "float32"


def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Says whether the CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX).

    Args:
        cpuinfo: where Linux lists the CPU's flags. Elsewhere the answer is False.
    """
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags

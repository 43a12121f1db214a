"""Backbones that are built, as sources of features."""

from typing import Any

from hemorrhage_tf.models.backbone_options import BackboneOptions
from hemorrhage_tf.models.backbones import BackboneSpec
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.training.features.source import (
    FeatureSource,
    backbone_facts,
    build_from_options,
)


def source_of(
    spec: BackboneSpec,
    backbone: Any,
    feature_layer: str | None,
    model_input: ModelInput,
    policy: str = "float32",
) -> FeatureSource:
    """Return a backbone that is built as a source of features."""
    return FeatureSource(
        spec=spec,
        facts=backbone_facts(backbone),
        build=lambda: backbone,
        feature_layer=feature_layer,
        model_input=model_input,
        policy=policy,
    )


def build_source(options: BackboneOptions, model_input: ModelInput) -> FeatureSource:
    """Build a backbone as a source of float32 features."""
    backbone = build_from_options(options, 0)
    return source_of(options.spec, backbone, options.feature_layer, model_input)

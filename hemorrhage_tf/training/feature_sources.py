"""The backbones of a fit, built, and the precision in which each computes features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hemorrhage_tf.models.backbone_options import join_backbone_values
from hemorrhage_tf.models.backbones import join_hashes
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.features.source import FeatureSource, build_source
from hemorrhage_tf.training.strategy import resolve_precision


@dataclass(frozen=True)
class FeatureSources:
    """The backbones, in the order of their features.

    Attributes:
        sources: The backbones, with their features in float32.
        policies: For each the Keras dtype policy for features used only in training. Features used
            in evaluation are always computed in float32, as in the saved model.
    """

    sources: Sequence[FeatureSource]
    policies: Sequence[str]

    @property
    def precision(self) -> str:
        """The policies, as `config.json` and the other workers receive them."""
        joined = join_backbone_values(
            {
                source.spec.name: policy
                for source, policy in zip(self.sources, self.policies, strict=True)
            }
        )
        assert joined is not None
        return joined

    @property
    def weights_hash(self) -> str:
        """The hash of all backbones' weights."""
        return join_hashes({source.spec.name: source.weights_hash for source in self.sources})


def backbone_strategy(context: FitContext) -> Any:
    """Return the `tf.distribute.Strategy` in whose scope backbones are built.

    Frozen backbones with cached features are local to each worker. Backbones that are trained, or
    run in every epoch, are on the devices of all workers.
    """
    if context.settings.fine_tune_epochs or not context.settings.feature_cache:
        return context.cluster.strategy
    return context.cluster.local_strategy()


def build_feature_sources(context: FitContext) -> FeatureSources:
    """Build the backbones of a fit.

    Raises:
        HemorrhageError: A backbone or its weights are not available, or workers would compute
            features in different precisions.
    """
    settings = context.settings
    stage = context.progress.stage(f"Building {settings.backbone}")
    with stage, backbone_strategy(context).scope():
        sources = [
            build_source(each, context.model_input, settings.seed) for each in settings.backbones
        ]
    policies = [resolve_precision(settings.mixed_precision, source.spec) for source in sources]
    feature_sources = FeatureSources(sources, policies)
    context.cluster.require_agreement({"precision of the features": feature_sources.precision})
    return feature_sources

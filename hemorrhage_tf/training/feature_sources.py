"""The backbones of a fit, and the precision in which each computes features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hemorrhage_tf.models.backbone_options import BackboneOptions, join_backbone_values
from hemorrhage_tf.models.backbones import join_hashes
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.features.source import (
    FeatureSource,
    backbone_facts,
    build_from_options,
)
from hemorrhage_tf.training.kept_models import KeptModels
from hemorrhage_tf.training.settings import FitSettings
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


def trains_with_tensorflow(settings: FitSettings) -> bool:
    """Return whether the head is trained with TensorFlow; the solver does not need it."""
    return not (settings.trains_quickly and settings.head_solver == "lbfgs")


def uses_tensorflow(settings: FitSettings, cache_folder: Path) -> bool:
    """Return whether it is known before the data are read that a fit uses TensorFlow.

    Args:
        settings: The settings of the fit.
        cache_folder: The cache folder; features of a backbone that it does not know are not in it.
    """
    kept = KeptModels(cache_folder)
    facts = [kept.facts(options, settings.seed) for options in settings.backbones]
    return None in facts or trains_with_tensorflow(settings)


def kept_models(context: FitContext) -> KeptModels:
    """Return the models that earlier fits kept, and none where backbones are built in any case.

    Building a backbone sets the random state that dropout continues from.
    """
    settings = context.settings
    is_frozen = settings.trains_quickly and not settings.dropout
    return KeptModels(context.cache_folder if is_frozen and context.cluster.count == 1 else None)


def _source(context: FitContext, kept: KeptModels, options: BackboneOptions) -> FeatureSource:
    """Return a backbone as a source of float32 features; it is built now if it is not known."""
    seed = context.settings.seed

    @cache
    def build() -> Any:
        strategy = backbone_strategy(context)
        with context.progress.stage(f"Building {options.spec.name}"), strategy.scope():
            return build_from_options(options, seed)

    facts = kept.facts(options, seed)
    if facts is None:
        facts = backbone_facts(build())
        kept.keep_facts(options, seed, facts)
    return FeatureSource(
        spec=options.spec,
        facts=facts,
        build=build,
        feature_layer=options.feature_layer,
        model_input=context.model_input,
        policy="float32",
    )


def build_feature_sources(context: FitContext) -> FeatureSources:
    """Return the backbones of a fit. Those that an earlier fit kept are only built on use.

    Raises:
        HemorrhageError: A backbone or its weights are not available, or workers would compute
            features in different precisions.
    """
    settings = context.settings
    kept = kept_models(context)
    sources = [_source(context, kept, each) for each in settings.backbones]
    policies = [resolve_precision(settings.mixed_precision, source.spec) for source in sources]
    feature_sources = FeatureSources(sources, policies)
    context.cluster.require_agreement({"precision of the features": feature_sources.precision})
    return feature_sources

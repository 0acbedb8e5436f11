"""A checkpoint, an extractor and a reference as the flags name them."""

from typing import TYPE_CHECKING, Any

from absl import flags

from ict_jax.cli import common, scoring_flags
from ict_jax.core.errors import require

if TYPE_CHECKING:
    from ict_jax.evaluation.extractors import Extractor
    from ict_jax.evaluation.protocol_scorer import ProtocolScorer
    from ict_jax.evaluation.protocols import Protocol
    from ict_jax.evaluation.references import Reference


def open_scorer(
    values: flags.FlagValues, **options: Any
) -> tuple[scoring_flags.Model, "ProtocolScorer", dict[str, Any]]:
    """Reads the checkpoint, the extractor and the reference that the flags name.

    Args:
      values: parsed flags.
      **options: further ones of `ProtocolScorer`.

    Returns:
      The model, its scorer, and what makes scores comparable, for the results.

    Raises:
      ArgumentError: something of it is missing or does not fit.
    """
    from ict_jax.config.sampling import (  # late: --help and mistakes answer at once
        build_draw,
        sampler_arguments,
    )
    from ict_jax.evaluation.extractors import find_extractor
    from ict_jax.evaluation.protocol_scorer import ProtocolScorer
    from ict_jax.evaluation.protocols import find_protocol
    from ict_jax.runtime import processes

    protocol = find_protocol(common.value(values, "protocol"))
    first, labels = common.value(values, "first_seed"), common.value(values, "labels")
    count = common.value(values, "num_samples")
    count = protocol.num_samples if count is None else count
    require(
        count >= 4,
        f"--num_samples={count} must be at least 4; {protocol.num_samples:,} is usual.",
    )
    seeds = range(first, first + count)
    name = _extractor_name(values, protocol)
    scoring_flags.start()
    with processes.together():
        extractor = find_extractor(name, common.value(values, "inception_weights"))
    model = scoring_flags.open_model(
        values, with_data=protocol.reference == "train" or labels == "data"
    )
    classes = scoring_flags.labels_of(labels, seeds, model)
    reference = _reference(values, protocol, extractor, model)
    scorer = ProtocolScorer(
        extractor,
        reference,
        build_draw(model.config),
        model.mesh,
        model.params,
        seeds=seeds,
        labels=classes,
        directory=model.out / "evaluation",
        batch_size=min(common.value(values, "batch_size"), count),
        **sampler_arguments(model.config),
        **options,
    )
    return model, scorer, _record(values, protocol, scorer, model, seeds)


def _record(
    values: flags.FlagValues,
    protocol: "Protocol",
    scorer: "ProtocolScorer",
    model: scoring_flags.Model,
    seeds: range,
) -> dict[str, Any]:
    from ict_jax.config.network import num_classes

    return {
        "protocol": protocol.name,
        "as_the_protocol": seeds == range(protocol.num_samples),
        "n": len(seeds),
        "seeds": [seeds.start, seeds.stop - 1],
        "labels": common.value(values, "labels") if num_classes(model.config) else None,
        "extractor": {"name": scorer.extractor.name, "sha256": scorer.extractor.digest},
        "reference": {
            "name": scorer.reference.name,
            "sha256": scorer.reference.digest,
            "n": scorer.reference.size,
            "features": len(scorer.reference.features),
        },
        "checkpoint": common.value(values, "checkpoint"),
        "step": model.step,
        "ema_decay": model.config.training.ema_decay,
    }


def _reference(
    values: flags.FlagValues,
    protocol: "Protocol",
    extractor: "Extractor",
    model: scoring_flags.Model,
) -> "Reference":
    from ict_jax.evaluation import protocols, references
    from ict_jax.runtime.console import progress

    if protocol.reference == "train":
        dataset = model.dataset
        assert dataset is not None
        protocols.check_data(protocol, dataset.name, dataset.train.size, dataset.image_shape)
        return references.reference_of(
            f"{dataset.name}, training split",
            dataset.train,
            extractor,
            model.mesh,
            told=progress("real images"),
        )
    path = common.required(values, "reference", "--reference=VIRTUAL_imagenet64_labeled.npz")
    assert protocol.image_shape is not None
    require(
        tuple(model.config.image_shape) == protocol.image_shape,
        f"--protocol={protocol.name} is for images of {protocol.image_shape} and the model draws "
        f"{tuple(model.config.image_shape)}; use --protocol=train-set.",
    )
    return references.reference_of_file(path, extractor, model.mesh, protocol.image_shape)


def _extractor_name(values: flags.FlagValues, protocol: "Protocol") -> str:
    given = common.value(values, "extractor")
    require(
        protocol.extractor in (None, given) or given is None,
        f"--protocol={protocol.name} compares in the features of {protocol.extractor} and "
        f"--extractor={given} was given; leave it out, or use --protocol=train-set.",
    )
    name = protocol.extractor or given or ""
    require(
        bool(name),
        f"--protocol={protocol.name} needs --extractor: inception (its weights are a file of "
        "yours) or lite0 (pip install 'ict_jax[lite0]').",
    )
    return name

"""A request for scores, and the extractor and real images that it asks for."""

import dataclasses
import os

from ict_jax.config.network import image_shape
from ict_jax.core.errors import require
from ict_jax.evaluation.against_set import AgainstSet
from ict_jax.evaluation.checkpoint import Model
from ict_jax.evaluation.extractors import Extractor, find_extractor
from ict_jax.evaluation.extractors.base import CLASSIFIER
from ict_jax.evaluation.features import FeatureExtractor
from ict_jax.evaluation.held_out import HeldOut
from ict_jax.evaluation.protocols import HELD_OUT_PROTOCOL, check_training_split, find_protocol
from ict_jax.evaluation.references import compute_reference, read_reference
from ict_jax.evaluation.scorer import Comparison


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """The options that `ict-evaluate` and `ict-search-sigmas` share.

    Attributes:
      protocol: name of a protocol, see `ict_jax.evaluation.protocols`.
      num_samples: images drawn; default: the protocol's.
      extractor: network of the features, for protocols that leave it open: `inception`, `lite0` or
        an `Extractor` of your own.
      inception_weights: file of the FID network; default: ICT_INCEPTION_WEIGHTS.
      reference: the .npz of the protocol imagenet64-adm-50k.
      first_seed: seed of the first image.
      labels: as `parse_labels`.
      batch_size: images drawn at once.
      data_dir: as `open_model`.
      out: directory for the results; default: the work directory of the run.
    """

    protocol: str = HELD_OUT_PROTOCOL
    num_samples: int | None = None
    extractor: str | Extractor | None = None
    inception_weights: str | None = None
    reference: str | None = None
    first_seed: int = 0
    labels: str = "even"
    batch_size: int = 256
    data_dir: str | None = None
    out: str | os.PathLike | None = None

    def load_extractor(self) -> Extractor | None:
        """Load the pretrained extractor; None for the classifier.

        Raises:
          ArgumentError: the options contradict the protocol, or the weights are missing or wrong.
        """
        protocol, given = find_protocol(self.protocol), self.extractor
        require(
            protocol.extractor is None or given in (None, protocol.extractor),
            f"--protocol={protocol.name} compares in the features of {protocol.extractor} and "
            f"--extractor={given} was given; leave it out, or use --protocol=train-set.",
        )
        wanted = protocol.extractor or given
        require(
            wanted is not None,
            f"--protocol={protocol.name} needs --extractor: inception (its weights are a file of "
            "yours) or lite0 (pip install 'ict_jax[lite0]').",
        )
        if wanted == CLASSIFIER:
            require(
                self.inception_weights is None and self.reference is None,
                "--inception_weights and --reference belong to other protocols than "
                f"{protocol.name}; leave them out, or use --protocol=train-set.",
            )
            return None
        return find_extractor(wanted, self.inception_weights) if isinstance(wanted, str) else wanted

    def load_comparison(self, model: Model, extractor: Extractor | None, count: int) -> Comparison:
        """Load the real images that the protocol compares `count` samples with.

        Raises:
          ArgumentError: the images do not fit the protocol, or the reference is missing or wrong.
        """
        protocol, dataset = find_protocol(self.protocol), model.dataset
        if extractor is None:
            assert dataset is not None
            return HeldOut(dataset, model.mesh, num_samples=count)
        extract = FeatureExtractor(extractor, model.mesh, min(self.batch_size, count))
        held_out = None if dataset is None else dataset.test.images[:count]
        if protocol.reference == "train":
            assert dataset is not None
            check_training_split(protocol, dataset.name, dataset.train.size, dataset.image_shape)
            name = f"{dataset.name}, training split"
            return AgainstSet(compute_reference(name, dataset.train, extract), held_out)
        require(
            self.reference is not None,
            "--reference is missing; give it, as in --reference=VIRTUAL_imagenet64_labeled.npz.",
        )
        assert self.reference is not None
        shape = image_shape(model.config)
        require(
            shape == protocol.image_shape,
            f"--protocol={protocol.name} is for images of {protocol.image_shape} and the model "
            f"draws {shape}; use --protocol=train-set.",
        )
        return AgainstSet(read_reference(self.reference, extract, shape), held_out)

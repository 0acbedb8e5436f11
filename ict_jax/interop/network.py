"""The network that a config names."""

from typing import Any

from ict_jax import build, checks
from ict_jax.build import Config
from ict_jax.core.errors import require
from ict_jax.models import DDPMpp


def network_of(config: Config, kind: type, name: str) -> tuple[Config, Any]:
    """The resolved config and its network, which must be of a kind.

    Raises:
      ArgumentError: it is another, or the config leaves something to the data.
    """
    require(
        checks.is_stated(config),
        f"config.image_shape={config.image_shape} and config.precondition.sigma_data="
        f"{config.precondition.sigma_data} must be stated; set them to those of the network.",
    )
    config = checks.resolve(config, None)
    model = build.build_model(config)
    require(
        isinstance(model, kind) and not isinstance(model, DDPMpp),
        f"config.model.name={config.model.name!r} is another network than {name!r}, which is "
        "expected; give its config, or export as safetensors.",
    )
    return config, model

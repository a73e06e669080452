"""Voxelwise maps that habitats are clustered on: texture, enhancement, perfusion."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "_aif": ["AIF", "georgiou", "parker"],
        "_enhancement": ["enhancement_maps"],
        "_iodine": ["ecv_maps", "iodine_maps", "spectral_maps"],
        "_ivim": ["ivim_maps"],
        "_prune": ["prune_maps"],
        "_series": ["SignalModel"],
        "_texture": ["texture_maps"],
        "_tofts": ["tofts_maps"],
    },
)

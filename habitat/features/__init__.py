"""Features of tumors, their habitats and their surroundings."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "_extract": ["extract"],
        "_families": ["FAMILIES"],
        "_filters": ["LBP2D", "LoG", "Plain", "Wavelet"],
        "_rings": ["Rings", "ring"],
        "_settings": ["RadiomicsSettings"],
        "_table": ["Row", "wide"],
    },
)

"""Pictures of habitats: the only place that imports matplotlib."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "_centers": ["plot_centers"],
        "_colors": ["habitat_colors"],
        "_figures": ["overlay", "plot_result"],
    },
)

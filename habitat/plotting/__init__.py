"""Pictures of habitats: the only place that imports matplotlib."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "_centers": ["plot_centers"],
        "_choice": ["plot_choice"],
        "_colors": ["habitat_colors"],
        "_distributions": ["plot_density", "plot_histograms", "plot_shares"],
        "_figures": [
            "mosaic",
            "overlay",
            "plot_result",
            "plot_uncertainty",
            "thumbnail",
        ],
        "_nomogram": ["plot_nomogram"],
        "_performance": [
            "plot_areas",
            "plot_calibration",
            "plot_decision",
            "plot_evaluation",
            "plot_importance",
            "plot_pr",
            "plot_roc",
        ],
        "_stability": ["plot_precision", "plot_stability"],
    },
)

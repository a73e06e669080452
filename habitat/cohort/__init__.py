"""Cohorts: from a table of cases to one folder a case and tables of features."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "_batch": ["BatchResult", "batch"],
        "_check": ["check_cohort"],
        "_config": ["batch_options"],
        "_fit": ["FitResult", "fit_cohort"],
        "_manifest": ["Cohort", "read_cohort"],
    },
)

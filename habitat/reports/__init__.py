"""Reports: one offline HTML for a patient or a cohort."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__, submod_attrs={"_report": ["report"]}
)

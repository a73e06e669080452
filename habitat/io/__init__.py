"""Images in and out: the only door to SimpleITK and pydicom."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "_files": ["write"],
        "_sources": ["read"],
        "_dicom": ["read_dicom"],
        "_masks": ["read_mask"],
        "_grids": ["resample"],
        "_register": ["Registration", "register"],
    },
)

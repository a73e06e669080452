from . import errors as errors
from .geometry import Geometry as Geometry
from .image import Image as Image

__version__: str

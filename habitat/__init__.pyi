from . import errors as errors
from .case import Case as Case
from .choice import choose_k as choose_k
from .geometry import Geometry as Geometry
from .image import Image as Image
from .io import read as read
from .io import read_dicom as read_dicom
from .io import read_mask as read_mask
from .io import register as register
from .io import resample as resample
from .io import write as write
from .maps import enhancement_maps as enhancement_maps
from .maps import iodine_maps as iodine_maps
from .maps import ivim_maps as ivim_maps
from .maps import texture_maps as texture_maps
from .maps import tofts_maps as tofts_maps
from .phantoms import phantom as phantom
from .plotting import overlay as overlay
from .population import HabitatModel as HabitatModel
from .reliability import map_precision as map_precision
from .reliability import stability as stability
from .result import HabitatResult as HabitatResult
from .segmentation import segment as segment
from .segmentation import segment_channels as segment_channels

__version__: str

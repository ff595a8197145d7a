"""Joint layout and class names of the public datasets, for data that came by another way."""

from data_pipelines import classes
from data_pipelines.classes_kinect_v2 import NTU_120, PKU_MMD
from data_pipelines.skeletons import KINECT_V1, KINECT_V2

KNOWN = {
    "utd_mhad": (KINECT_V1, classes.UTD_MHAD),
    "nw_ucla": (KINECT_V1, classes.NW_UCLA),
    "kinder_gator": (KINECT_V1, classes.KINDER_GATOR),
    "ntu60": (KINECT_V2, NTU_120[:60]),
    "ntu120": (KINECT_V2, NTU_120),
    "pku_mmd": (KINECT_V2, PKU_MMD),
}

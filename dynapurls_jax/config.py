"""The configuration of a run: every key there is, with its default, the paper's if it has one."""

import runpy
from pathlib import Path

import ml_collections
from ml_collections import ConfigDict

# The names that keys may have, here so that they can be checked before JAX is even imported.
DATASETS = (
    "demo",
    "utd_mhad",
    "nw_ucla",
    "kinder_gator",
    "ntu60",
    "ntu120",
    "pku_mmd",
    "pku_mmd_2",
    "own",
)
FITS = ("resample", "pad", "published")
STREAMS = ("joint", "bone", "joint_motion", "bone_motion")
TEXT_ENCODERS = ("clip", "minilm", "hashing", "precomputed")
# The order of the granularity axis G, everywhere.
GRANULARITIES = ("global", "head", "hands", "torso", "legs", "start", "middle", "end")
QUERIES = ("label_free", "per_candidate", "oracle_label")
HEADS = ("row", "joint")
SCORES = ("global", "weighted")
PARTITIONS = ("adaptive", "static")
# Which granularities are trained: their places on the axis.
GRANULARITY_SETS = {
    "all": tuple(range(8)),
    "global": (0,),
    "parts": (0, 1, 2, 3, 4),
    "phases": (0, 5, 6, 7),
}
WEIGHTS = ("learned", "average")
DTYPES = ("float32", "bfloat16")
OPTIMIZERS = ("adamw", "sgd")
# Test-time methods, and where their settings stand below.
ADAPTERS = {
    "balanced": "balanced",
    "dynapurls": "refine",
    "tent": "tent",
    "tda": "tda",
    "adanpc": "adanpc",
    "calip": "calip",
    "tpt": "tpt",
    "tpt_residual": "tpt",
    "static": "",
}
# What is shuffled, and what makes a stream hard: classes in blocks, class ratios of 1:10.
ORDERS = ("shuffled", "blocked", "skewed")
TURNS = ("predict_first", "learn_first")
REFINE_OPTIMIZERS = ("adam", "sgd")
KEEPS = ("confident", "recent")
THRESHOLDS = ("absolute", "quantile")
TARGETS = ("hard", "balanced")
PRIORS = ("uniform", "estimated")
CONFIDENCES = ("max", "ratio", "margin", "entropy")
GATES = ("entropy", "energy", "stacking")


def default_config() -> ConfigDict:
    """All keys with their defaults; an experiment changes a few and leaves it locked.

    A key that is not here is an error that names the nearest one.
    """
    config = ConfigDict()
    config.name = "run"  # names the default workdir, runs/<name>
    config.splits = ("",)  # see data_pipelines.protocols.unseen_classes
    config.seeds = (0,)  # one training run for each split and seed

    config.data = ConfigDict()
    config.data.name = ""  # one of DATASETS; "own" is described by dataset.yaml in manual_dir
    config.data.manual_dir = ""  # folder with the owner's archive; empty: the usual places
    config.data.frames = 64  # T
    config.data.fit = "resample"  # or "pad", "published": how a clip gets T frames
    config.data.protocol = ""  # such as "xsub", "xview"; empty: the dataset's usual one
    config.data.streams = ("joint",)  # of STREAMS, fused by the encoder's first layer
    config.data.joints = ""  # "openpose_18", "kinect_v2": maps joints; empty: as recorded
    config.data.features = ""  # a folder of features instead of clips: no encoder is trained
    config.data.skip_bad = False  # leave out files that cannot be read, with their number
    config.data.seed = 0  # of the demo corpus

    config.augment = ConfigDict()  # see data_pipelines.preprocess.Augmentation
    config.augment.turn = 0.3
    config.augment.tilt = 0.1
    config.augment.crop = 0.75
    config.augment.scale = 0.1
    config.augment.noise = 0.005

    config.encoder = ConfigDict()
    config.encoder.width = 64  # channels of the first stage; tokens have 4 times as many
    config.encoder.segments = 3  # T'
    config.encoder.dtype = "float32"  # or "bfloat16": of features; all else is float32
    config.encoder.sign_gradient = False  # move displacements as the published kernel does
    config.encoder.remat = False  # a quarter of the memory for a third more time

    config.pretrain = ConfigDict()
    config.pretrain.epochs = 40
    config.pretrain.batch_size = 32
    config.pretrain.optimizer = "adamw"  # or "sgd", the published recipe; training/optimizers.py
    config.pretrain.learning_rate = 2e-3
    config.pretrain.weight_decay = 1e-2

    config.text = ConfigDict()
    config.text.encoder = "minilm"  # or "clip", "hashing", "precomputed"
    config.text.model = "openai/clip-vit-base-patch32"  # of "clip": a hub id or a local folder
    config.text.dtype = "float32"  # or "bfloat16": of CLIP's features
    config.text.descriptions = ""  # a JSON file; empty: the project's own; "names": class names
    config.text.precomputed = ""  # the npz of text.encoder="precomputed"
    config.text.template = ConfigDict(dict.fromkeys(GRANULARITIES, "a video of {}"))  # 3.2.2

    config.alignment = ConfigDict()
    config.alignment.query = "label_free"  # or "per_candidate", "oracle_label"
    config.alignment.head = "row"  # or "joint"
    config.alignment.score = "global"  # eq. 14; or "weighted", all rows by alpha
    config.alignment.partition = "adaptive"  # or "static", by body part and third (Fig. 4)
    config.alignment.granularities = "all"  # or "global", or that and "parts" or "phases"
    config.alignment.weights = "learned"  # or "average": of the granularities (eq. 11)
    config.alignment.attention = 150  # h
    config.alignment.hidden = 512
    config.alignment.dropout = 0.0
    config.alignment.learning_rate = 1e-4
    config.alignment.weight_decay = 0.0
    config.alignment.batch_size = 256
    config.alignment.epochs = 300
    config.alignment.patience = 20

    config.refine = ConfigDict()  # of eval.adapter="dynapurls": adaptation/dynapurls.py
    config.refine.learning_rate = 0.01
    config.refine.optimizer = "adam"  # or "sgd"
    config.refine.anneal = True  # the rate, along the stream; False for streams without an end
    config.refine.steps = 1  # at each chunk
    config.refine.slots = 16  # K; 0: no memory, each chunk is learned from alone (Table 8)
    config.refine.keep = "confident"  # or "recent": what stays in a full memory
    config.refine.confidence = "max"  # or "ratio", "margin", "entropy"
    config.refine.threshold = 0.1  # tau_conf
    config.refine.threshold_kind = "absolute"  # or "quantile" of the last `window`
    config.refine.window = 128
    config.refine.min_samples = 16  # B_min, which the paper does not give
    config.refine.per_class = 1  # draws of each class in a batch, 0 for all; not in the paper
    config.refine.targets = "hard"  # or "balanced"
    config.refine.target_temperature = 1.0
    config.refine.rounds = 3
    config.refine.pull = 0.0  # towards the static text

    config.balanced = ConfigDict()  # of eval.adapter="balanced": adaptation/balanced.py
    config.balanced.window = 512
    config.balanced.temperature = 0.03
    config.balanced.all_rows = 0.5
    config.balanced.rounds = 6
    config.balanced.cap = 2.0
    config.balanced.prior = "uniform"  # or "estimated" along the stream
    config.balanced.smoothing = 8.0
    config.balanced.passes = 2
    config.balanced.affinity = 0.3
    config.balanced.gain = 2.0
    config.balanced.trust = 4.0

    # What others do at test time; each has its paper in a file of its name, adaptation/*.py.
    config.tent = ConfigDict({"learning_rate": 0.001, "steps": 1})
    config.tda = ConfigDict()
    config.tda.slots = 3  # of the positive cache, with alpha and beta
    config.tda.weight = 2.0
    config.tda.sharpness = 5.0
    config.tda.negative_slots = 2
    config.tda.negative_weight = 0.117
    config.tda.negative_sharpness = 1.0
    config.tda.doubt_from = 0.2  # shares of the highest entropy
    config.tda.doubt_to = 0.5
    config.tda.possible_from = 0.03
    config.adanpc = ConfigDict({"neighbours": 16, "slots": 64, "threshold": 0.5})
    config.calip = ConfigDict({"text_weight": 1.12, "visual_weight": 0.02, "sharpness": 2.0})
    config.tpt = ConfigDict()
    config.tpt.views = 64
    config.tpt.share = 0.1
    config.tpt.kept = 0.5
    config.tpt.learning_rate = 0.005
    config.tpt.steps = 1

    config.eval = ConfigDict()
    config.eval.adapter = "balanced"  # of ADAPTERS; docs/refinement.md compares them
    config.eval.orders = 5  # stream orders
    config.eval.stream = "shuffled"  # or "blocked", "skewed"
    config.eval.chunk = 1  # samples predicted and learned from at once
    config.eval.turn = "predict_first"  # or "learn_first", as the published code

    config.lock()
    return config


def paper_config(name: str) -> ConfigDict:
    """The settings of the paper's section 4.1.4, for NTU RGB+D and PKU-MMD."""
    config = default_config()
    config.name = name
    config.data.name = name
    config.data.frames = 300
    config.data.fit = "published"
    config.encoder.width = 64
    config.pretrain.epochs = 140
    config.pretrain.batch_size = 64
    config.pretrain.optimizer = "sgd"  # Shift-GCN's own recipe, on which the paper builds
    config.pretrain.learning_rate = 0.1
    config.pretrain.weight_decay = 1e-4
    config.alignment.learning_rate = 1e-4
    config.alignment.batch_size = 256
    config.alignment.epochs = 300
    config.alignment.patience = 20
    return config


def small_dataset_config(name: str) -> ConfigDict:
    """What the experiments on the small Kinect v1 datasets have in common."""
    config = default_config()
    config.name = name
    config.data.name = name
    config.data.frames = 32
    config.encoder.width = 32
    config.pretrain.epochs = 25
    config.pretrain.batch_size = 16
    config.alignment.learning_rate = 1e-3
    config.alignment.batch_size = 64
    config.alignment.epochs = 150
    config.alignment.patience = 25
    return config


def load_config(file: Path) -> ConfigDict:
    """The experiment of a file such as `configs/ntu60.py`."""
    return runpy.run_path(str(file))["get_config"]()


def plain(config: ConfigDict, *keys: str) -> dict:
    """The named parts of a config as plain JSON-able values (tuples become lists)."""

    def convert(value):
        if isinstance(value, ml_collections.ConfigDict):
            return {key: convert(value[key]) for key in sorted(value)}
        return [convert(item) for item in value] if isinstance(value, tuple) else value

    return {key: convert(config[key]) for key in keys}

"""What retrain.py did: learns the last layer by gradient descent, step by step, and writes graph, labels and summaries.

Takes the script's flags as options; says what the script said; gives the classifier and its accuracy. The photos' codes come
from headstart's cache, the split from a hash of their names. For a better classifier there is `headstart train`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from headstart.classifier.classifier import Classifier
from headstart.codes.representation import Representation
from headstart.codes.workspace import Workspace
from headstart.compat import bottlenecks
from headstart.compat.architecture import find_architecture
from headstart.compat.gradient_descent import Batches, Step, judge, learn
from headstart.compat.graph_file import write_graph, write_saved_model
from headstart.compat.image_lists import NAME, ImageList, list_images
from headstart.compat.training_summaries import Summaries
from headstart.data.splits import TEST, TRAIN, VALIDATION
from headstart.engines.hardware import Hardware
from headstart.errors import DataError, HeadstartError, MissingExtra
from headstart.files import write_output
from headstart.heads.head import Head
from headstart.heads.scaling import Standardised
from headstart.progress import Progress
from headstart.wording import counted

EVERY_BOTTLENECK = 100  # files, after which the old script said how many there were
VIEWS = {"random_crop": "crop", "random_scale": "zoom", "random_brightness": "brightness"}  # percent


@dataclass(frozen=True)
class RetrainOptions:
    """The flags of retrain.py, tensorflow-for-poets-2's and TF-Hub's, with their defaults. None: was not typed.

    split_by: `name`, or `path` for the old script's own split, which moves with the folder. seed: of batches and first
    weights.
    """

    image_dir: str
    output_graph: str = "/tmp/output_graph.pb"
    intermediate_output_graphs_dir: str = "/tmp/intermediate_graph/"
    intermediate_store_frequency: int = 0
    output_labels: str = "/tmp/output_labels.txt"
    summaries_dir: str = "/tmp/retrain_logs"
    how_many_training_steps: int = 4000
    learning_rate: float = 0.01
    testing_percentage: float = 10
    validation_percentage: float = 10
    eval_step_interval: int = 10
    train_batch_size: int = 100
    test_batch_size: int = -1
    validation_batch_size: int = 100
    print_misclassified_test_images: bool = False
    model_dir: str = "/tmp/imagenet"
    bottleneck_dir: str | None = None
    final_tensor_name: str = "final_result"
    flip_left_right: bool = False
    random_crop: int = 0
    random_scale: int = 0
    random_brightness: int = 0
    architecture: str = "inception_v3"
    tfhub_module: str | None = None
    saved_model_dir: str = ""
    split_by: str = NAME
    seed: int = 0

    def views(self) -> tuple[str, ...]:
        """The distortions as views of a photo."""
        percents = {view: getattr(self, name) for name, view in VIEWS.items()}
        return (*(["mirrored"] if self.flip_left_right else []), *(f"{view}={n:g}" for view, n in percents.items() if n))

    def check(self) -> None:
        """Raise DataError for what cannot be done, before any work."""
        for name in ("how_many_training_steps", "eval_step_interval", "train_batch_size"):
            if getattr(self, name) < 1:
                raise DataError(f"--{name} must be at least 1, not {getattr(self, name)}")
        for name in ("test_batch_size", "validation_batch_size"):
            if getattr(self, name) < -1 or getattr(self, name) == 0:
                raise DataError(f"--{name} must be at least 1, or -1 for all photos, not {getattr(self, name)}")
        if not 0 < self.learning_rate < float("inf"):
            raise DataError(f"--learning_rate must be above 0, not {self.learning_rate:g}")


@dataclass(frozen=True)
class Retrained:
    """What came of it. accuracy: on n_tested photos; None where no photo was left to test with. graph, labels: the files."""

    classifier: Classifier
    accuracy: float | None
    n_tested: int
    graph: Path
    labels: Path


def retrain(
    options: RetrainOptions,
    *,
    cache_dir: Path,
    hardware: Hardware = Hardware(),
    say: Callable[[str], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
    progress: Progress = lambda *_: None,
) -> Retrained:
    """Learn as retrain.py did. say: called with each of its lines; warn: with its warnings, and what differs from it.

    Raises HeadstartError for anything that the caller can mend.
    """
    options.check()
    graph = _place_of_graph(options, warn)
    images = list_images(
        options.image_dir,
        testing=options.testing_percentage,
        validation=options.validation_percentage,
        split_by=options.split_by,
        warn=warn,
    )
    asked = options.tfhub_module or options.architecture
    backbone, line = find_architecture(asked, options.model_dir, cache_dir)
    warn(line)
    representation = Representation((backbone,), views=options.views())
    with Workspace(cache_dir, hardware, seed=options.seed, progress=progress) as workspace:
        photos = _codes(options, images, representation, workspace, say, warn)
    trained = _Training(options, images, photos, representation, hardware)
    classifier = trained.run(say, graph)
    accuracy, n_tested = trained.test(say)
    _write(options, classifier, images, graph)
    return Retrained(classifier, accuracy, n_tested, graph, Path(options.output_labels))


def _place_of_graph(options: RetrainOptions, warn: Callable[[str], None]) -> Path:
    """Where the graph goes: TensorFlow's format needs TensorFlow, and without it an ONNX file lies beside."""
    has_tensorflow = importlib.util.find_spec("tensorflow") is not None
    if options.saved_model_dir and not has_tensorflow:
        raise MissingExtra("--saved_model_dir", "tensorflow")
    graph = Path(options.output_graph)
    if graph.suffix == ".onnx" or has_tensorflow:
        return graph
    instead = graph.with_suffix(".onnx")
    warn(
        f"TensorFlow is not installed, so {instead} will be written instead of {graph}; label_image takes it. For a frozen "
        "graph: pip install 'headstart[tensorflow]'"
    )
    return instead


@dataclass(frozen=True)
class _Photos:
    """The photos that can be read. codes: (n, v, d) float32, the photo itself first; rows: their places in the list."""

    codes: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    splits: np.ndarray


def _codes(
    options: RetrainOptions,
    images: ImageList,
    representation: Representation,
    workspace: Workspace,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> _Photos:
    """Compute the codes, read or write bottleneck files, and leave out what cannot be read."""
    with workspace.stage("codes"):
        codes = workspace.represent(list(images.paths), representation)
    for i, failure in codes.failures.items():
        warn(f"left out: {images.paths[i]}: {failure.reason}")
    values = codes.values.astype(np.float32)
    values = values.reshape(len(values), -1, values.shape[-1])
    name = representation.backbones[0].name
    if options.bottleneck_dir is not None:
        every = np.zeros((len(images.paths), values.shape[-1]), np.float32)
        every[codes.index] = values[:, 0]
        if n := bottlenecks.read_all(options.bottleneck_dir, images, codes.index.tolist(), name, every):
            warn(f"{counted(n, 'bottleneck file')} of {options.bottleneck_dir} were read")
            values[:, 0] = every[codes.index]
        for line in _write_bottlenecks(options.bottleneck_dir, images, codes.index, name, values[:, 0]):
            say(line)
    else:
        for n in range(EVERY_BOTTLENECK, len(values) + 1, EVERY_BOTTLENECK):
            say(f"{n} bottleneck files created.")
    of_image, splits = np.array(images.of_image, np.int64)[codes.index], np.array(images.splits, np.int8)[codes.index]
    return _Photos(values, codes.index, of_image, splits)


def _write_bottlenecks(folder: str, images: ImageList, rows: np.ndarray, name: str, codes: np.ndarray) -> Iterator[str]:
    for n, (i, row) in enumerate(zip(rows.tolist(), codes, strict=True), start=1):
        file = bottlenecks.path_of(folder, images, i, name)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            bottlenecks.write_bottleneck(file, row)
        if n % EVERY_BOTTLENECK == 0:
            yield f"{n} bottleneck files created."


class _Training:
    """The last layer, learnt step by step."""

    def __init__(
        self,
        options: RetrainOptions,
        images: ImageList,
        photos: _Photos,
        representation: Representation,
        hardware: Hardware,
    ) -> None:
        self.options, self.images, self.photos = options, images, photos
        self.representation, self.hardware = representation, hardware
        n, n_views, width = photos.codes.shape
        self.n_classes = len(images.labels)
        self.labels = np.repeat(photos.labels, n_views)
        splits = np.repeat(photos.splits, n_views)
        splits[np.arange(len(splits)) % n_views > 0] = TRAIN  # a view is only ever learnt from,
        splits[np.repeat(photos.splits != TRAIN, n_views) & (np.arange(len(splits)) % n_views > 0)] = -1  # of train's photos
        self.splits = splits
        self.data = Standardised(photos.codes.reshape(n * n_views, width))
        self.step: Step | None = None

    def run(self, say: Callable[[str], None], graph: Path) -> Classifier:
        """Take the steps, measure now and then, and give the classifier."""
        options, every = self.options, self.options.how_many_training_steps
        summaries = Summaries(options.summaries_dir)
        random = np.random.Generator(np.random.PCG64(options.seed + 1))
        validation = Batches(self._of_class(VALIDATION), options.validation_batch_size)
        batches = Batches(self._of_class(TRAIN), options.train_batch_size)
        steps = learn(
            self.data, self.labels, self.n_classes, batches, steps=every, rate=options.learning_rate, seed=options.seed
        )
        for step in steps:
            self.step = step
            if step.number % options.eval_step_interval == 0 or step.number + 1 == every:
                self._measure(step, validation.draw(random), say, summaries)
            stored = options.intermediate_store_frequency
            if stored and step.number % stored == 0 and step.number:
                place = Path(options.intermediate_output_graphs_dir) / f"intermediate_{step.number}{graph.suffix}"
                place.parent.mkdir(parents=True, exist_ok=True)
                say(f"Save intermediate result to : {place}")
                write_graph(self.classifier(), place, options.final_tensor_name)
        summaries.write()
        return self.classifier()

    def _of_class(self, split: int) -> list[np.ndarray]:
        """The rows of a split, of each class."""
        return [np.flatnonzero((self.labels == i) & (self.splits == split)) for i in range(self.n_classes)]

    def _measure(self, step: Step, validation: np.ndarray, say: Callable[[str], None], summaries: Summaries) -> None:
        accuracy, cross_entropy = judge(self.data, self.labels, step, step.batch)
        say(f"{_now()}: Step {step.number}: Train accuracy = {accuracy * 100:.1f}%")
        say(f"{_now()}: Step {step.number}: Cross entropy = {cross_entropy:f}")
        summaries.add("train", step.number, accuracy, cross_entropy, step.weight, step.bias)
        if len(validation):
            accuracy, cross_entropy = judge(self.data, self.labels, step, validation)
            say(f"{_now()}: Step {step.number}: Validation accuracy = {accuracy * 100:.1f}% (N={len(validation)})")
            summaries.add("validation", step.number, accuracy, cross_entropy, step.weight, step.bias)

    def classifier(self) -> Classifier:
        """The layer as it is by now, with its backbone."""
        assert self.step is not None
        head = Head((self.data.unscaled(self.step.weight, self.step.bias),), self.data.widths)
        plain = Representation(self.representation.backbones)
        about = {"head": {"kind": "softmax", "learnt_by": "retrain"}}
        return Classifier.build(plain, head, self.images.labels, about, self.hardware)

    def test(self, say: Callable[[str], None]) -> tuple[float | None, int]:
        """Say the final accuracy; gives it and the number of photos."""
        assert self.step is not None
        random = np.random.Generator(np.random.PCG64(self.options.seed + 2))
        rows = Batches(self._of_class(TEST), self.options.test_batch_size).draw(random)
        if not len(rows):
            say("No photo is in the test split, so there is no final test accuracy.")
            return None, 0
        told = (self.data.rows[rows] @ self.step.weight + self.step.bias).argmax(axis=1)
        accuracy = float((told == self.labels[rows]).mean())
        say(f"Final test accuracy = {accuracy * 100:.1f}% (N={len(rows)})")
        if self.options.print_misclassified_test_images:
            say("=== MISCLASSIFIED TEST IMAGES ===")
            n_views = self.photos.codes.shape[1]
            for row, label in zip(rows.tolist(), told.tolist(), strict=True):
                if label != self.labels[row]:
                    path = self.images.paths[self.photos.rows[row // n_views]]
                    say(f"{path:>70}  {self.images.labels[label]}")
        return accuracy, len(rows)


def _now() -> str:
    return datetime.now().isoformat(" ", "microseconds")


def _write(options: RetrainOptions, classifier: Classifier, images: ImageList, graph: Path) -> None:
    """Write the graph, the labels and, where asked, a SavedModel."""
    labels = Path(options.output_labels)
    for path in (graph, labels):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HeadstartError(f"{path.parent} cannot be made: {error.strerror}; name another place") from error
    write_graph(classifier, graph, options.final_tensor_name)
    write_output(labels, labels_text(images.labels))
    if options.saved_model_dir:
        write_saved_model(classifier, Path(options.saved_model_dir))


def labels_text(labels: Sequence[str]) -> str:
    """The labels file: one a line, with a final newline."""
    return "\n".join(labels) + "\n"

"""Writes docs/architecture.md from the first sentences of all docstrings: `python docs/architecture.py`."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent / "src" / "headstart"
# A package imports only those that stand before it; tests/house/test_imports.py holds it.
ORDER = tuple(
    """errors wording progress versions files cache_folder safety record numerics data engines backbones codes heads
    evaluation selection trust classifier finetune checks runs report training export share compat cli""".split()
)
INTRODUCTION = """\
# Architecture

headstart turns a folder of photos into a classifier. A folder of `src/headstart/` is a stage of that pipeline, and a file
is one idea of its stage. This page is written by `python docs/architecture.py` from the docstrings; do not edit it.

    photos ---> data ---> backbones, engines ---> codes ---> heads ---> selection ---> trust ---> classifier ---> model.onnx
                 |                                  |                       |                          |
                 |   decoding, labels, splits       |                  evaluation                    runs ---> run.json
                 |                                  |                  measures it                     |
                 +------------> checks <------------+                                               report ---> report.html
                                  |
                               issues: duplicates, wrong labels, bad images

    training: the recipes, which call all of these in order        cli: the commands, which call the recipes and print

## Words

One word for each idea, in the code, on the command line, in files and in documents.

| word | meaning | not |
|---|---|---|
| image | a decoded RGB picture | sample, img, input |
| label, classes | the answer for an image; the ordered names of all possible answers | target, category, tag |
| split | train, validation or test; a *fold* is a part in cross-validation only | subset |
| copies, group | photos that are the same photo, byte for byte or nearly; a group shares a split and a fold | cluster |
| backbone | the pretrained network that turns an image into codes | encoder, base model |
| codes | the (n, d) outputs of the backbone | features, embeddings, bottlenecks |
| view | one augmented version of an image (`original`, `mirrored`, ...) | variant |
| representation | how images become codes: backbones, pixels, layers, views | look |
| head | what is learnt on codes | probe, top |
| effort | how much `train` computes and tries: a row of `EFFORTS` | budget |
| member | one of the heads that are averaged, on some of the layers | ensemble |
| ladder, rung | what `train` tries beside the first candidate, each on held-out images | search, trial |
| classifier | backbone, preprocessing, head and classes in one `model.onnx` | model, predictor |
| run | one training, and its folder with `model.onnx`, `run.json` and the report | experiment, job |
| findings | what a run knows about each photo, in `findings.npz` | results |
| issue | something that was found in the data: a duplicate, a label error, an outlier, a leak | problem, anomaly |
| unfamiliar | looks like nothing in the training images | OOD, unknown class |

## Where a new thing goes

[Contributing](../CONTRIBUTING.md#add-a-variant) shows the change for each of the first five.

| new | goes to |
|---|---|
| backbone in a Python package | a row of `BACKBONES` in `backbones/builtin` |
| name that a tutorial uses | a row of the table in `backbones/tutorial_names` |
| head | a row of `HEADS` in `heads/kinds`, and its fitter in a file beside it |
| view (augmentation) | a row of `VIEWS` in `data/views` |
| issue kind | a row of `KINDS` in `checks/kinds`, and its finder in a file beside it |
| plot | a row of `PLOTS` in `report/plots/table` |
| image format | a row of `FORMATS` in `data/formats` |
| ONNX operation on GPUs | a row of the table in `engines/torch_operations` |
| sentence of the report | `report/sentences/`, in the file of its subject |
| key of `run.json` | its type in `record`, which the reader checks, and where `training/steps/write_run` fills it in |
| format to write predictions in | `classifier/writers` |
| export format of classifiers | a row of `FORMATS` in `export/formats`, and a file in `export/writers` |
| command | `cli/`, and its page in `docs/commands/` |

## What may import what

A package imports only those before it in this order, and no two modules import each other:

{order}

`tests/house/test_imports.py` checks it for every form of import, and that these stay in their places:

| only here | what |
|---|---|
| `cli` | `print`, `sys.exit`, the environment, `argparse`, rich |
| `engines` | OpenVINO |
| `engines/torch_*`, `backbones/torch_modules`, `finetune` | torch |
| `backbones/tensorflow_files/worker` | TensorFlow, in a process of its own |
| `codes` | sqlite3 |
| `report` | HTML |
| `report/plots` | matplotlib |

Files that are not Python: the `web/` folder of `report/` has the scripts and styles of the pages, and
`classifier/imagenet_classes.txt` the 1,000 names of ImageNet's classes.
"""


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring, in one line, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"\.(?= [A-Z`(]|$)", paragraph)[0]


def modules_of(folder: Path) -> list[str]:
    """A line for each module of a folder."""
    paths = sorted(p for p in folder.glob("*.py") if p.stem != "__init__")
    return [f"- `{path.stem}`: {first_sentence(path)}" for path in paths]


def section(name: str) -> list[str]:
    """The part of the page about one package, or about one module of the top folder."""
    path = SOURCES / name
    if not path.is_dir():
        return []
    lines = ["", f"## {name}/", "", f"{first_sentence(path / '__init__.py')}.", "", *modules_of(path)]
    for inner in sorted(p.parent for p in path.glob("*/__init__.py")):
        lines += ["", f"### {name}/{inner.name}/", "", f"{first_sentence(inner / '__init__.py')}.", "", *modules_of(inner)]
    return lines


def page() -> str:
    """The whole page."""
    ground = [f"- `{name}`: {first_sentence(SOURCES / f'{name}.py')}" for name in ORDER if (SOURCES / f"{name}.py").exists()]
    order = textwrap.fill(" < ".join(ORDER), 120, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    lines = [INTRODUCTION.replace("{order}", order), "## The ground", "", "Modules that any other may import.", "", *ground]
    for name in ORDER:
        lines += section(name)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (HERE / "architecture.md").write_text(page())

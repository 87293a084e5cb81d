"""The walls of the house: which package may import which, and what stays in its place."""

import ast
import importlib
import importlib.util
import pkgutil
import re
from functools import cache
from pathlib import Path

import headstart

SOURCES = Path(headstart.__file__).parent
ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("architecture", ROOT / "docs" / "architecture.py")
architecture = importlib.util.module_from_spec(spec)
spec.loader.exec_module(architecture)
ORDER = architecture.ORDER
# What is still larger than it should be; the list only shrinks.
LARGE: set[str] = set()
LONG: set[str] = set()
MANY: set[str] = set()
# Libraries that only some files may import, however they do it.
ONLY = {
    "openvino": ("engines/",),
    "sqlite3": ("codes/",),
    "torch": ("engines/torch_", "backbones/torch_modules", "finetune/", "backbones/find", "training/finetuning"),
    "torchvision": ("backbones/torch_modules", "finetune/"),
    "timm": ("backbones/torch_modules",),
    "tensorflow": (
        "backbones/tensorflow_files/worker",
        "backbones/tensorflow_files/open_networks",
        "export/writers/tensorflow_worker",
        "compat/graph_worker",
    ),
    "tf2onnx": ("backbones/tensorflow_files/worker",),
    "keras": ("backbones/tensorflow_files/open_networks",),
    "huggingface_hub": ("backbones/huggingface/",),
    "coremltools": ("engines/torch_coreml",),
    "mlflow": ("share/mlflow_tracking",),
    "matplotlib": ("report/plots/",),
    "rich": ("cli/",),
    "argparse": ("cli/",),
}
FILES = sorted(SOURCES.rglob("*.py"))
MODULES = {
    ".".join(("headstart", *path.relative_to(SOURCES).with_suffix("").parts)).removesuffix(".__init__") for path in FILES
}

NAMED = MODULES - {"headstart"}


def name_of(path):
    return path.relative_to(SOURCES).as_posix()


def package_of(module):
    """errors of headstart.errors, data of headstart.data.images."""
    return module.split(".")[1] if "." in module else ""


@cache
def nodes_of(path):
    """Every node of a file's syntax tree; parsed once for all tests."""
    return tuple(ast.walk(ast.parse(path.read_text("utf-8"))))


@cache
def imports_of(path, *, with_strings=True):
    """Every module that a file imports, in whatever form: the statements, importlib's function, and `python -m`."""
    return frozenset(_imports_of(path, with_strings))


def _imports_of(path, with_strings):
    module = ".".join(("headstart", *path.relative_to(SOURCES).with_suffix("").parts))
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join((*module.split(".")[: -node.level], *filter(None, [base])))
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in MODULES else home_of(alias.name) if base == "headstart" else base
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant))
        elif with_strings and isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in NAMED:
            yield node.value  # a module's name in a string: python -m


def home_of(name):
    """The module of one of our public names, which `from headstart import NAME` imports."""
    return f"headstart.{headstart._HOMES[name]}" if name in headstart._HOMES else "headstart"


def test_the_order_names_every_package():
    there = {p.stem for p in SOURCES.iterdir() if p.suffix == ".py"} | {p.parent.name for p in SOURCES.glob("*/__init__.py")}
    assert {*ORDER} == there - {"__init__", "__main__"}


def test_a_package_imports_only_what_stands_before_it():
    wrong = []
    for path in FILES:
        own = path.relative_to(SOURCES).with_suffix("").parts[0]
        if own in ORDER:
            imported = {package_of(name) for name in imports_of(path) if name.split(".")[0] == "headstart"} - {own, ""}
            later = [name for name in sorted(imported) if ORDER.index(name) > ORDER.index(own)]
            wrong += [f"{name_of(path)} imports {name}, which stands after {own} in docs/architecture.py" for name in later]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other():
    graph = {}
    for path in FILES:
        module = ".".join(("headstart", *path.relative_to(SOURCES).with_suffix("").parts)).removesuffix(".__init__")
        graph[module] = {name for name in imports_of(path, with_strings=False) if name in MODULES}
        graph[module] -= {module, "headstart"}
    while leaves := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph


def test_libraries_stay_in_their_places():
    wrong = []
    for path in FILES:
        imported = {module.split(".")[0] for module in imports_of(path)} & ONLY.keys()
        wrong += [
            f"{name_of(path)} imports {library}, which only {', '.join(ONLY[library])} may"
            for library in sorted(imported)
            if not name_of(path).startswith(ONLY[library])
        ]
    assert not wrong, "\n".join(wrong)


ENVIRONMENT = {  # beside the command line, what may print, exit or read the environment
    "cache_folder.py": {"os.environ"},  # HEADSTART_CACHE
    "finetune/processes.py": {"os.environ"},  # what torchrun says
    "finetune/device.py": {"os.environ"},
    "backbones/tensorflow_files/import_file.py": {"os.environ"},  # handed to the worker
    "export/writers/tensorflow_formats.py": {"os.environ"},  # the same
    "compat/graph_file.py": {"os.environ"},  # handed to the worker
    "share/mlflow_tracking.py": {"os.environ"},  # MLflow's telemetry is switched off by its environment alone
    "backbones/tensorflow_files/worker.py": {"sys.exit", "print", "os.environ"},  # a program of its own
}


def test_only_the_command_line_prints_exits_and_reads_the_environment():
    wrong = []
    for path in FILES:
        name, nodes = name_of(path), nodes_of(path)
        if not name.startswith("cli/") and name != "__main__.py":
            called = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
            named = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
            uses = {"print", "sys.exit", "exit", "input", "os._exit"} & called | {"os.environ", "os.getenv"} & named
            wrong += [f"{name} uses {use}" for use in sorted(uses - ENVIRONMENT.get(name, set()))]
    assert not wrong, "\n".join(wrong)


def test_html_stands_in_the_report_alone():
    wrong = []
    for path in FILES:
        if not name_of(path).startswith("report/"):
            texts = [n.value for n in nodes_of(path) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            if tag := re.search(r"</?(html|div|script|span|table|body)\b", "\n".join(texts)):
                wrong.append(f"{name_of(path)} holds HTML: {tag[0]}")
    assert not wrong, "\n".join(wrong)


def test_a_package_is_its_docstring():
    for path in SOURCES.glob("*/**/__init__.py"):
        assert len(ast.parse(path.read_text()).body) == 1, path


def test_no_package_hides_a_public_name():
    assert not {p.name for p in SOURCES.iterdir()} & {*headstart.__all__}
    assert {*headstart.__all__} == {*headstart._HOMES}


def test_folders_and_files_are_small():
    """At most a dozen modules a folder, 350 lines a module, 60 lines a function's body, 8 parameters.

    The folder of commands has one for each, however many there are.
    """
    for folder in {p.parent for p in FILES if p.parent != SOURCES}:
        entries = {p.name for p in folder.iterdir()} - {"__init__.py", "__pycache__"}
        assert len(entries) <= 12 or folder.name == "commands", (folder, sorted(entries))
    long = {name_of(p): n for p in FILES if (n := len(p.read_text().splitlines())) > 350}
    assert long.keys() == LARGE
    for path in FILES:
        public = {
            "train",
            "evaluate_run",
            "check_photos",
            "export_run",
            *(["__init__"] if path.stem == "estimator" else []),
        }  # the doors
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                assert lines <= 60 or node.name in LONG, (path, node.name, lines)
                parameters = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                n = len([p for p in parameters if p not in ("self", "cls")])
                assert n <= 8 or node.name in public | MANY, (path, node.name, n)


def test_every_module_can_be_imported_by_itself():
    for module in pkgutil.walk_packages([str(SOURCES)], "headstart."):
        if module.name != "headstart.__main__":
            assert importlib.import_module(module.name).__doc__


def test_the_architecture_page_is_what_the_docstrings_say():
    assert (ROOT / "docs" / "architecture.md").read_text() == architecture.page(), "run: python docs/architecture.py"

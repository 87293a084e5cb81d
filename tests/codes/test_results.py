"""Results of earlier runs: the same input gives the same result without computing it, and anything else computes it anew."""

import os
import time

import numpy as np
import pytest

from headstart.codes import results as module
from headstart.codes.results import Results


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "cache")


class Computed:
    """Counts how often it is asked to compute."""

    def __init__(self, value):
        self.value, self.n = value, 0

    def __call__(self):
        self.n += 1
        return self.value


INPUTS = [np.arange(6, dtype=np.float16).reshape(2, 3), [b"ab", b"c"], 3, "text", None, (0.1, True), b"bytes"]


def test_the_same_input_is_computed_once(results, tmp_path):
    compute = Computed({"a": np.arange(3), "b": np.ones((2, 2), np.float32)})
    first = results.arrays("name", INPUTS, compute)
    again = Results(tmp_path / "cache").arrays("name", [*map(lambda x: x, INPUTS)], compute)
    assert compute.n == 1
    for name, array in compute.value.items():
        assert (first[name] == array).all() and (again[name] == array).all() and again[name].dtype == array.dtype


@pytest.mark.parametrize(
    "change",
    [
        (0, INPUTS[0] + 1),
        (0, INPUTS[0].astype(np.float32)),
        (0, INPUTS[0].reshape(3, 2)),
        (1, [b"a", b"bc"]),
        (2, 4),
        (3, "texts"),
        (4, 0),
        (5, (0.1, False)),
        (6, b"byte"),
    ],
)
def test_anything_that_differs_is_computed_anew(results, change):
    compute = Computed({"a": np.arange(3)})
    results.arrays("name", INPUTS, compute)
    inputs = list(INPUTS)
    inputs[change[0]] = change[1]
    results.arrays("name", inputs, compute)
    results.arrays("other name", INPUTS, compute)
    assert compute.n == 3


def test_another_state_of_the_code_computes_anew(results, monkeypatch):
    compute = Computed({"a": np.arange(3)})
    results.arrays("name", INPUTS, compute)
    monkeypatch.setattr(module, "_code_state", lambda: "changed")
    results.arrays("name", INPUTS, compute)
    assert compute.n == 2


@pytest.mark.parametrize("value", [None, [], {"a": [0.1, None, "x"], "b": float("nan")}])
def test_records_come_back_as_they_were(results, value):
    compute = Computed(value)
    first, again = (results.record("name", INPUTS, compute) for _ in range(2))
    assert repr(first) == repr(again) == repr(value) and compute.n == 1


@pytest.mark.parametrize("damage", [b"", b"PK", b"not a zip file at all"])
def test_a_damaged_file_is_computed_anew_and_mended(results, tmp_path, damage):
    compute = Computed({"a": np.arange(3)})
    results.arrays("name", INPUTS, compute)
    (path,) = (tmp_path / "cache" / "results").iterdir()
    path.write_bytes(damage)
    assert (results.arrays("name", INPUTS, compute)["a"] == np.arange(3)).all() and compute.n == 2
    results.arrays("name", INPUTS, compute)
    assert compute.n == 2


def test_a_pickle_in_the_cache_is_never_loaded(results, tmp_path):
    compute = Computed({"a": np.arange(3)})
    results.arrays("name", INPUTS, compute)
    (path,) = (tmp_path / "cache" / "results").iterdir()
    np.savez(path, a=np.array([print], object))
    assert (results.arrays("name", INPUTS, compute)["a"] == np.arange(3)).all() and compute.n == 2


def test_without_a_cache_folder_everything_is_computed(tmp_path):
    (tmp_path / "file").write_text("")
    compute = Computed({"a": np.arange(3)})
    for _ in range(2):
        Results(tmp_path / "file").arrays("name", INPUTS, compute)
    assert compute.n == 2


def test_the_oldest_go_first(results, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_FILES", 3)
    for i in range(5):
        results.arrays("name", [i], Computed({"a": np.arange(i)}))
        for path in (tmp_path / "cache" / "results").iterdir():
            os.utime(path, (time.time() - 100, path.stat().st_mtime - 10))
    compute = Computed({"a": np.arange(9)})
    results.arrays("name", [4], compute)
    assert compute.n == 0 and len(list((tmp_path / "cache" / "results").iterdir())) == 3


def test_what_no_run_has_used_is_pruned(results, tmp_path):
    results.arrays("name", [1], Computed({"a": np.arange(3)}))
    (path,) = (tmp_path / "cache" / "results").iterdir()
    assert results.prune(90) == 0
    os.utime(path, (1, 1))
    assert results.prune(90) == 1 and not list((tmp_path / "cache" / "results").iterdir())

"""The map: photos that look alike to the backbone lie close together, on one picture or one page.

Takes codes along their first axes; gives a position for each photo (t-SNE, van der Maaten & Hinton 2008), and draws them.
It decides how far a photo's neighbourhood reaches and how long the map is worked at. New photos are put on it without
moving it.
"""

from __future__ import annotations

import base64
import html
import importlib.resources
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from headstart.engine import available_cores
from headstart.findings import Findings
from headstart.head import unit_rows
from headstart.labels import are_many
from headstart.splits import SPLITS
from headstart.sprites import make_sprites, square

ROWS_FOR_AXES = 10_000  # more do not turn the first axes by anything that a map would show
EXTRA_AXES, PASSES = 10, 4
BLOCK = 2_048  # rows of codes at a time
FEWEST = 10  # photos that have neighbourhoods; with fewer, the first two axes are the map
PERPLEXITY = 30.0  # about how many neighbours each photo looks at
NEW_PERPLEXITY = 5.0  # openTSNE's own choice for points that come later
NEIGHBOURS_BLOCK = 256  # rows of distances at a time: 60 MB with 60,000 photos
START = 1e-4  # standard deviation of where photos start (Kobak & Berens 2019)
SLICE = 50  # rounds between two reports of progress
MANY = 10_000  # photos; with more, the grid is faster than the tree to the end
SIDE, SMALL_SIDE, MANY_PICTURES, MOST_PICTURES = 64, 32, 5_000, 60_000  # pixels of a picture on the page; how many
# As in web/map.js: Okabe & Ito 2008 without black, yellow darkened, then three of Tol's.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#999933", "#332288", "#44aa99", "#882255")
LIGHTNESS = (0, 0.45, -0.35, 0.65, -0.55)
GREY, INK, SOFT = "#8d96a1", "#1c2430", "#5b6675"
LONGEST = 18  # characters of a class in the legend
HEAD, LEGEND, MARGIN, LINE, PICTURE, SCALE = 80, 240, 24, 24, 40, 2  # pixels of the PNG, which is drawn SCALE times as large


@dataclass(frozen=True)
class Stage:
    """Rounds of moving every photo, with attraction multiplied by `exaggeration`; by a grid of `cell` or, None, a tree."""

    rounds: int
    exaggeration: float
    cell: float | None


# Seconds of a core / KL divergence / share of the ten nearest neighbours kept (benchmarks/map.py), of CIFAR-10's images:
# 3,670: openTSNE's own 250 + 500 rounds 5.7 / 2.30 / 0.37, these 1.3 / 2.31 / 0.37, and 0.8 s to import openTSNE.
# 60,000: these 16.7 / 4.15 / 0.25; with 100 + 50 + 125 rounds 11.0 / 4.32 / 0.21.
FEW_STAGES = (Stage(100, 12, 2.0), Stage(50, 4, 2.0), Stage(100, 1, None))
MANY_STAGES = (Stage(125, 12, 2.0), Stage(75, 4, 2.0), Stage(200, 1, 1.5))


def principal_axes(
    codes: np.ndarray, *, parts: Sequence[int] = (), n_axes: int = 50, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the axes that codes differ most along: space (n, e) float32, mean (d,) and axes (d, e) float32.

    codes: (n, d) of any float type; each of their parts (all as one, by default) is brought to length 1. e is n_axes, or
    fewer where there are fewer codes or photos. The axes are those of at most 10,000 photos, drawn by the seed, by
    randomised subspace iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4); an axis that nothing differs along is 0.
    """
    n, d = codes.shape
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(n, min(n, ROWS_FOR_AXES), replace=False))
    rows = _unit(codes[drawn], parts)
    rows -= rows.mean(axis=0) if n else 0
    basis = rng.normal(size=(d, min(n_axes + EXTRA_AXES, n, d))).astype(np.float32)
    for _ in range(PASSES):
        basis = np.linalg.qr(rows.T @ (rows @ basis))[0]
    lengths, turns = np.linalg.svd(rows @ basis, full_matrices=False)[1:]
    axes = (basis @ turns.T)[:, :n_axes]
    axes[:, lengths[:n_axes] <= 1e-6 * np.sqrt(max(1, n))] = 0
    axes *= np.where(axes.sum(axis=0) < 0, np.float32(-1), np.float32(1))  # the same way round on every machine
    space, mean = np.empty((n, axes.shape[1]), np.float32), np.zeros(d)
    for start in range(0, n, BLOCK):
        block = _unit(codes[start : start + BLOCK], parts)
        mean += block.sum(axis=0, dtype=np.float64) / n
        space[start : start + BLOCK] = block @ axes
    space -= (mean @ axes).astype(np.float32)
    return space, mean.astype(np.float32), axes


def along_axes(codes: np.ndarray, mean: np.ndarray, axes: np.ndarray, *, parts: Sequence[int] = ()) -> np.ndarray:
    """Bring codes of other photos, (m, d), into the space of principal_axes: (m, e) float32."""
    blocks = [(_unit(codes[i : i + BLOCK], parts) - mean) @ axes for i in range(0, len(codes), BLOCK)]
    return np.concatenate(blocks) if blocks else np.empty((0, axes.shape[1]), np.float32)


def _unit(codes: np.ndarray, parts: Sequence[int]) -> np.ndarray:
    return unit_rows(codes.astype(np.float32), parts or (codes.shape[1],))


def place(
    space: np.ndarray,
    *,
    seed: int = 0,
    threads: int | None = None,
    stages: Sequence[Stage] | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> np.ndarray:
    """Give each photo a position on the map: (n, e) codes along their first axes to (n, 2) float32.

    t-SNE that starts from the first two axes; the same for the same seed.
    """
    space = np.ascontiguousarray(space, np.float32)
    if len(space) < FEWEST:
        return _first_two(space)
    optimiser = _optimiser()
    stages = stages or (FEW_STAGES if len(space) < MANY else MANY_STAGES)
    n_threads = threads or available_cores()
    perplexity = min(PERPLEXITY, (len(space) - 1) / 3)
    nearest, distances = nearest_neighbours(space, space, int(3 * perplexity), threads=n_threads, is_same=True)
    # One thread moves them: with 60,000 photos two spent 25.5 s of cores' time where one spends 18, and on a busy machine
    # took twice as long, for they wait for each other at every round. So the map is the same on any number of them.
    affinities = optimiser.affinity.PrecomputedAffinities(
        optimiser.affinity.joint_probabilities_nn(nearest, distances, [perplexity]), normalize=False
    )
    embedding = optimiser.TSNEEmbedding(_start(space, seed), affinities, n_jobs=1)
    _optimise(embedding, stages, progress)
    return np.asarray(embedding, np.float32)


def place_on(space_new: np.ndarray, space: np.ndarray, positions: np.ndarray, *, threads: int | None = None) -> np.ndarray:
    """Put new photos on an old map, which stays as it is: (m, e) and (n, e) codes and (n, 2) positions to (m, 2) float32.

    Each goes where its old neighbours are, and is then moved to where it fits best among them (Poličar, Stražar & Zupan
    2021); new photos do not see each other. Old photos without a position (NaN) are not asked.
    """
    is_placed = np.isfinite(positions).all(axis=1)
    old, reference = np.ascontiguousarray(space[is_placed], np.float32), positions[is_placed].astype(np.float64)
    if not len(old) or not len(space_new):
        return np.zeros((len(space_new), 2), np.float32)
    new, n_threads = np.ascontiguousarray(space_new, np.float32), threads or available_cores()
    k = min(len(old), int(3 * NEW_PERPLEXITY))
    nearest, distances = nearest_neighbours(new, old, k, threads=n_threads)
    if len(old) < FEWEST:
        closeness = 1 / (distances + 1e-3)
        weights = closeness / closeness.sum(axis=1, keepdims=True)
        return np.einsum("ik,ikj->ij", weights, reference[nearest]).astype(np.float32)
    optimiser = _optimiser()
    perplexity = min(NEW_PERPLEXITY, k / 3)
    affinities = optimiser.affinity.joint_probabilities_nn(
        nearest, distances, [perplexity], symmetrize=False, normalization="point-wise", n_reference_samples=len(old)
    )
    nobody = optimiser.affinity.PrecomputedAffinities(_no_affinities(len(old)), normalize=False)
    map_as_it_is = optimiser.TSNEEmbedding(reference, nobody)
    # The nearest third: the median of all would put a photo between two groups that it has a foot in.
    start = np.median(reference[nearest[:, : -(-k // 3)]], axis=1)
    embedding = optimiser.PartialTSNEEmbedding(start, map_as_it_is, affinities, negative_gradient_method="bh", n_jobs=1)
    embedding.optimize(100, learning_rate=0.1, exaggeration=1.5, momentum=0.8, max_grad_norm=0.25, inplace=True)
    return np.asarray(embedding, np.float32)


def nearest_neighbours(
    rows: np.ndarray, among: np.ndarray, k: int, *, threads: int, is_same: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest of `among` to each row, nearest first: (n, k) int32 positions and (n, k) float64 distances.

    Exact, and faster than asking trees: 60,000 rows of 50 take 17 s of a core, where 50 of Annoy's trees find 96 % in 36 s.
    is_same: the rows are `among`, and none is its own neighbour.
    """
    from threadpoolctl import threadpool_limits

    half = np.einsum("ij,ij->i", among, among) / 2
    nearest, distances = np.empty((len(rows), k), np.int32), np.empty((len(rows), k))

    def search(start: int) -> None:
        some = rows[start : start + NEIGHBOURS_BLOCK]
        far = half - some @ among.T
        each = np.arange(len(some))
        if is_same:
            far[each, start + each] = np.inf
        # Values are partitioned several times as fast as positions are.
        kth = np.partition(far, k - 1, axis=1)[:, k - 1, None]
        row, column = np.nonzero(far <= kth)
        found = column[np.searchsorted(row, each)[:, None] + np.arange(k)]
        exact = np.sqrt(((some[:, None] - among[found]) ** 2).sum(axis=2))
        order = np.argsort(exact, axis=1, kind="stable")
        nearest[start : start + len(some)] = np.take_along_axis(found, order, axis=1)
        distances[start : start + len(some)] = np.take_along_axis(exact, order, axis=1)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        list(pool.map(search, range(0, len(rows), NEIGHBOURS_BLOCK)))
    return nearest, distances


def _optimiser() -> Any:
    """openTSNE, imported where it is needed: that takes 0.7 s."""
    import openTSNE
    import openTSNE.affinity

    return openTSNE


def _no_affinities(n: int) -> Any:
    import scipy.sparse

    return scipy.sparse.csr_matrix((n, n))


def _first_two(space: np.ndarray) -> np.ndarray:
    """The first two axes, or as many as there are; the rest 0."""
    positions = np.zeros((len(space), 2), np.float32)
    positions[:, : min(2, space.shape[1])] = space[:, :2]
    return positions


def _start(space: np.ndarray, seed: int) -> np.ndarray:
    """The first two axes, made small, and never two photos on one spot: what is there is pulled apart by nothing."""
    first = _first_two(space).astype(np.float64)
    spread = first[:, 0].std()
    noise = np.random.default_rng(seed).normal(0, START, first.shape)
    return first * (START / spread) + noise / 100 if spread > 1e-9 else noise


def _optimise(embedding: Any, stages: Sequence[Stage], progress: Callable[[str, int, int], None]) -> None:
    done, in_all = 0, sum(stage.rounds for stage in stages)
    for stage in stages:
        method: dict[str, Any] = {"negative_gradient_method": "bh", "theta": 0.8}
        if stage.cell:
            method = {"negative_gradient_method": "fft", "min_num_intervals": 20, "ints_in_interval": stage.cell}
        for start in range(0, stage.rounds, SLICE):
            rounds = min(SLICE, stage.rounds - start)
            embedding.optimize(rounds, exaggeration=stage.exaggeration, momentum=0.8, inplace=True, **method)
            progress("map", done := done + rounds, in_all)


@dataclass(frozen=True)
class NewPhotos:
    """Photos that came after the training, m of them, put on its map: positions (m, 2); predictions (m,) int64, -1 for none;
    probabilities (m,) float32 of those; pictures: small JPEG files, None where there is none."""

    names: tuple[str, ...]
    positions: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray
    pictures: tuple[bytes | None, ...]


NO_NEW_PHOTOS = NewPhotos((), np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0), ())


def map_data(
    about: dict[str, Any],
    findings: Findings,
    *,
    pictures: Sequence[bytes | None],
    issues: Iterable[dict[str, Any]] = (),
    new: NewPhotos = NO_NEW_PHOTOS,
    originals: str | None = None,
) -> dict[str, Any]:
    """Gather what headstartMap of web/map.js draws, ready for JSON.

    pictures: one for each name in findings, small JPEG files. issues: as in issues.json. originals: what stands before a
    name in its photo's address; None takes file:// where names are whole paths, and shows small pictures alone elsewhere.
    """
    names, m = (*findings.names, *new.names), len(new.names)
    root = _root(names)
    predictions, probabilities = _predictions(about, findings)
    labels = _lists(findings.labels) if are_many(findings.labels) else findings.labels.tolist()
    is_correct = [-1 if p in (-1, None) else int(p == label) for label, p in zip(labels, predictions, strict=True)]
    kind_of = {path: issue["kind"] for issue in reversed(list(issues)) for path in _paths(issue)}
    kinds = sorted(set(kind_of.values()))
    kept = [*pictures, *new.pictures][:MOST_PICTURES]
    is_whole = bool(names) and all(PurePosixPath(n).is_absolute() or PureWindowsPath(n).is_absolute() for n in names)
    return {
        "x": _packed(np.concatenate([findings.positions[:, 0], new.positions[:, 0]]), "f32"),
        "y": _packed(np.concatenate([findings.positions[:, 1], new.positions[:, 1]]), "f32"),
        "root": root,
        "names": [name[len(root) :] for name in names],
        "classes": list(about["classes"]),
        "label": _answers([*labels, *[-1] * m]),
        "prediction": _answers([*predictions, *new.predictions.tolist()]),
        "probability": _packed(np.concatenate([probabilities, new.probabilities]), "f32"),
        "split": _packed(np.concatenate([findings.splits, np.full(m, -1)]), "i8"),
        "isCorrect": _packed(np.array(is_correct + [-1] * m), "i8"),
        "issue": {**_packed(np.array([kinds.index(kind_of[n]) if n in kind_of else -1 for n in names]), "i8"), "of": kinds},
        "isNew": _packed(np.arange(len(names)) >= len(findings.names), "u8"),
        "sprites": _sprites(kept) if any(kept) else None,
        "originals": originals if originals is not None else "file://" if is_whole else None,
    }


def map_page(
    about: dict[str, Any],
    findings: Findings,
    *,
    pictures: Sequence[bytes | None],
    issues: Iterable[dict[str, Any]] = (),
    new: NewPhotos = NO_NEW_PHOTOS,
    originals: str | None = None,
) -> str:
    """Draw the map as one HTML page that needs nothing else: see map_data for what it takes."""
    data = map_data(about, findings, pictures=pictures, issues=issues, new=new, originals=originals)
    web = importlib.resources.files("headstart") / "web"
    values = {
        "style": (web / "map.css").read_text("utf-8"),
        "script": (web / "map.js").read_text("utf-8"),
        "title": _escaped(_title(about)),
        "about": _escaped(_sentence(about, findings, new)),
        # In a script element nothing but "</script" and "<!--" means anything to HTML.
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    }
    template = (web / "map.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def _packed(values: np.ndarray, kind: str) -> dict[str, Any]:
    dtype = {"f32": "<f4", "i8": "<i1", "u8": "<u1", "i16": "<i2"}[kind]
    return {kind: base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode("ascii")}


def _answers(answers: list[Any]) -> Any:
    """Positions of classes as numbers, or as lists where images have several labels."""
    return answers if any(isinstance(a, list) for a in answers) else _packed(np.array(answers), "i16")


def _lists(applies: np.ndarray) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in applies]


def _predictions(about: dict[str, Any], findings: Findings) -> tuple[list[Any], np.ndarray]:
    """What was predicted of each photo, -1 (or None) where it was not held out, and the probability of it, or -1."""
    judged, n = findings.judged(about.get("thresholds")), len(findings.names)
    probabilities = np.full(n, -1.0)
    if are_many(findings.labels):
        lists: list[Any] = [None] * n
        for row, found in zip(findings.held_out.tolist(), _lists(judged.predictions), strict=True):
            lists[row] = found
        return lists, probabilities
    predictions = np.full(n, -1, np.int64)
    predictions[findings.held_out] = judged.predictions
    probabilities[findings.held_out] = judged.sureness
    return predictions.tolist(), probabilities


def _paths(issue: dict[str, Any]) -> Iterator[str]:
    yield from (path for path in (issue.get("path"), *(issue.get("paths") or ())) if path is not None)


def _root(names: Sequence[str]) -> str:
    """The folders that all names begin with: they are written once."""
    if not names:
        return ""
    first, last = min(names), max(names)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first.rfind("/", 0, same) + 1]


def _sprites(pictures: Sequence[bytes | None]) -> dict[str, Any]:
    made = make_sprites(pictures, SIDE if len(pictures) <= MANY_PICTURES else SMALL_SIDE)
    sheets = [f"data:image/jpeg;base64,{base64.b64encode(sheet).decode('ascii')}" for sheet in made.sheets]
    return {"side": made.side, "columns": made.columns, "perSheet": made.per_sheet, "sheets": sheets}


def _title(about: dict[str, Any]) -> str:
    photos = str(about.get("photos") or "")
    return re.split(r"[\\/]", photos.rstrip("\\/"))[-1] or photos or "photos"


def _escaped(text: str) -> str:
    return html.escape(text).replace("\0", "")


def _sentence(about: dict[str, Any], findings: Findings, new: NewPhotos) -> str:
    n, n_placed = len(findings.names), int(np.isfinite(findings.positions).all(axis=1).sum())
    splits = ", ".join(f"{(findings.splits == i).sum():,} {name}" for i, name in enumerate(SPLITS))
    parts = [f"{n:,} photo{'s' * (n != 1)} ({splits}), {len(about['classes']):,} classes."]
    if new.names:
        parts.append(f"{len(new.names):,} new, as diamonds.")
    if n_placed < n:
        parts.append(f"{n - n_placed:,} are not on the map.")
    if n + len(new.names) > MOST_PICTURES:
        parts.append(f"The first {MOST_PICTURES:,} have pictures; with more, browsers would not open the page.")
    return " ".join(parts)


def map_picture(
    about: dict[str, Any],
    findings: Findings,
    *,
    pictures: Sequence[bytes | None] = (),
    new: NewPhotos = NO_NEW_PHOTOS,
    size: tuple[int, int] = (1_400, 1_000),
) -> bytes:
    """Draw the map as a PNG of `size` pixels: a dot of its label's colour for each photo, a black diamond for each new one.

    pictures: where given, one small JPEG file for each photo, or None; as many as find room are drawn instead of dots.
    """
    from PIL import Image, ImageDraw

    classes = about["classes"]
    first = findings.labels if not are_many(findings.labels) else _first_labels(findings.labels)
    paints = np.array([*colours(len(classes)), GREY])
    image = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), "white")
    draw, room = ImageDraw.Draw(image), (size[0] - LEGEND, size[1] - HEAD)
    both = np.concatenate([findings.positions, new.positions]).astype(np.float64)
    at = (_fitted(both, room, MARGIN + PICTURE // 2) + (0, HEAD)) * SCALE
    radius = SCALE * float(np.clip(90 / np.sqrt(max(1, len(both))), 1.2, 5.0))
    # In a drawn order: class by class, the last one would lie on top of all others.
    has_picture = [p is not None for p in pictures] or [False] * len(findings.names)
    for i in np.random.default_rng(0).permutation(len(findings.names)).tolist():
        if np.isfinite(at[i]).all() and not has_picture[i]:
            _dot(draw, at[i], radius, paints[first[i]])
    if any(pictures):
        _draw_pictures(image, at, pictures, paints[first])
    for x, y in at[len(findings.names) :]:
        if np.isfinite(x + y):
            r = 1.6 * radius + SCALE
            draw.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], fill="black", outline="white")
    counts = np.bincount(first, minlength=len(classes) + 1)
    listed = _listed(counts, size)
    for row, i in enumerate(listed):
        _dot(draw, np.array([size[0] - LEGEND + 22, HEAD + 20 + row * LINE]) * SCALE, 6 * SCALE, paints[i])
    image = image.resize(size, Image.Resampling.LANCZOS)
    _draw_words(ImageDraw.Draw(image), about, findings, new, counts, listed, size)
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def colours(n: int) -> list[str]:
    """The colours of n classes, `#rrggbb`, as in web/map.js: ten that are told apart in colour blindness, then lighter and
    darker ones."""
    result = []
    for i in range(n):
        shift = LIGHTNESS[i // len(PALETTE) % len(LIGHTNESS)]
        rgb = [int(PALETTE[i % len(PALETTE)][c : c + 2], 16) for c in (1, 3, 5)]
        goal = 255 if shift > 0 else 0
        result.append("#" + "".join(f"{int(part + (goal - part) * abs(shift) + 0.5):02x}" for part in rgb))
    return result


def _first_labels(applies: np.ndarray) -> np.ndarray:
    """The first label of each image, or the number of classes where it has none."""
    return np.where(applies.any(axis=1), applies.argmax(axis=1), applies.shape[1])


def _fitted(positions: np.ndarray, room: tuple[int, int], margin: int) -> np.ndarray:
    """Positions in pixels: as large as the room allows, in its middle, y downwards."""
    finite = positions[np.isfinite(positions).all(axis=1)]
    if not len(finite):
        return positions
    low, high = finite.min(axis=0), finite.max(axis=0)
    inner = np.array(room) - 2 * margin
    scale = (inner / np.maximum(high - low, 1e-9)).min() if (high > low).any() else 1.0
    return (positions - (low + high) / 2) * (scale, -scale) + np.array(room) / 2


def _dot(draw: Any, at: np.ndarray, radius: float, colour: str) -> None:
    draw.ellipse([at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius], fill=colour)


def _draw_pictures(image: Any, at: np.ndarray, pictures: Sequence[bytes | None], paints: np.ndarray) -> None:
    from PIL import Image

    taken, side, edge = set(), PICTURE * SCALE, 2 * SCALE
    for (x, y), picture, colour in zip(at[: len(pictures)], pictures, paints, strict=True):
        if picture is None or not np.isfinite(x + y):
            continue
        place_taken = int(x // (side + 2 * edge)), int(y // (side + 2 * edge))
        if place_taken not in taken:
            taken.add(place_taken)
            left, top = (int(p * (side + 2 * edge)) + edge for p in place_taken)
            image.paste(colour, (left - edge // 2, top - edge // 2, left + side + edge // 2, top + side + edge // 2))
            image.paste(Image.fromarray(square(picture, side)), (left, top))


def _listed(counts: np.ndarray, size: tuple[int, int]) -> list[int]:
    """The classes that the legend has room for, the largest ones, in their order."""
    n_rows = min((size[1] - HEAD) // LINE - 2, int((counts > 0).sum()))
    return sorted(np.argsort(-counts, kind="stable")[:n_rows].tolist())


def _draw_words(
    draw: Any,
    about: dict[str, Any],
    findings: Findings,
    new: NewPhotos,
    counts: np.ndarray,
    listed: Sequence[int],
    size: tuple[int, int],
) -> None:
    from PIL import ImageFont

    large, small = ImageFont.load_default(26), ImageFont.load_default(16)
    draw.text((MARGIN, 14), _printable(_title(about)), INK, large)
    draw.text((MARGIN, 48), _printable(_sentence(about, findings, new)), SOFT, small)
    names, left, top = [*about["classes"], "no label"], size[0] - LEGEND + 38, HEAD + 10
    for row, i in enumerate(listed):
        name = _printable(names[i])
        name = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
        draw.text((left, top + row * LINE), f"{name}  {counts[i]:,}", INK, small)
    if (rest := int((counts > 0).sum()) - len(listed)) > 0:
        draw.text((left, top + len(listed) * LINE), f"and {rest:,} more classes", SOFT, small)


def _printable(text: str) -> str:
    """Bytes of a name that are no UTF-8 cannot be drawn, and a line's end would begin another line."""
    return "".join(c if c.isprintable() else "?" for c in text)

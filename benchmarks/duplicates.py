"""Near duplicates: how many copies of real photos are found, and how many pairs of photos that are not copies.

    python benchmarks/duplicates.py [FOLDER or TABLE ...] [--limit 5000] [--copied 200] [--pictures FOLDER]

Every set in ../shared/data by default. Of each, up to `--limit` photos are compared, and up to `--copied` of them are copied
in each of the ways of CHANGES, one way at a time: a column gives the share of the copies that were found beside their photo.
`others` are pairs of a copy and a photo that it is not a copy of, `pairs` those among the photos themselves: real photos do
hold near duplicates, so look at them. `--pictures` writes them as FOLDER/SET.jpg. `blurred` is the share of photos below the
sharpness of 0.09, sharp ones and the same blurred (Gaussian, sigma 1 % of the longer side).
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np

from headstart.cache_folder import default_cache_dir
from headstart.checks.duplicates import Pair, near_duplicates
from headstart.codes.image_stats import compute_image_stats
from headstart.codes.representation import represent
from headstart.codes.store import Store
from headstart.data.datasets import load_dataset
from headstart.data.decoding import Failure, decode, read_bytes
from headstart.data.tables import ImageRef, TableImage
from representations import default_representation

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SETS = [DATA / name for name in ("flowers", "alpaca", "ants_bees", "star_clusters", "cifar10")]
BLURRED = 0.09
SIDE = 120  # pixels of a photo in --pictures


def jpeg(pixels: np.ndarray, quality: int = 90) -> bytes:
    """As other programs save it."""
    return cv2.imencode(".jpg", np.ascontiguousarray(pixels[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def scaled(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Smaller."""
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def cropped(pixels: np.ndarray, share: float) -> np.ndarray:
    """Without a share of its height and width, in a corner that is drawn from its content."""
    rng = np.random.default_rng(int(pixels.sum()))
    lost = np.round(np.array(pixels.shape[:2]) * share).astype(int)
    top, left = rng.integers(0, lost + 1)
    return pixels[top : pixels.shape[0] - lost[0] + top, left : pixels.shape[1] - lost[1] + left]


def brighter(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Or darker."""
    return np.clip(pixels * factor, 0, 255).astype(np.uint8)


def with_text(pixels: np.ndarray) -> np.ndarray:
    """A line at the bottom left."""
    unit = pixels.shape[0] / 400
    at = (round(20 * unit), round(380 * unit))
    return cv2.putText(
        pixels.copy(), "(c) photo.example", at, cv2.FONT_HERSHEY_SIMPLEX, unit, (255,) * 3, max(1, round(2 * unit))
    )


CHANGES: dict[str, Callable[[np.ndarray], bytes]] = {
    "q30": lambda p: jpeg(p, 30),
    "q70": lambda p: jpeg(p, 70),
    "x0.5": lambda p: jpeg(scaled(p, 0.5)),
    "x0.8": lambda p: jpeg(scaled(p, 0.8)),
    "crop5": lambda p: jpeg(cropped(p, 0.05)),
    "crop10": lambda p: jpeg(cropped(p, 0.10)),
    "-20%": lambda p: jpeg(brighter(p, 0.8)),
    "+20%": lambda p: jpeg(brighter(p, 1.2)),
    "mirror": lambda p: jpeg(p[:, ::-1]),
    "text": lambda p: jpeg(with_text(p)),
    "all": lambda p: jpeg(brighter(scaled(cropped(p, 0.05), 0.7), 1.1)[:, ::-1], 50),
}


def content_of(image: ImageRef) -> bytes | Failure:
    """The bytes of a file or a table's row."""
    return image.read() if isinstance(image, TableImage) else read_bytes(image)


def grid(pairs: Sequence[Pair], contents: Sequence[bytes], columns: int = 5) -> np.ndarray:
    """The photos of each pair beside each other, with how alike they are."""
    tiles = []
    for pair in [*pairs] + [None] * (-len(pairs) % columns):
        tile = np.zeros((SIDE, 2 * SIDE + 8, 3), np.uint8)
        for i, position in enumerate(pair[:2] if pair else ()):
            tile[:, i * SIDE : (i + 1) * SIDE] = cv2.resize(decode(contents[position]), (SIDE, SIDE))
        if pair:
            cv2.putText(tile, f"{pair.similarity:.2f}", (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 0, 0), 1)
        tiles.append(tile)
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])


def measure(path: Path, limit: int, n_copied: int, pictures: Path | None) -> dict[str, str]:
    """One row of the table."""
    images, rng = load_dataset(path).images, np.random.default_rng(0)
    chosen = np.sort(rng.permutation(len(images))[:limit])
    originals = [content for i in chosen if isinstance(content := content_of(images[i]), bytes)]
    n, cache = len(originals), default_cache_dir()
    representation = default_representation(cache, originals)
    copied = np.sort(rng.permutation(n)[:n_copied]).tolist()
    pixels = [decode(originals[i]) for i in copied]
    contents = originals + [change(p) for change in CHANGES.values() for p in pixels]
    digests = [sha256(content).digest() for content in contents]
    with Store(default_cache_dir()) as store:
        codes = represent(contents, replace(representation, n_layers=1), store).values

    def pairs_among(which: Sequence[int]) -> list[Pair]:
        chosen_digests = [digests[i] for i in which]
        image_stats = compute_image_stats([contents[i] for i in which], chosen_digests, None)
        cpu = time.process_time()
        found = near_duplicates(codes[which], image_stats, chosen_digests)
        seconds.append(time.process_time() - cpu)
        return found

    seconds: list[float] = []
    alike = pairs_among(range(n))
    row = {"set": path.name, "photos": str(n), "cpu s": f"{seconds[0]:.2f}", "pairs": str(len(alike))}
    related = {frozenset(pair[:2]) for pair in alike}
    n_others = 0
    for i, name in enumerate(CHANGES):
        pairs = [
            p for p in pairs_among([*range(n), *range(n + i * len(copied), n + (i + 1) * len(copied))]) if p.second >= n
        ]
        source = [(p.first if p.first < n else copied[p.first - n], copied[p.second - n]) for p in pairs]
        row[name] = f"{sum(a == b for a, b in source) / len(copied):.3f}"
        n_others += sum(a != b and frozenset((a, b)) not in related for a, b in source)
    blurred = [jpeg(cv2.GaussianBlur(p, (0, 0), max(p.shape) / 100)) for p in pixels]
    shares = [
        np.mean(compute_image_stats(photos, [sha256(c).digest() for c in photos], None).sharpness < BLURRED)
        for photos in ([originals[i] for i in copied], blurred)
    ]
    if pictures and alike:
        pictures.mkdir(parents=True, exist_ok=True)
        (pictures / f"{path.name}.jpg").write_bytes(jpeg(grid(alike, contents)))
    return {**row, "others": str(n_others), "blurred": " ".join(f"{share:.2f}" for share in shares)}


def main() -> None:
    """Print a row for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", type=Path, default=SETS)
    parser.add_argument("--limit", type=int, default=5000)
    parser.add_argument("--copied", type=int, default=200)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    for i, path in enumerate(options.sets):
        row = measure(path, options.limit, options.copied, options.pictures)
        if i == 0:
            print("  ".join(f"{name:>7}" for name in row))
        print("  ".join(f"{value[:13]:>{max(7, len(name))}}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()

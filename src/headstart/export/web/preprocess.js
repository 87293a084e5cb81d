// Preprocessing: cuts the central square out of an image and resizes it, with the arithmetic that the classifier learnt with.
//
// The browser's own resizing is another in every browser, and moves probabilities by 0.1 and more. This is OpenCV's, on 8 bits.

const CUBIC = -0.75; // its a
const ONE = 2048; // a weight of 1, where weights are whole numbers
const LEAST = 1e-3; // of a pixel, which it leaves out

/** Where the central square lies, in whole pixels. */
export function squareOf(width, height, crop) {
  const side = Math.max(1, roundHalfEven(Math.min(width, height) * crop));
  return { side, left: Math.floor((width - side) / 2), top: Math.floor((height - side) / 2) };
}

/**
 * Cut the central square of (height, width) RGBA pixels and resize it; gives size * size * 3 bytes, RGB.
 *
 * @param {Uint8ClampedArray} rgba
 * @param {{size: number, crop?: number, resample?: string}} preprocess
 */
export function cropAndResize(rgba, width, height, { size, crop = 0.875, resample = "area" }) {
  const { side, left, top } = squareOf(width, height, crop);
  const isSmaller = side > size;
  if (side === size) return copied(rgba, width, left, top, size);
  if (resample === "area" && isSmaller) {
    const rounded = side === 2 * size ? (sum) => Math.floor(sum + 0.5) : roundHalfEven;
    return resized(rgba, width, left, top, size, areaTaps(side, size), rounded);
  }
  if (resample === "bilinear") return resizedLinearly(rgba, width, left, top, side, size);
  return resized(rgba, width, left, top, size, cubicTaps(side, size), roundHalfEven);
}

function copied(rgba, width, left, top, size) {
  const pixels = new Uint8Array(size * size * 3);
  for (let y = 0, at = 0; y < size; y++) {
    for (let x = 0, from = 4 * ((top + y) * width + left); x < size; x++, from += 4) {
      pixels[at++] = rgba[from];
      pixels[at++] = rgba[from + 1];
      pixels[at++] = rgba[from + 2];
    }
  }
  return pixels;
}

/** For each pixel of the result: which of the square's it is made of, from `first` on, and how much each counts. */
function areaTaps(side, size) {
  const scale = side / size;
  return Array.from({ length: size }, (_, i) => {
    const start = i * scale;
    const end = start + scale;
    const width = Math.min(scale, side - start);
    const last = Math.min(Math.floor(end), side - 1);
    const next = Math.min(Math.ceil(start), last);
    const weights = [];
    let first = next;
    if (next - start > LEAST) {
      first = next - 1;
      weights.push((next - start) / width);
    }
    for (let j = next; j < last; j++) weights.push(1 / width);
    if (end - last > LEAST) weights.push(Math.min(end - last, 1, width) / width);
    return { places: weights.map((_, j) => first + j), weights };
  });
}

function cubicTaps(side, size) {
  return Array.from({ length: size }, (_, i) => {
    const { first, x } = nearest(side, size, i);
    const far = ((CUBIC * (x + 1) - 5 * CUBIC) * (x + 1) + 8 * CUBIC) * (x + 1) - 4 * CUBIC;
    const near = [x, 1 - x].map((t) => ((CUBIC + 2) * t - (CUBIC + 3)) * t * t + 1);
    return clipped(first - 1, [far, ...near, 1 - far - near[0] - near[1]], side);
  });
}

/** Linearly between the nearest pixels, in whole numbers: weights are 2,048ths, as OpenCV has them for 8 bits. */
function resizedLinearly(rgba, width, left, top, side, size) {
  const taps = Array.from({ length: size }, (_, i) => {
    const { first, x } = nearest(side, size, i);
    const { places } = clipped(first, [1 - x, x], side);
    return { places, weights: [1 - x, x].map((weight) => roundHalfEven(Math.fround(weight * ONE))) };
  });
  const along = (row) => {
    const sums = new Int32Array(size * 3);
    const start = 4 * ((top + row) * width + left);
    for (let x = 0, at = 0; x < size; x++) {
      const { places, weights } = taps[x];
      const [from, to] = places.map((place) => start + 4 * place);
      for (let c = 0; c < 3; c++) sums[at++] = weights[0] * rgba[from + c] + weights[1] * rgba[to + c];
    }
    return sums;
  };
  const pixels = new Uint8Array(size * size * 3);
  const rows = new Map();
  for (let y = 0, at = 0; y < size; y++) {
    const { places, weights } = taps[y];
    for (const place of rows.keys()) if (place < places[0]) rows.delete(place);
    for (const place of places) if (!rows.has(place)) rows.set(place, along(place));
    const [above, below] = places.map((place) => rows.get(place));
    for (let i = 0; i < above.length; i++) {
      pixels[at++] = (((weights[0] * (above[i] >> 4)) >> 16) + ((weights[1] * (below[i] >> 4)) >> 16) + 2) >> 2;
    }
  }
  return pixels;
}

/** The pixel left of a new one's centre, and how far right of that it is; in 32 bits, as OpenCV has it. */
function nearest(side, size, i) {
  const at = Math.fround((i + 0.5) * (side / size) - 0.5);
  const first = Math.floor(at);
  return { first, x: Math.fround(at - first) };
}

/** Those beyond an edge count for it. */
function clipped(first, weights, side) {
  return {
    places: weights.map((_, j) => Math.min(Math.max(first + j, 0), side - 1)),
    weights,
  };
}

/** Weight the columns of each row that is needed, then the rows; in 32 bits, in OpenCV's order, so that ties round as there. */
function resized(rgba, width, left, top, size, taps, rounded) {
  const rows = new Map(); // of the square, each weighted along its columns
  const pixels = new Uint8Array(size * size * 3);
  const sums = new Float32Array(size * 3);
  for (let y = 0; y < size; y++) {
    const { places, weights } = taps[y];
    sums.fill(0);
    for (let j = 0; j < places.length; j++) {
      let row = rows.get(places[j]);
      if (row === undefined) {
        row = alongColumns(rgba, 4 * ((top + places[j]) * width + left), size, taps);
        rows.set(places[j], row);
      }
      const weight = Math.fround(weights[j]);
      for (let i = 0; i < sums.length; i++) sums[i] += Math.fround(weight * row[i]);
    }
    for (const place of rows.keys()) if (place < places[0]) rows.delete(place);
    for (let i = 0, at = y * size * 3; i < sums.length; i++) pixels[at++] = Math.min(255, Math.max(0, rounded(sums[i])));
  }
  return pixels;
}

function alongColumns(rgba, start, size, taps) {
  const row = new Float32Array(size * 3);
  for (let x = 0, at = 0; x < size; x++, at += 3) {
    const { places, weights } = taps[x];
    for (let j = 0; j < places.length; j++) {
      const from = start + 4 * places[j];
      const weight = Math.fround(weights[j]);
      row[at] += Math.fround(weight * rgba[from]);
      row[at + 1] += Math.fround(weight * rgba[from + 1]);
      row[at + 2] += Math.fround(weight * rgba[from + 2]);
    }
  }
  return row;
}

function roundHalfEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 ? below + 1 : below;
}

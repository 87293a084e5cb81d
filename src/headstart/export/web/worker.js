// The worker: loads the network, decodes images, and runs one after the other.

import * as ort from "./ort/ort.wasm.min.mjs";
import { cropAndResize, squareOf } from "./preprocess.js";

const LARGEST_SIDE = 16_384; // pixels of a canvas that browsers have

let session;
let about;
let queue = Promise.resolve();

self.onmessage = ({ data }) => {
  queue = queue.then(() => answer(data));
};

async function answer({ id, kind, ...rest }) {
  try {
    self.postMessage({ id, answer: kind === "load" ? await load(rest) : await predict(rest.image) });
  } catch (error) {
    self.postMessage({ id, error: error?.message ?? String(error) });
  }
}

async function load({ base, threads }) {
  about = await (await fetched(new URL("classifier.json", base))).json();
  const files = [new URL(about.file, base), new URL("ort/ort-wasm-simd-threaded.wasm", base)];
  const loaded = [0, 0];
  const totals = [about.bytes.model, about.bytes.wasm];
  const [model, wasm] = await Promise.all(
    files.map((file, i) =>
      streamed(file, (bytes) => {
        loaded[i] = Math.min(bytes, totals[i]);
        self.postMessage({ progress: (loaded[0] + loaded[1]) / (totals[0] + totals[1]) });
      }),
    ),
  );
  ort.env.wasm.wasmPaths = new URL("ort/", base).href;
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
  return about;
}

async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname.split("/").pop()} could not be loaded (${response.status})`);
  return response;
}

async function streamed(url, note) {
  const response = await fetched(url);
  const chunks = [];
  let bytes = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    note((bytes += value.length));
  }
  return new Blob(chunks).arrayBuffer();
}

async function predict(image) {
  const started = performance.now();
  const pixels = await pixelsOf(image);
  const { size } = about.preprocess;
  const outputs = await session.run({ image: new ort.Tensor("uint8", pixels, [1, size, size, 3]) });
  return {
    probabilities: Array.from(outputs.probabilities.data),
    unfamiliarity: outputs.unfamiliarity ? outputs.unfamiliarity.data[0] : null,
    milliseconds: performance.now() - started,
  };
}

/** Decode without colour conversion, which the classifier has not learnt with, upright, transparency on white. */
async function pixelsOf(image) {
  let bitmap = image;
  if (image instanceof Blob) {
    try {
      bitmap = await createImageBitmap(image, { colorSpaceConversion: "none", imageOrientation: "from-image" });
    } catch {
      throw new Error("it cannot be read as a picture");
    }
  }
  const { width, height } = bitmap;
  const { side, left, top } = squareOf(width, height, about.preprocess.crop);
  if (side > LARGEST_SIDE) throw new Error(`it has ${width} x ${height} pixels, more than a browser can show`);
  const context = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, side, side);
  context.drawImage(bitmap, left, top, side, side, 0, 0, side, side);
  bitmap.close();
  return cropAndResize(context.getImageData(0, 0, side, side).data, side, side, { ...about.preprocess, crop: 1 });
}

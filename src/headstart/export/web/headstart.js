// headstart in the browser: `const classifier = await load("./"); await classifier.predict(blob)`.

const MOST_THREADS = 4;

/**
 * Load the classifier of a folder that `headstart export --format web` made.
 *
 * @param {string | URL} folder its address, with a slash at the end
 * @param {{onProgress?: (share: number) => void, threads?: number}} options threads: more than one needs a host that isolates
 *   the page (the headers Cross-Origin-Opener-Policy and Cross-Origin-Embedder-Policy)
 * @returns {Promise<Classifier>}
 */
export async function load(folder = "./", { onProgress = () => {}, threads } = {}) {
  const base = new URL(folder, document.baseURI).href;
  const most = globalThis.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;
  const worker = new Worker(new URL("worker.js", base), { type: "module" });
  const calls = new Map();
  worker.onmessage = ({ data }) => {
    if (data.progress !== undefined) return onProgress(data.progress);
    const { resolve, reject } = calls.get(data.id);
    calls.delete(data.id);
    if (data.error === undefined) resolve(data.answer);
    else reject(new Error(data.error));
  };
  worker.onerror = (event) => {
    for (const { reject } of calls.values()) reject(new Error(event.message || "the classifier could not be started"));
    calls.clear();
  };
  let id = 0;
  const ask = (message, transfer = []) =>
    new Promise((resolve, reject) => {
      calls.set(++id, { resolve, reject });
      worker.postMessage({ id, ...message }, transfer);
    });
  try {
    return new Classifier(await ask({ kind: "load", base, threads: Math.min(threads ?? most, most) }), ask, worker);
  } catch (error) {
    worker.terminate();
    throw error;
  }
}

/** A classifier that is loaded. about: what classifier.json says. */
export class Classifier {
  #ask;
  #worker;

  constructor(about, ask, worker) {
    this.about = about;
    this.classes = about.classes;
    this.#ask = ask;
    this.#worker = worker;
  }

  /**
   * Label one image: a Blob or File of any picture that the browser reads, or an ImageBitmap, video, canvas or image element.
   * Rejects with an Error for what is no picture.
   */
  async predict(image) {
    const isFile = image instanceof Blob;
    const source = isFile ? image : await createImageBitmap(image, { colorSpaceConversion: "none" });
    const answer = await this.#ask({ kind: "predict", image: source }, isFile ? [] : [source]);
    const { probabilities, unfamiliarity, milliseconds } = answer;
    const top = this.classes
      .map((label, i) => ({ label, probability: probabilities[i] }))
      .sort((a, b) => b.probability - a.probability);
    const thresholds = this.about.thresholds ?? this.classes.map(() => 0.5);
    return {
      prediction: top[0].label,
      probability: top[0].probability,
      labels: this.about.labels === "many" ? this.classes.filter((_, i) => probabilities[i] >= thresholds[i]) : [top[0].label],
      top,
      unfamiliarity,
      unfamiliar: unfamiliarity === null ? null : unfamiliarity > 1,
      milliseconds,
    };
  }

  /** End the worker. */
  close() {
    this.#worker.terminate();
  }
}

/** What classifier.json says of a classifier. */
export interface About {
  name: string;
  classes: string[];
  labels?: "one" | "many";
  thresholds?: number[];
  preprocess: { size: number; crop?: number; resample?: "area" | "bilinear" | "bicubic" };
  has_unfamiliarity: boolean;
  sha256: string;
}

export interface Answer {
  /** The likeliest label, and its probability. */
  prediction: string;
  probability: number;
  /** The labels that apply: one, or with several labels a picture any number. */
  labels: string[];
  /** All labels, the likeliest first. */
  top: { label: string; probability: number }[];
  /** Above 1, the picture looks like nothing that was learnt; null where the classifier does not tell. */
  unfamiliarity: number | null;
  unfamiliar: boolean | null;
  /** From the file to the answer. */
  milliseconds: number;
}

export class Classifier {
  readonly about: About;
  readonly classes: string[];
  predict(image: Blob | ImageBitmapSource): Promise<Answer>;
  close(): void;
}

export function load(
  folder?: string | URL,
  options?: { onProgress?: (share: number) => void; threads?: number },
): Promise<Classifier>;

/** Run the exported model with LiteRT.js. */

import {
  loadAndCompile,
  Tensor,
  type CompiledModel,
  type SignatureRunner,
  type TypedArray,
} from '@litertjs/core';

const SLICE_SIGNATURE = 'serve_slice';
const DEFAULT_SIGNATURE = 'serving_default';
const SCAN_SIGNATURE = 'serve_padded_scan';

export interface SliceOutput {
  probability: number;
  cam: Float32Array | null;
  features: Float32Array | null;
  subtypes: Float32Array | null;
}

export interface ScanOutput {
  probability: number;
  slices: Float32Array;
}

/** A compiled model: it predicts slices one by one, and scans of at most `maxSlices`. */
export class Runner {
  private readonly slice: SignatureRunner;
  private readonly scan: SignatureRunner | null;
  private readonly takesBytes: boolean;
  private readonly size: number;
  readonly maxSlices: number;

  private constructor(private readonly model: CompiledModel) {
    const { signatures } = model;
    this.slice = signatures[SLICE_SIGNATURE] ?? signatures[DEFAULT_SIGNATURE];
    this.scan = signatures[SCAN_SIGNATURE] ?? null;
    const [image] = this.slice.getInputDetails();
    this.takesBytes = image.dtype === 'uint8';
    this.size = image.shape[1];
    const mask = this.scan?.getInputDetails().find((one) => one.name === 'mask');
    this.maxSlices = mask ? mask.shape[1] : 0;
  }

  static async load(bytes: Uint8Array, threads: number): Promise<Runner> {
    const cpuOptions = { numThreads: threads };
    return new Runner(await loadAndCompile(bytes, { accelerator: 'wasm', cpuOptions }));
  }

  get hasScanModel(): boolean {
    return this.scan !== null;
  }

  /** Return the names of the outputs for a slice. */
  get outputs(): string[] {
    return this.slice.getOutputDetails().map((one) => one.name);
  }

  async runSlice(image: Float32Array): Promise<SliceOutput> {
    const values = this.takesBytes
      ? Uint8Array.from(image, (one) => Math.min(Math.max(roundToEven(one), 0), 255))
      : image;
    const outputs = await call(this.slice, { image: [values, [1, this.size, this.size, 3]] });
    return {
      probability: outputs.probability[0],
      cam: outputs.cam ?? null,
      features: outputs.features ?? null,
      subtypes: outputs.subtypes ?? null,
    };
  }

  /** Run the scan model on the features `(n, width)` and the geometry `(n, 3)` of a scan. */
  async runScan(features: Float32Array[], geometry: Float32Array): Promise<ScanOutput> {
    const [count, width, length] = [features.length, features[0].length, this.maxSlices];
    const padded = new Float32Array(length * width);
    features.forEach((one, i) => padded.set(one, i * width));
    const places = new Float32Array(length * 3);
    places.set(geometry);
    const outputs = await call(this.scan!, {
      features: [padded, [1, length, width]],
      geometry: [places, [1, length, 3]],
      mask: [new Float32Array(length).fill(1, 0, count), [1, length]],
    });
    return {
      probability: outputs.probability[0],
      slices: outputs.slice_probability.slice(0, count),
    };
  }

  delete(): void {
    this.model.delete();
  }
}

/** Round like `numpy.rint`: halves go to the even number. */
function roundToEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

async function call(
  signature: SignatureRunner,
  inputs: Record<string, [Float32Array | Uint8Array, number[]]>,
): Promise<Record<string, Float32Array>> {
  const tensors: Record<string, Tensor> = {};
  let outputs: Record<string, Tensor> = {};
  try {
    for (const [name, [values, shape]] of Object.entries(inputs)) {
      tensors[name] = Tensor.fromTypedArray(values as TypedArray, shape);
    }
    outputs = await signature.run(tensors);
    const results: Record<string, Float32Array> = {};
    for (const [name, tensor] of Object.entries(outputs)) {
      results[name] = Float32Array.from(await tensor.data()); // the tensor's own memory is freed
    }
    return results;
  } finally {
    for (const tensor of [...Object.values(tensors), ...Object.values(outputs)]) tensor.delete();
  }
}

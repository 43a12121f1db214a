/** The worker: it reads, decodes and predicts, so that the page stays responsive. */

import { loadLiteRt, supportsFeature } from '@litertjs/core';
import { setBinaries } from './imaging/codecs';
import { findHead } from './imaging/headCrop';
import { resize } from './imaging/resize';
import { dropEqualChannels, isHounsfield, SliceError, type Slice } from './imaging/slice';
import { applyWindow, DEFAULT_WINDOW, parseWindow } from './imaging/windows';
import { listSlices, type Listing } from './listing/listing';
import { forgetVolume, readSlice } from './listing/reading';
import { evidenceOf, evidenceOnSlice } from './model/evidence';
import { parseDescription, type ModelDescription } from './model/metadata';
import { predictListing } from './model/predictor';
import { Runner } from './model/runner';
import type { NamedFile } from './listing/files';
import type { Reply, Request, Thumbnail } from './protocol';

const THUMBNAIL = 96; // pixels of the longer side
const MAX_THREADS = 8;

const scope = self as unknown as DedicatedWorkerGlobalScope & { Module?: object };

let runner: Runner;
let description: ModelDescription;
let listing: Listing | null = null;
let cams: (Float32Array | null)[] = [];
let currentJob = 0;
let queue: Promise<void> = Promise.resolve();

function reply(message: Reply, transfer: Transferable[] = []): void {
  scope.postMessage(message, transfer);
}

scope.addEventListener('message', ({ data }: MessageEvent<Request>) => {
  if (data.type === 'start') void start(data.base);
  if (data.type === 'predict') {
    currentJob = data.job; // a job before it ends at its next slice
    queue = queue.then(() => predict(data.job, data.files));
  }
  if (data.type === 'view') void view(data);
});

async function start(base: string): Promise<void> {
  try {
    setBinaries(async (name) => fetchBytes(`${base}wasm/${name}`));
    const [model, threads] = await Promise.all([
      fetchBytes(`${base}model/model.tflite`),
      startRuntime(`${base}wasm/`),
    ]);
    const raw = new TextDecoder().decode(await fetchBytes(`${base}model/model.json`));
    description = parseDescription(JSON.parse(raw));
    runner = await Runner.load(new Uint8Array(model), threads);
    reply({ type: 'ready', description, threads, hasCam: runner.outputs.includes('cam') });
  } catch (error) {
    reply({ type: 'failed', message: describe(error) });
  }
}

/** Load the runtime, with threads where the browser allows them; return how many. */
async function startRuntime(folder: string): Promise<number> {
  const cores = Math.min(navigator.hardwareConcurrency || 1, MAX_THREADS);
  const canUseThreads =
    scope.crossOriginIsolated &&
    cores > 1 &&
    (await supportsFeature('relaxedSimd')) &&
    (await supportsFeature('threads'));
  // The worker's own address is that of a blob, so the runtime must be told where its files are.
  scope.Module = {
    locateFile: (name: string) => folder + name,
    mainScriptUrlOrBlob: `${folder}litert_wasm_threaded_internal.js`,
  };
  await loadLiteRt(folder, { threads: canUseThreads });
  return canUseThreads ? cores : 1;
}

async function fetchBytes(address: string): Promise<ArrayBuffer> {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

async function predict(job: number, files: NamedFile[]): Promise<void> {
  if (job !== currentJob) return;
  const start = performance.now();
  forgetVolume();
  listing = null;
  cams = [];
  try {
    const found = await listSlices(files, (done, count) =>
      reply({ type: 'progress', job, stage: 'headers', done, count }),
    );
    listing = found;
    let done = 0;
    const results = await predictListing(found, runner, description, {
      isCancelled: () => job !== currentJob,
      onSlice: (index, slice, cam) => {
        cams[index] = cam;
        reply({ type: 'slice', job, index, thumbnail: thumbnailOf(slice) });
        reply({ type: 'progress', job, stage: 'slices', done: ++done, count: found.slices.length });
      },
    });
    const seconds = (performance.now() - start) / 1000;
    if (job === currentJob) reply({ type: 'results', job, results, seconds });
  } catch (error) {
    reply({ type: 'error', job, message: describe(error) });
  }
}

function thumbnailOf(slice: Slice): Thumbnail {
  const { height, width } = slice;
  const gray = isHounsfield(slice)
    ? applyWindow(slice, parseWindow((description.input.window ?? DEFAULT_WINDOW)[0]))
    : slice.channels === 1
      ? slice.data
      : slice.data.filter((_, i) => i % 3 === 1);
  const scale = THUMBNAIL / Math.max(height, width);
  const [rows, columns] = [height, width].map((one) => Math.max(Math.round(one * scale), 1));
  const small = resize(gray, height, width, rows, columns);
  return { width: columns, height: rows, gray: Uint8Array.from(small, Math.round) };
}

/** Read a slice again, since the pixels of hundreds would fill the memory. */
async function view(request: Extract<Request, { type: 'view' }>): Promise<void> {
  const { view: number, index } = request;
  const ref = listing?.slices[index];
  if (!ref) return;
  try {
    const slice = await readSlice(ref);
    const cam = cams[index];
    const found = cam && evidenceOf(cam, request.probability, request.threshold);
    let evidence: Float32Array | null = null;
    if (found) {
      const head = findHead(dropEqualChannels(slice), description.input.upright);
      const region = description.input.cropHead ? head : null;
      evidence = evidenceOnSlice(found, region, head, slice.height, slice.width);
    }
    reply({ type: 'view', view: number, slice, evidence });
  } catch (error) {
    reply({ type: 'viewError', view: number, message: describe(error) });
  }
}

function describe(error: unknown): string {
  if (error instanceof SliceError) return error.message;
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

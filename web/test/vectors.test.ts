/** The page's code repeats the library: cases that `tests/web/vectors.py` wrote. */

import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readHeader } from '../src/dicom/header';
import { isDicom, openDicom } from '../src/dicom/parse';
import { setBinaries } from '../src/imaging/codecs';
import { cropTo, findHead } from '../src/imaging/headCrop';
import { checkInput } from '../src/imaging/inputChecks';
import { modelInput } from '../src/imaging/modelInput';
import { isNiftiName, readVolume } from '../src/imaging/nifti';
import { SliceError, type Slice } from '../src/imaging/slice';
import { readSlice } from '../src/listing/reading';
import { evidenceOf, evidenceOnSlice } from '../src/model/evidence';
import { scanGeometry } from '../src/model/scans';

interface Place {
  at: number;
  bytes: number;
  dtype: 'float32' | 'float64' | 'uint8';
  shape: number[];
}

const folder = process.env.VECTORS;
if (!folder) {
  throw new Error('Set VECTORS to a folder that `python tests/web/vectors.py FOLDER` wrote.');
}
// What the script writes is checked by the tests themselves.
const cases: Record<string, Record<string, any>[]> = JSON.parse(readFileSync(path.join(folder, 'cases.json'), 'utf8'));
const arrays = openSync(path.join(folder, 'arrays.bin'), 'r');
afterAll(() => closeSync(arrays));

function load(place: Place): Float32Array | Uint8Array {
  const buffer = new ArrayBuffer(place.bytes);
  readSync(arrays, new Uint8Array(buffer), 0, place.bytes, place.at);
  return place.dtype === 'uint8' ? new Uint8Array(buffer) : new Float32Array(buffer);
}

function sliceAt(place: Place): Slice {
  const [height, width, channels = 1] = place.shape;
  return { height, width, channels, data: load(place) } as Slice;
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i] - b[i]));
  return largest;
}

const require = createRequire(import.meta.url);
const DECODERS: Record<string, string> = {
  'openjpegwasm_decode.wasm': '@cornerstonejs/codec-openjpeg/decodewasm',
  'charlswasm_decode.wasm': '@cornerstonejs/codec-charls/decodewasm',
  'libjpegturbowasm_decode.wasm': '@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasm',
};
beforeAll(() => {
  setBinaries(async (name) => {
    const bytes = readFileSync(require.resolve(DECODERS[name]));
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  });
});

describe('slices', () => {
  it.each(cases.slices)('$name: crop, model input and input check', (one) => {
    const slice = sliceAt(one.pixels);
    const head = findHead(slice, one.upright);
    expect([head.top, head.left, head.side, head.cell, head.turns]).toEqual(one.region);
    expect(head.cells !== null).toBe(one.is_found);
    const crop = cropTo(slice, head).data;
    const bytes = new Uint8Array(crop.buffer, crop.byteOffset, crop.byteLength);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(one.crop);
    const settings = {
      imageSize: one.size,
      window: one.window,
      cropHead: one.crop_head,
      upright: one.upright,
    };
    const input = modelInput(slice, settings, one.crop_head ? head : null);
    expect(largestDifference(input, load(one.input))).toBeLessThan(1e-4);
    expect(checkInput(slice, head)).toBe(one.warning);
  });
});

describe('files', () => {
  it.each(cases.files)('$name, slice $frame', async (one) => {
    const bytes = readFileSync(one.path);
    const file = new File([bytes], one.name);
    const format = isNiftiName(one.name)
      ? 'nifti'
      : isDicom(bytes.subarray(0, 512)) || /\.dcm$/.test(one.name)
        ? 'dicom'
        : 'image';
    const ref = { file, format, name: one.name, frame: one.frame, position: null, number: null };
    let slice: Slice;
    try {
      slice = await readSlice(ref as Parameters<typeof readSlice>[0]);
    } catch (error) {
      if (!(error instanceof SliceError)) throw error;
      expect(one.pixels === null || isNotSupported(error.message, one.name), error.message).toBe(true);
      return;
    }
    expect(one.reason).toBe(null);
    const { height, width, channels } = slice;
    const shape = channels === 1 ? [height, width] : [height, width, channels];
    expect(shape).toEqual(one.pixels.shape);
    expect(slice.data.constructor.name.toLowerCase()).toBe(`${one.pixels.dtype}array`);
    // Decoders of lossy JPEG differ by a gray level or two; of everything else, by rounding.
    const tolerance = isLossy(bytes, one.name) ? 2 : 1e-3;
    expect(largestDifference(slice.data, load(one.pixels))).toBeLessThanOrEqual(tolerance);
    const header = await headerOf(file, bytes, format);
    if (header && one.header.positions) {
      expect(header.positions.length).toBe(one.header.positions.length);
      header.positions.forEach((position: number | null, i: number) => {
        const expected = one.header.positions[i];
        if (expected === null) expect(position).toBe(null);
        else expect(position).toBeCloseTo(expected, 6);
      });
      expect(header.inputWarning).toBe(one.header.warning);
    }
  });
});

/**
 * Return whether a message is about what the library reads and the page does not: rare syntaxes,
 * and a packaged color picture without the end of its pixel data.
 */
function isNotSupported(message: string, name: string): boolean {
  if (name === 'SC_rgb_jpeg.dcm') return /it cannot be parsed/.test(message);
  return /no decoder for its transfer syntax|YBR_FULL_422|RGB in a JPEG|it must be gray or RGB/.test(message);
}

function isLossy(bytes: Uint8Array, name: string): boolean {
  if (/\.jpe?g$/.test(name)) return true;
  if (!isDicom(bytes.subarray(0, 512))) return false;
  return /4\.(50|51|81|91)$/.test(openDicom(bytes).transferSyntax);
}

async function headerOf(
  file: File,
  bytes: Uint8Array,
  format: string,
): Promise<{ positions: (number | null)[]; inputWarning: string | null } | null> {
  if (format === 'nifti') return readVolume(file);
  return format === 'dicom' ? readHeader(openDicom(bytes)) : null;
}

describe('evidence', () => {
  it.each(cases.evidence)('$name', (one) => {
    const cam = load(one.cam) as Float32Array;
    const expected = load(one.evidence);
    const found = evidenceOf(cam, one.probability, one.threshold);
    expect(largestDifference(found ?? new Float32Array(cam.length), expected)).toBeLessThan(1e-3);
    if (!found) return;
    const slice = sliceAt(one.pixels);
    const head = findHead(slice);
    const placed = evidenceOnSlice(found, head, head, slice.height, slice.width);
    expect(largestDifference(placed, load(one.placed))).toBeLessThan(1e-3);
  });
});

describe('scan geometry', () => {
  it.each(cases.geometry)('$name', (one) => {
    expect(largestDifference(scanGeometry(one.positions), load(one.geometry))).toBeLessThan(1e-6);
  });
});

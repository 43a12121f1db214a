/** Read NIfTI files in Hounsfield units, as `hemorrhage_tf/imaging/nifti.py` does. */

import { isNIFTI1, isNIFTI2, readHeader, type NIFTI1, type NIFTI2 } from 'nifti-reader-js';
import { AIR, LOWEST_HOUNSFIELD, MAX_PIXELS, SliceError, type HounsfieldSlice } from './slice';

const MAX_SLICES = 10_000;
const MAX_BYTES = 512 * 2 ** 20;
const MIN_VOXELS_ACROSS = 32;
const MAX_ASPECT = 3;
const MAX_COORDINATE = 1e6;
const MIN_AXES_VOLUME = 1e-2;
const HEADER_BYTES = 544;
const MAX_OFFSET = 64 * 2 ** 20;

type Vector = [number, number, number];
type ReadVoxel = (at: number) => number;

export interface Volume {
  slices: number;
  /** In mm, from the neck to the vertex or the other way round, in the order of the file. */
  positions: number[];
  inputWarning: string | null;
  readSlice(index: number): HounsfieldSlice;
}

export function isNiftiName(name: string): boolean {
  return /\.nii(\.gz)?$/i.test(name);
}

/** Read a volume; its voxels stay as they are stored. */
export async function readVolume(file: Blob): Promise<Volume> {
  if (file.size === 0) throw new SliceError('the file is empty (0 bytes)');
  const magic = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  const isCompressed = magic[0] === 0x1f && magic[1] === 0x8b;
  const start = isCompressed ? await inflate(file, HEADER_BYTES, false) : await first(file);
  const header = parseHeader(start);
  const shape = checkShape(header);
  const { bytes: voxelBytes, reader } = voxelType(header);
  const affine = affineOf(header, start, shape);
  const { axes, signs } = nearestAxes(affine);
  const [width, height, slices] = axes.map((axis) => shape[axis]);
  const size = shape[0] * shape[1] * shape[2] * voxelBytes;
  const offset = header.vox_offset > 0 ? header.vox_offset : isNIFTI2(start) ? 544 : 352;
  if (width * height > MAX_PIXELS) {
    throw new SliceError(`declares slices of ${width} x ${height} pixels: the limit is 64 million`);
  }
  if (slices > MAX_SLICES) {
    throw new SliceError(`declares ${slices} slices: the limit is ${MAX_SLICES}`);
  }
  if (size > MAX_BYTES) {
    throw new SliceError(
      `declares ${Math.floor(size / 2 ** 20)} MiB of voxels: the limit is ${MAX_BYTES / 2 ** 20} MiB`,
    );
  }
  if (!(offset <= MAX_OFFSET)) {
    throw new SliceError(`declares that its voxels start at byte ${offset}`);
  }
  let stored: ArrayBuffer;
  if (isCompressed) {
    stored = (await inflate(file, offset + size, true)).slice(offset);
  } else {
    if (offset + size > file.size) {
      throw new SliceError(`truncated: ${file.size} bytes of ${offset + size} declared`);
    }
    stored = await file.slice(offset, offset + size).arrayBuffer();
  }
  const voxel = reader(new DataView(stored), header.littleEndian);
  const usesScale = Number.isFinite(header.scl_slope) && header.scl_slope !== 0;
  const slope = usesScale ? header.scl_slope : 1;
  const intercept = usesScale ? header.scl_inter : 0;
  if (!Number.isFinite(intercept)) {
    throw new SliceError('its header is damaged (its intercept is not a number)');
  }
  const strides = [1, shape[0], shape[0] * shape[1]].map((one) => one * voxelBytes);
  const readSlice = (index: number): HounsfieldSlice => {
    const data = new Float32Array(width * height);
    for (let y = 0; y < height; y++) {
      const row = signs[1] > 0 ? height - 1 - y : y;
      for (let x = 0; x < width; x++) {
        const column = signs[0] > 0 ? width - 1 - x : x;
        const at = column * strides[axes[0]] + row * strides[axes[1]] + index * strides[axes[2]];
        const value = voxel(at) * slope + intercept;
        data[y * width + x] = value >= LOWEST_HOUNSFIELD && value < Infinity ? value : AIR;
      }
    }
    for (let i = 0; i < data.length; i++) if (data[i] === Infinity) data[i] = AIR;
    return { height, width, channels: 1, data };
  };
  return {
    slices,
    positions: positionsOf(affine, axes, signs, slices),
    inputWarning: warningOf(affine, axes, [width, height]),
    readSlice,
  };
}

async function first(file: Blob): Promise<ArrayBuffer> {
  return file.slice(0, HEADER_BYTES).arrayBuffer();
}

/** Inflate the first bytes of a gzip stream. */
async function inflate(file: Blob, count: number, isWhole: boolean): Promise<ArrayBuffer> {
  const target = new Uint8Array(count);
  let filled = 0;
  const reader = file.stream().pipeThrough(new DecompressionStream('gzip')).getReader();
  try {
    while (filled < count) {
      const { done, value } = await reader.read();
      if (done) break;
      const part = value.subarray(0, count - filled);
      target.set(part, filled);
      filled += part.length;
    }
    // Reading the end of the stream verifies its checksum.
    if (isWhole && filled === count) await reader.read();
  } catch {
    throw new SliceError('cannot be decompressed');
  } finally {
    await reader.cancel().catch(() => undefined); // it may have failed already
  }
  if (isWhole && filled < count) {
    throw new SliceError(`truncated: ${filled} bytes of the ${count} that it declares`);
  }
  return target.buffer.slice(0, filled);
}

function parseHeader(start: ArrayBuffer): NIFTI1 | NIFTI2 {
  if (start.byteLength < 348) {
    throw new SliceError(`not a NIfTI file: its ${start.byteLength} bytes are less than a header`);
  }
  const isPair =
    !(isNIFTI1(start) || isNIFTI2(start)) && (isNIFTI1(start, true) || isNIFTI2(start, true));
  if (isPair) {
    throw new SliceError('a header with its voxels in an .img file: convert the pair to one .nii file');
  }
  if (!isNIFTI1(start) && !isNIFTI2(start)) {
    throw new SliceError('not a NIfTI file (it has no NIfTI magic string)');
  }
  if (isNIFTI2(start) && start.byteLength < 540) {
    throw new SliceError('truncated: it ends within its header');
  }
  try {
    return readHeader(start)!;
  } catch {
    throw new SliceError('its header is damaged');
  }
}

function checkShape(header: NIFTI1 | NIFTI2): Vector {
  const count = header.dims[0];
  if (!(count >= 1 && count <= 7)) throw new SliceError('its header is damaged');
  let shape = header.dims.slice(1, 1 + count).map(Number);
  const named = shape.join(' x ');
  while (shape.length > 3 && shape[shape.length - 1] === 1) shape = shape.slice(0, -1);
  if (shape.length !== 3) {
    throw new SliceError(`holds an array of ${named}, not a volume of three axes`);
  }
  if (Math.min(...shape) <= 0) throw new SliceError(`declares an array of ${named} voxels`);
  return shape as Vector;
}

function voxelType(header: NIFTI1 | NIFTI2): {
  bytes: number;
  reader: (view: DataView, little: boolean) => ReadVoxel;
} {
  const types: Record<number, [number, (view: DataView, little: boolean) => ReadVoxel]> = {
    2: [1, (view) => (at) => view.getUint8(at)],
    4: [2, (view, little) => (at) => view.getInt16(at, little)],
    8: [4, (view, little) => (at) => view.getInt32(at, little)],
    16: [4, (view, little) => (at) => view.getFloat32(at, little)],
    64: [8, (view, little) => (at) => view.getFloat64(at, little)],
    256: [1, (view) => (at) => view.getInt8(at)],
    512: [2, (view, little) => (at) => view.getUint16(at, little)],
    768: [4, (view, little) => (at) => view.getUint32(at, little)],
    1024: [8, (view, little) => (at) => Number(view.getBigInt64(at, little))],
    1280: [8, (view, little) => (at) => Number(view.getBigUint64(at, little))],
  };
  const found = types[header.datatypeCode];
  if (!found) {
    throw new SliceError(
      `its voxels are of type ${header.datatypeCode}: CT has one integer or real number per voxel`,
    );
  }
  return { bytes: found[0], reader: found[1] };
}

/** Return the affine as nibabel chooses it: the sform, else the qform, else the voxel sizes. */
function affineOf(header: NIFTI1 | NIFTI2, start: ArrayBuffer, shape: Vector): number[][] {
  if (header.sform_code > 0) {
    const view = new DataView(start);
    const isNifti2 = isNIFTI2(start);
    return [0, 1, 2].map((row) =>
      [0, 1, 2, 3].map((column) => {
        const index = 4 * row + column;
        return isNifti2
          ? view.getFloat64(400 + 8 * index, header.littleEndian)
          : view.getFloat32(280 + 4 * index, header.littleEndian);
      }),
    );
  }
  if (header.qform_code > 0) return header.affine.slice(0, 3).map((row) => row.slice(0, 4));
  const zooms = [-header.pixDims[1], header.pixDims[2], header.pixDims[3]];
  return zooms.map((zoom, row) => [
    ...[0, 1, 2].map((column) => (row === column ? zoom : 0)),
    (-(shape[row] - 1) / 2) * zoom,
  ]);
}

function column(affine: number[][], index: number): Vector {
  return [affine[0][index], affine[1][index], affine[2][index]];
}

export function dot(a: number[], b: number[]): number {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

export function cross(a: number[], b: number[]): Vector {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

export function norm(a: number[]): number {
  return Math.sqrt(dot(a, a));
}

function unit(a: Vector): Vector {
  const length = norm(a);
  return [a[0] / length, a[1] / length, a[2] / length];
}

/** Return the voxel axis nearest to each axis of the body, and the sign of its direction. */
function nearestAxes(affine: number[][]): { axes: Vector; signs: Vector } {
  const broken = new SliceError('its affine does not define the orientation of the voxels');
  if (!affine.flat().every((one) => Number.isFinite(one) && Math.abs(one) < MAX_COORDINATE)) {
    throw broken;
  }
  const columns = [0, 1, 2].map((axis) => column(affine, axis));
  if (columns.some((one) => norm(one) === 0)) throw broken;
  const units = columns.map(unit);
  if (Math.abs(dot(cross(units[0], units[1]), units[2])) <= MIN_AXES_VOLUME) throw broken;
  const rotation = nearestRotation(units);
  const axes: Vector = [0, 0, 0];
  const signs: Vector = [1, 1, 1];
  const free = new Set([0, 1, 2]);
  // Like nibabel: the voxel axis with the largest entry of all chooses its axis of the body first.
  const order = [0, 1, 2].sort(
    (a, b) => Math.max(...rotation[b].map(Math.abs)) - Math.max(...rotation[a].map(Math.abs)),
  );
  for (const voxel of order) {
    const best = [...free].reduce((most, axis) =>
      Math.abs(rotation[voxel][axis]) > Math.abs(rotation[voxel][most]) ? axis : most,
    );
    free.delete(best);
    axes[best] = voxel;
    signs[best] = rotation[voxel][best] < 0 ? -1 : 1;
  }
  return { axes, signs };
}

/** Return the rotation nearest to three unit vectors (their polar decomposition). */
function nearestRotation(vectors: Vector[]): Vector[] {
  let current = vectors;
  for (let step = 0; step < 100; step++) {
    // Newton's iteration: the mean with the inverse transposed converges to the polar factor.
    const volume = dot(cross(current[0], current[1]), current[2]);
    const inverse = [
      cross(current[1], current[2]),
      cross(current[2], current[0]),
      cross(current[0], current[1]),
    ].map((one) => one.map((value) => value / volume));
    const next = current.map((one, i) => one.map((value, k) => (value + inverse[i][k]) / 2)) as Vector[];
    const change = Math.max(
      ...next.flatMap((one, i) => one.map((value, k) => Math.abs(value - current[i][k]))),
    );
    current = next;
    if (change < 1e-12) break;
  }
  return current;
}

function positionsOf(affine: number[][], axes: Vector, signs: Vector, slices: number): number[] {
  const [right, anterior, superior] = axes.map((axis) => column(affine, axis));
  let normal = unit(cross(unit(right), unit(anterior)));
  if (dot(normal, superior) * signs[2] < 0) normal = [-normal[0], -normal[1], -normal[2]];
  const [start, step] = [dot(normal, column(affine, 3)), dot(normal, superior)];
  return Array.from({ length: slices }, (_, i) => start + step * i);
}

function warningOf(affine: number[][], axes: Vector, across: number[]): string | null {
  const sizes = axes.slice(0, 2).map((axis) => norm(column(affine, axis)));
  if (Math.min(...across) < MIN_VOXELS_ACROSS) {
    return `its axial slices have only ${across[0]} x ${across[1]} voxels`;
  }
  if (Math.max(...sizes) > MAX_ASPECT * Math.min(...sizes)) {
    const [a, b] = sizes.map((one) => Number(one.toPrecision(3)));
    return `the voxels of its axial slices measure ${a} x ${b} mm`;
  }
  return null;
}

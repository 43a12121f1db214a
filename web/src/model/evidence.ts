/**
 * The evidence that an overlay shows: where a class activation map lies above the threshold.
 *
 * The rule is that of `hemorrhage_tf/inference/evidence.py`.
 */

import { cellsToPixels } from '../imaging/grid';
import { uncrop, type HeadRegion } from '../imaging/headCrop';
import { resize } from '../imaging/resize';

const SMOOTHING = 1 / 32; // sigma, as a share of the side of the map
export const FULL_COLOR = 30; // logits, the end of the color scale
const FULL_OPACITY = 7.5;
const LOW_COLOR = [255, 214, 0];
const HIGH_COLOR = [226, 0, 26];
const MAX_OPACITY = 0.55;

function logit(probability: number): number {
  const x = Math.min(Math.max(probability, 1e-6), 1 - 1e-6);
  return Math.log(x / (1 - x));
}

/** Return a Gaussian of `side / 32` that is mirrored at the borders, `(side, side)` by rows. */
function smoothingMatrix(side: number): Float64Array {
  const sigma = side * SMOOTHING;
  const weight = (distance: number): number => Math.exp(-(distance ** 2) / (2 * sigma ** 2));
  const matrix = new Float64Array(side * side);
  for (let i = 0; i < side; i++) {
    let sum = 0;
    for (let j = 0; j < side; j++) {
      const one = weight(i - j) + weight(i + j + 1) + weight(2 * side - 1 - i - j);
      matrix[i * side + j] = one;
      sum += one;
    }
    for (let j = 0; j < side; j++) matrix[i * side + j] /= sum;
  }
  return matrix;
}

function smoothed(cam: Float32Array, side: number): Float64Array {
  const kernel = smoothingMatrix(side);
  const along = new Float64Array(side * side);
  const result = new Float64Array(side * side);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      let sum = 0;
      for (let k = 0; k < side; k++) sum += cam[y * side + k] * kernel[x * side + k];
      along[y * side + x] = sum;
    }
  }
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      let sum = 0;
      for (let k = 0; k < side; k++) sum += kernel[y * side + k] * along[k * side + x];
      result[y * side + x] = sum;
    }
  }
  return result;
}

/** Return the evidence of a square map in logits; null where nothing lies above the threshold. */
export function evidenceOf(
  cam: Float32Array,
  probability: number,
  threshold: number,
): Float32Array | null {
  const excess = logit(probability) - logit(threshold);
  if (excess <= 0) return null;
  const map = smoothed(cam, Math.sqrt(cam.length));
  const values = Float64Array.from(map).sort().reverse();
  let [sum, level] = [0, 0];
  for (let k = 1; k <= values.length; k++) {
    sum += values[k - 1];
    level = (sum - excess * values.length) / k;
    if (k === values.length || level >= values[k]) break;
  }
  level = Math.max(level, 0);
  return Float32Array.from(map, (one) => Math.max(one - level, 0));
}

/**
 * Bring evidence to the pixels of its slice; 0 outside of the head.
 *
 * `region` is what the model saw, null for the whole slice; `head` is the head, where one is found.
 */
export function evidenceOnSlice(
  evidence: Float32Array,
  region: HeadRegion | null,
  head: HeadRegion,
  height: number,
  width: number,
): Float32Array {
  const side = Math.sqrt(evidence.length);
  const placed = region
    ? uncrop(resize(evidence, side, side, region.side, region.side), region, height, width)
    : resize(evidence, side, side, height, width);
  if (!head.cells) return placed;
  const shown = cellsToPixels(head.cells, head.cell, height, width);
  return placed.map((one, i) => (shown[i] && !head.shells?.[i] ? one : 0));
}

/** Return the color of evidence, from yellow to red, with an opacity in [0, 255]. */
export function colorOf(evidence: number): [number, number, number, number] {
  const share = Math.min(evidence / FULL_COLOR, 1);
  const [red, green, blue] = LOW_COLOR.map((low, k) => low + (HIGH_COLOR[k] - low) * share);
  return [red, green, blue, 255 * MAX_OPACITY * Math.min(evidence / FULL_OPACITY, 1)];
}

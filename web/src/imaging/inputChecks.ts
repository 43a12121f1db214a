/**
 * The input check: whether the pixels of a slice look like an axial slice of a head CT.
 *
 * The steps and limits are those of `hemorrhage_tf/imaging/input_checks.py`, which explains them.
 */

import { cellsToPixels, countInCells, type Grid } from './grid';
import { countLevels, edgeDepths, grayLevels, type HeadRegion } from './headCrop';
import { isHounsfield, type Slice } from './slice';

const MAX_COLOR_SPREAD = 25;
const BONE_HU = 300;
const MIN_BONE_SHARE = 0.03;
const LUNG_HU = [-950, -400];
const MAX_LUNG_SHARE = 0.15;
const DIRECTIONS = 36;
const MIN_SKULL_SHARE = 0.6;
const SKULL_DEPTH = 6;
const BONE_COVERAGE = 0.15;
const BONE_LEVEL = 0.85;
const TISSUE_LEVEL = 0.8;
const DARK_LEVEL = 0.12;
const MIN_BONE_GRAY = 170;
const MIN_DARK_AROUND = 0.3;
const MIN_SURROUNDINGS = 0.02;

/** Return an input warning: why a slice does not look like head CT; null if it does. */
export function checkInput(slice: Slice, head: HeadRegion): string | null {
  if (slice.channels === 3 && colorSpread(slice) > MAX_COLOR_SPREAD) {
    return 'a color image, not a head CT';
  }
  if (!head.cells) return 'no head was found in it';
  if (!isHounsfield(slice)) {
    return hasSkull(slice, head, head.cells) ? null : 'no skull was found in it';
  }
  const inHead = cellsToPixels(head.cells, head.cell, slice.height, slice.width);
  let [count, lung, bone] = [0, 0, 0];
  for (let i = 0; i < inHead.length; i++) {
    if (!inHead[i]) continue;
    const value = slice.data[i];
    count++;
    if (value > LUNG_HU[0] && value < LUNG_HU[1]) lung++;
    if (value > BONE_HU) bone++;
  }
  if (lung / count > MAX_LUNG_SHARE) {
    return 'it has as much lung-like tissue as a chest, not a head';
  }
  return bone / count < MIN_BONE_SHARE ? 'no skull was found in it' : null;
}

/** Return whether a ring of bone surrounds darker tissue, and dark surrounds the ring. */
function hasSkull(slice: Slice, head: HeadRegion, cells: Grid): boolean {
  const { height, width } = slice;
  const gray = grayLevels(slice);
  const inHead = cellsToPixels(cells, head.cell, height, width);
  const every = countLevels(gray);
  const inside = new Int32Array(256);
  for (let i = 0; i < gray.length; i++) inside[gray[i]] += inHead[i];
  const outside = every.map((count, level) => count - inside[level]);
  const brightest = quantile(inside, 0.98);
  const darkest = quantile(every, 0.02);
  const around = outside.reduce((sum, one) => sum + one, 0);
  const end = Math.trunc(darkest + DARK_LEVEL * (brightest - darkest)) + 1;
  const dark = outside.slice(0, end).reduce((sum, one) => sum + one, 0);
  if (around > MIN_SURROUNDINGS * gray.length && dark < MIN_DARK_AROUND * around) return false;
  const boneFrom = Math.ceil(Math.max(BONE_LEVEL * brightest, MIN_BONE_GRAY));
  const darkerTo = Math.trunc(TISSUE_LEVEL * brightest);
  const share = (flags: Uint8Array): Float64Array => {
    const { count, area } = countInCells(flags, height, width, head.cell);
    return Float64Array.from(count, (one, i) => one / area[i]);
  };
  const bone = share(gray.map((one) => (one >= boneFrom ? 1 : 0)));
  const darker = share(gray.map((one) => (one <= darkerTo ? 1 : 0)));
  return skullShare(cells, bone, darker) >= MIN_SKULL_SHARE;
}

/** Return the share of directions, as seen from the middle of the head, that show the skull. */
function skullShare(cells: Grid, bone: Float64Array, darker: Float64Array): number {
  const depth = edgeDepths(cells);
  const deepest = depth.reduce((most, one) => Math.max(most, one), 0);
  const edge = Math.min(SKULL_DEPTH, Math.floor(deepest / 2));
  let [count, sumX, sumY] = [0, 0, 0];
  depth.forEach((one, i) => {
    if (!one) return;
    count++;
    sumX += i % cells.columns;
    sumY += Math.floor(i / cells.columns);
  });
  const [middleX, middleY] = [sumX / count, sumY / count];
  const outer = new Int32Array(DIRECTIONS);
  const outerBone = new Int32Array(DIRECTIONS);
  const inner = new Int32Array(DIRECTIONS);
  const innerDarker = new Int32Array(DIRECTIONS);
  depth.forEach((one, i) => {
    if (!one) return;
    const [y, x] = [Math.floor(i / cells.columns), i % cells.columns];
    const angle = Math.atan2(y - middleY, x - middleX) + Math.PI;
    const direction = Math.trunc(angle * (DIRECTIONS / (2 * Math.PI))) % DIRECTIONS;
    if (one <= edge) {
      outer[direction]++;
      if (bone[i] >= BONE_COVERAGE) outerBone[direction]++;
    } else {
      inner[direction]++;
      if (darker[i] >= 0.5) innerDarker[direction]++;
    }
  });
  let [occupied, shown] = [0, 0];
  for (let k = 0; k < DIRECTIONS; k++) {
    if (!outer[k]) continue;
    occupied++;
    if (outerBone[k] > 0 && 2 * innerDarker[k] > inner[k]) shown++;
  }
  return shown / occupied;
}

/** Return the same as `numpy.quantile`, from a histogram of the gray levels. */
function quantile(counts: Int32Array, share: number): number {
  const last = counts.reduce((sum, one) => sum + one, 0) - 1;
  const place = share * last;
  const below = Math.trunc(place);
  const levelOf = (rank: number): number => {
    let cumulative = 0;
    for (let level = 0; level < 256; level++) {
      cumulative += counts[level];
      if (cumulative > rank) return level;
    }
    return 256;
  };
  const [low, high] = [levelOf(below), levelOf(Math.min(below + 1, last))];
  const fraction = place - below;
  if (fraction >= 0.5) return high - (high - low) * (1 - fraction);
  return low + (high - low) * fraction;
}

/** Measure how far the channels are from being functions of the gray level. */
function colorSpread(slice: Slice): number {
  const rgb: [number, number, number][] = [];
  let range = 0;
  for (let y = 0; y < slice.height; y += 4) {
    for (let x = 0; x < slice.width; x += 4) {
      const at = 3 * (y * slice.width + x);
      const one: [number, number, number] = [slice.data[at], slice.data[at + 1], slice.data[at + 2]];
      range = Math.max(range, Math.max(...one) - Math.min(...one));
      rgb.push(one);
    }
  }
  if (range <= MAX_COLOR_SPREAD / 2) return 0;
  const bins = rgb.map((one) => Math.trunc((one[0] + one[1] + one[2]) / 3 / 8));
  let variance = 0;
  for (const channel of [0, 2]) {
    const counts = new Float64Array(32);
    const sums = new Float64Array(32);
    rgb.forEach((one, i) => {
      counts[bins[i]]++;
      sums[bins[i]] += one[channel] - one[1];
    });
    let squares = 0;
    rgb.forEach((one, i) => {
      const mean = sums[bins[i]] / Math.max(counts[bins[i]], 1);
      squares += (one[channel] - one[1] - mean) ** 2;
    });
    variance += squares / rgb.length;
  }
  return Math.sqrt(variance);
}

/**
 * The head crop: a slice cropped to the head and padded to a square, without couch and text.
 *
 * Each step has its counterpart in `hemorrhage_tf/imaging/head_crop.py`, where the constants are
 * explained. All decisions use integer arithmetic, so both return the same pixels.
 */

import {
  cellsToPixels,
  countInCells,
  countSet,
  dilated,
  emptyGrid,
  eroded,
  erosions,
  extent,
  fillHoles,
  floodWithin,
  intersected,
  opened,
  type Grid,
} from './grid';
import { AIR, isHounsfield, type Slice } from './slice';

const GRID = 64;
const DARK_PER_MILLE = 50;
const BRIGHT_PER_MILLE = 980;
const TISSUE_SIXTEENTHS = 5;
const SKIN = -300;
const DISPLAY_OPENING = 2;
const HU_OPENING = 3;
const SHELL_DEPTH = 3;
const DISPLAY_RIM = 2;
const HU_RIM = 0;
const MIN_DEPTH = 4;
const MAX_FILL_SIXTEENTHS = 15;
const MARGIN = 1;
const SIDEWAYS_SIXTEENTHS = 17;

/** The square around the head in a slice; see `HeadRegion` in Python. */
export interface HeadRegion {
  top: number;
  left: number;
  side: number;
  cell: number;
  turns: number;
  /** The cells that show the head; null if there is no head. */
  cells: Grid | null;
  /** In HU only: pixels of thin structures at the edge of the head. */
  shells: Uint8Array | null;
}

/** Return the gray levels in which the head is found. */
export function grayLevels(slice: Slice): Uint8Array {
  const { data } = slice;
  const gray = new Uint8Array(slice.height * slice.width);
  if (isHounsfield(slice)) {
    const factor = Math.fround(255 / 80);
    for (let i = 0; i < gray.length; i++) {
      const value = data[i];
      gray[i] = Math.fround((value < 0 ? 0 : value > 80 ? 80 : value) * factor); // truncated
    }
    return gray;
  }
  if (slice.channels === 1) return data as Uint8Array;
  for (let i = 0, at = 0; i < gray.length; i++, at += 3) {
    gray[i] = Math.max(data[at], data[at + 1], data[at + 2]);
  }
  return gray;
}

/** Count the pixels of each gray level. */
export function countLevels(gray: Uint8Array): Int32Array {
  const levels = new Int32Array(256);
  for (const level of gray) levels[level]++;
  return levels;
}

/** Return the gray level above which a pixel is skull or tissue. */
function tissueLevel(levels: Int32Array, size: number): number {
  const reach = (perMille: number): number => {
    let cumulative = 0;
    for (let level = 0; level < 256; level++) {
      cumulative += levels[level];
      if (cumulative * 1000 >= perMille * size) return level;
    }
    return 256;
  };
  const [dark, bright] = [reach(DARK_PER_MILLE), reach(BRIGHT_PER_MILLE)];
  return dark + Math.floor(((bright - dark) * TISSUE_SIXTEENTHS) / 16);
}

/** Find the head: the thickest body of skull and tissue. */
export function findHead(slice: Slice, upright = false): HeadRegion {
  const { height, width } = slice;
  const gray = grayLevels(slice);
  const level = tissueLevel(countLevels(gray), gray.length);
  const tissue = above(gray, level);
  const inHounsfield = isHounsfield(slice);
  // In HU, skin and fat differ from air too, which joins face and skull base into one body.
  const body = inHounsfield ? above(slice.data, SKIN) : tissue;
  const { cells, cell } = tissueCells(body, height, width);
  let head = thickestBody(fillHoles(cells), inHounsfield ? HU_OPENING : DISPLAY_OPENING);
  const filled = countSet(head.cells);
  if (!filled || 16 * filled > MAX_FILL_SIXTEENTHS * head.cells.length) {
    const side = Math.max(height, width);
    const [top, left] = [Math.floor((height - side) / 2), Math.floor((width - side) / 2)];
    return { top, left, side, cell, turns: 0, cells: null, shells: null };
  }
  const inHead = cellsToPixels(head, cell, height, width);
  let shells: Uint8Array | null = null;
  if (inHounsfield) shells = findShells(body, head, cell, height, width);
  const visible = inHead;
  for (let i = 0; i < visible.length; i++) visible[i] &= tissue[i] & (shells ? 1 - shells[i] : 1);
  const [top, bottom] = extent(visible, height, width, 0);
  const [left, right] = extent(visible, height, width, 1);
  const longer = Math.max(bottom - top, right - left);
  const side = longer + 2 * Math.floor((longer * MARGIN) / 64);
  const isSideways = upright && 16 * (right - left) > SIDEWAYS_SIXTEENTHS * (bottom - top);
  const turns = isSideways ? quarterTurns(head) : 0;
  for (let i = inHounsfield ? HU_RIM : DISPLAY_RIM; i > 0; i--) head = dilated(head);
  return {
    top: Math.floor((top + bottom - side) / 2),
    left: Math.floor((left + right - side) / 2),
    side,
    cell,
    turns,
    cells: head,
    shells,
  };
}

function above(values: ArrayLike<number>, level: number): Uint8Array {
  const flags = new Uint8Array(values.length);
  for (let i = 0; i < flags.length; i++) flags[i] = values[i] > level ? 1 : 0;
  return flags;
}

/** Return the cells of which at least half is tissue, and the side of a cell in pixels. */
function tissueCells(
  tissue: Uint8Array,
  height: number,
  width: number,
): { cells: Grid; cell: number } {
  const cell = Math.ceil(Math.max(height, width) / GRID);
  if (cell === 1) return { cells: { rows: height, columns: width, cells: tissue }, cell };
  const { rows, columns, count, area } = countInCells(tissue, height, width, cell);
  const cells = Uint8Array.from(count, (one, i) => (2 * one >= area[i] ? 1 : 0));
  return { cells: { rows, columns, cells }, cell };
}

/** Return the body with the cell farthest from any edge, without its thin parts. */
function thickestBody(cells: Grid, opening: number): Grid {
  const layers = erosions(cells);
  if (layers.length < MIN_DEPTH) return emptyGrid(cells.rows, cells.columns);
  const steps = Math.min(opening, layers.length - 1);
  const seed = layers[layers.length - 1].cells.indexOf(1);
  let body = floodWithin(seed, layers[steps]);
  for (let i = 0; i < steps; i++) body = intersected(dilated(body), cells);
  return body;
}

/** Find structures thinner than a cell at the edge of the head: a holder's shell. */
function findShells(
  body: Uint8Array,
  head: Grid,
  cell: number,
  height: number,
  width: number,
): Uint8Array {
  let inner = head;
  for (let i = 0; i < SHELL_DEPTH; i++) inner = eroded(inner);
  const isInner = cellsToPixels(inner, cell, height, width);
  const solid = opened(body, height, width, Math.floor(cell / 2));
  const shells = new Uint8Array(body.length);
  for (let i = 0; i < body.length; i++) shells[i] = body[i] & (1 - solid[i]) & (1 - isInner[i]);
  return shells;
}

/** Return the quarter turns that bring a sideways head upright. */
function quarterTurns(head: Grid): number {
  const [start, stop] = extent(head.cells, head.rows, head.columns, 1);
  const middle = Math.floor((start + stop) / 2);
  const count = (from: number, to: number): number => {
    let sum = 0;
    for (let y = 0; y < head.rows; y++) {
      for (let x = from; x < to; x++) sum += head.cells[y * head.columns + x];
    }
    return sum;
  };
  return count(start, middle) > count(stop - (middle - start), stop) ? 1 : 3;
}

/** Crop a slice to a region: a square of the same kind of pixels, in air. */
export function cropTo(slice: Slice, head: HeadRegion): Slice {
  const { height, width, channels, data } = slice;
  const { side } = head;
  const inHounsfield = isHounsfield(slice);
  const square = inHounsfield
    ? new Float32Array(side * side).fill(AIR)
    : new Uint8Array(side * side * channels);
  const shown = head.cells && cellsToPixels(head.cells, head.cell, height, width);
  const bottom = Math.min(head.top + side, height);
  const right = Math.min(head.left + side, width);
  for (let y = Math.max(head.top, 0); y < bottom; y++) {
    for (let x = Math.max(head.left, 0); x < right; x++) {
      const from = y * width + x;
      if (shown && (!shown[from] || head.shells?.[from])) continue;
      const to = (y - head.top) * side + x - head.left;
      for (let k = 0; k < channels; k++) square[to * channels + k] = data[from * channels + k];
    }
  }
  const cropped = { height: side, width: side, channels, data: square } as Slice;
  return head.turns ? rotated(cropped, head.turns) : cropped;
}

/** Turn a square counterclockwise by quarter turns, like `numpy.rot90`. */
export function rotated<T extends Slice>(square: T, turns: number): T {
  const { width: side, channels } = square;
  let { data } = square;
  for (let turn = ((turns % 4) + 4) % 4; turn > 0; turn--) {
    const from = data;
    data = from.slice();
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const source = x * side + (side - 1 - y);
        for (let k = 0; k < channels; k++) {
          data[(y * side + x) * channels + k] = from[source * channels + k];
        }
      }
    }
  }
  return { ...square, data };
}

/** Place a map of the head crop, `side` x `side`, back on its slice; 0 outside the square. */
export function uncrop(
  square: Float32Array,
  head: HeadRegion,
  height: number,
  width: number,
): Float32Array {
  const { side } = head;
  const map = { height: side, width: side, channels: 1 as const, data: square };
  const turned = head.turns ? rotated(map, -head.turns).data : square;
  const placed = new Float32Array(height * width);
  const bottom = Math.min(head.top + side, height);
  const right = Math.min(head.left + side, width);
  for (let y = Math.max(head.top, 0); y < bottom; y++) {
    for (let x = Math.max(head.left, 0); x < right; x++) {
      placed[y * width + x] = turned[(y - head.top) * side + x - head.left];
    }
  }
  return placed;
}

/** Return the depth of each cell in its body: 1 at the edge, 0 outside. */
export function edgeDepths(cells: Grid): Int32Array {
  const depth = new Int32Array(cells.cells.length);
  for (const layer of erosions(cells)) layer.cells.forEach((one, i) => (depth[i] += one));
  return depth;
}


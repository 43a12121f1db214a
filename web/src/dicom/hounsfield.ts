/** Convert stored values to Hounsfield units, with padding set to air. */

import type { DataSet } from 'dicom-parser';
import { AIR, LOWEST_HOUNSFIELD, SliceError } from '../imaging/slice';
import type { Layout, Samples } from './layout';
import { isEmpty, items, numbers, TAGS, type Keyword } from './tags';

const MAX_RESCALE = 1e9;

/** Convert stored values; `tags` holds the rescale values, of the file or of a frame's macro. */
export function toHounsfield(
  dataSet: DataSet,
  tags: DataSet,
  layout: Layout,
  raw: Samples,
  stored: Samples,
): Float32Array {
  const [table] = items(dataSet, 'ModalityLUTSequence');
  const convert = table ? tableLookup(table) : linearRescale(tags);
  const padding = findPadding(dataSet, layout, raw, stored);
  const hounsfield = new Float32Array(stored.length);
  for (let i = 0; i < stored.length; i++) {
    const value = padding?.(i) ? AIR : convert(stored[i]);
    hounsfield[i] = value < LOWEST_HOUNSFIELD ? AIR : value;
  }
  return hounsfield;
}

function linearRescale(tags: DataSet): (value: number) => number {
  const slope = rescaleValue(tags, 'RescaleSlope', 1);
  const intercept = rescaleValue(tags, 'RescaleIntercept', 0);
  if (slope === 0) {
    throw new SliceError('its Rescale Slope is 0: every pixel would have the same value');
  }
  return (value) => value * slope + intercept;
}

function rescaleValue(tags: DataSet, keyword: Keyword, other: number): number {
  const [value] = numbers(tags, keyword);
  if (value === undefined && isEmpty(tags, keyword)) return other;
  if (value === undefined || !Number.isFinite(value) || Math.abs(value) > MAX_RESCALE) {
    const name = keyword === 'RescaleSlope' ? 'Rescale Slope' : 'Rescale Intercept';
    throw new SliceError(`its ${name} is not a usable number`);
  }
  return value;
}

function tableLookup(item: DataSet): (value: number) => number {
  const descriptor = numbers(item, 'LUTDescriptor');
  const element = item.elements[TAGS.LUTData];
  if (descriptor.length !== 3 || !element || element.length > 2 << 16) {
    throw new SliceError('damaged: its Modality LUT is not a table of 16-bit values');
  }
  const length = descriptor[0] || 1 << 16;
  const first = (descriptor[1] << 16) >> 16;
  if (element.length < 2 * length) {
    throw new SliceError('damaged: its Modality LUT is shorter than it declares');
  }
  const table = Array.from({ length }, (_, i) => item.uint16(TAGS.LUTData, i) as number);
  return (value) => table[Math.min(Math.max(value - first, 0), length - 1)];
}

/**
 * Find the pixels that the file declares to be padding.
 *
 * Padding is trusted only if it lies outside the range of all other pixels.
 */
function findPadding(
  dataSet: DataSet,
  layout: Layout,
  raw: Samples,
  stored: Samples,
): ((index: number) => boolean) | null {
  const [value] = numbers(dataSet, 'PixelPaddingValue');
  if (value === undefined) return null;
  const [limit] = numbers(dataSet, 'PixelPaddingRangeLimit');
  const ends = [value, limit ?? value].map((end) => asStored(end, layout));
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const isPadding =
    limit === undefined
      ? (i: number): boolean => stored[i] === low || raw[i] === low
      : (i: number): boolean => stored[i] >= low && stored[i] <= high;
  let [lowest, highest] = [Infinity, -Infinity];
  for (let i = 0; i < stored.length; i++) {
    if (isPadding(i)) continue;
    lowest = Math.min(lowest, stored[i]);
    highest = Math.max(highest, stored[i]);
  }
  return lowest !== Infinity && low <= highest && high >= lowest ? null : isPadding;
}

/** Interpret a padding value as a sample: 63536 is -2000 in signed 16 bits. */
function asStored(declared: number, layout: Layout): number {
  const { allocated, stored, isSigned } = layout;
  const range = 2 ** allocated;
  const value = ((declared % range) + range) % range;
  if (!isSigned) return value;
  if (value >= range / 2) return value - range;
  if (value >= 2 ** (stored - 1) && value < 2 ** stored) return value - 2 ** stored;
  return value;
}

/** A slice: its pixels, in Hounsfield units or as a display image. */

export interface HounsfieldSlice {
  height: number;
  width: number;
  channels: 1;
  data: Float32Array;
}

export interface DisplaySlice {
  height: number;
  width: number;
  channels: 1 | 3;
  data: Uint8Array;
}

export type Slice = HounsfieldSlice | DisplaySlice;

/** Return whether a slice is in Hounsfield units. */
export function isHounsfield(slice: Slice): slice is HounsfieldSlice {
  return slice.data instanceof Float32Array;
}

/** Limits on what a file may declare, checked before anything is allocated. */
export const MAX_PIXELS = 64_000_000;
export const MAX_SIDE = 10_000;

/** The value outside the patient and of padding, and the lowest value of the scale, in HU. */
export const AIR = -1000;
export const LOWEST_HOUNSFIELD = -1024;

/** A file that cannot be used; the message is a clause that follows its name. */
export class SliceError extends Error {}

/** Return an RGB image without color as a gray image, and other slices unchanged. */
export function dropEqualChannels(slice: Slice): Slice {
  if (slice.channels === 1) return slice;
  const rgb = slice.data as Uint8Array;
  for (let i = 0; i < rgb.length; i += 3) {
    if (rgb[i] !== rgb[i + 1] || rgb[i] !== rgb[i + 2]) return slice;
  }
  const gray = new Uint8Array(rgb.length / 3);
  for (let i = 0; i < gray.length; i++) gray[i] = rgb[3 * i];
  return { height: slice.height, width: slice.width, channels: 1, data: gray };
}

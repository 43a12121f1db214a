/** Model input: the form of a slice that a model takes, as in `pipeline/model_input.py`. */

import { cropTo, type HeadRegion } from './headCrop';
import { resize } from './resize';
import { isHounsfield, type Slice } from './slice';
import { applyWindow, DEFAULT_WINDOW, parseWindow } from './windows';

export interface InputSettings {
  imageSize: number;
  /** One window name, or three; null for a model trained on display images. */
  window: string[] | null;
  cropHead: boolean;
  upright: boolean;
}

/** Return whether display images are accepted: not if each channel has its own window. */
export function takesDisplayImages(settings: InputSettings): boolean {
  return settings.window === null || settings.window.length === 1;
}

/** Bring a slice to the form that the model takes: float32 RGB `(size, size, 3)` in [0, 255]. */
export function modelInput(
  slice: Slice,
  settings: InputSettings,
  head: HeadRegion | null,
): Float32Array {
  const cropped = head ? cropTo(slice, head) : slice;
  const { height, width } = cropped;
  const size = settings.imageSize;
  let channels: ArrayLike<number>[];
  if (isHounsfield(cropped)) {
    const names = settings.window ?? DEFAULT_WINDOW;
    channels = names.map((name) => applyWindow(cropped, parseWindow(name)));
  } else if (cropped.channels === 1) {
    channels = [cropped.data];
  } else {
    channels = [0, 1, 2].map((k) => cropped.data.filter((_, i) => i % 3 === k));
  }
  const resized = channels.map((one) => resize(one, height, width, size, size));
  const image = new Float32Array(size * size * 3);
  for (let i = 0; i < size * size; i++) {
    for (let k = 0; k < 3; k++) image[3 * i + k] = resized[resized.length === 1 ? 0 : k][i];
  }
  return image;
}

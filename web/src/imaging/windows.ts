/** Windows: map Hounsfield units to gray levels with the linear VOI LUT function of DICOM. */

import type { HounsfieldSlice } from './slice';

export interface Window {
  center: number;
  width: number;
}

/** The usual windows of acute head CT, by name, as in `hemorrhage_tf/imaging/windows.py`. */
export const WINDOWS: Record<string, Window> = {
  brain: { center: 40, width: 80 },
  subdural: { center: 80, width: 200 },
  bone: { center: 600, width: 2800 },
  stroke: { center: 40, width: 40 },
};

export const DEFAULT_WINDOW = ['brain'];

/** Return the window that a name of `WINDOWS`, or CENTER/WIDTH in HU, stands for. */
export function parseWindow(name: string): Window {
  if (Object.hasOwn(WINDOWS, name)) return WINDOWS[name];
  const [center, width] = name.split('/').map(Number);
  if (!Number.isFinite(center) || !Number.isFinite(width) || width < 1) {
    throw new Error(`window ${name}: unknown`);
  }
  return { center, width };
}

/** Map Hounsfield units to gray levels, float32 in [0, 255], not rounded. */
export function applyWindow(slice: HounsfieldSlice, window: Window): Float32Array {
  const { center, width } = window;
  const gray = new Float32Array(slice.data.length);
  for (let i = 0; i < gray.length; i++) {
    const distance = slice.data[i] - center;
    const level =
      width === 1 ? (distance > -0.5 ? 255 : 0) : ((distance + 0.5) / (width - 1) + 0.5) * 255;
    gray[i] = Math.min(Math.max(level, 0), 255);
  }
  return gray;
}

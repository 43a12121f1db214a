/** The viewer: a slice through a window, with the evidence as an overlay. */

import { isHounsfield, type Slice } from '../imaging/slice';
import { applyWindow, WINDOWS, type Window } from '../imaging/windows';
import { colorOf, FULL_COLOR } from '../model/evidence';
import { byId, create } from './dom';

/** A slice in the viewer. */
interface Shown {
  slice: Slice;
  evidence: Float32Array | null;
}

const canvas = byId<HTMLCanvasElement>('canvas');
const windowChoice = byId<HTMLSelectElement>('window');
const overlay = byId<HTMLInputElement>('overlay');
const opacity = byId<HTMLInputElement>('opacity');
let shown: Shown | null = null;

/** Fill the choice of windows, and redraw on each change. */
export function startViewer(): void {
  for (const [name, { center, width }] of Object.entries(WINDOWS)) {
    windowChoice.append(create('option', { value: name }, `${name} (${center}/${width} HU)`));
  }
  for (const control of [windowChoice, overlay, opacity]) control.addEventListener('input', draw);
  drawColorBar();
}

/** Show a slice; null for none. */
export function show(next: Shown | null): void {
  shown = next;
  windowChoice.disabled = !next || !isHounsfield(next.slice);
  windowChoice.title = windowChoice.disabled ? 'A display image already has its window.' : '';
  draw();
}

function draw(): void {
  const context = canvas.getContext('2d')!;
  if (!shown) {
    context.clearRect(0, 0, canvas.width, canvas.height);
    return;
  }
  const { slice, evidence } = shown;
  canvas.width = slice.width;
  canvas.height = slice.height;
  const image = context.createImageData(slice.width, slice.height);
  fill(image.data, slice, WINDOWS[windowChoice.value]);
  if (evidence && overlay.checked) blend(image.data, evidence, Number(opacity.value) / 100);
  context.putImageData(image, 0, 0);
}

function fill(rgba: Uint8ClampedArray, slice: Slice, window: Window): void {
  const gray = isHounsfield(slice) ? applyWindow(slice, window) : slice.data;
  const { channels } = slice;
  for (let i = 0; i < slice.height * slice.width; i++) {
    for (let k = 0; k < 3; k++) rgba[4 * i + k] = gray[channels === 1 ? i : 3 * i + k];
    rgba[4 * i + 3] = 255;
  }
}

function blend(rgba: Uint8ClampedArray, evidence: Float32Array, strength: number): void {
  evidence.forEach((one, i) => {
    if (one <= 0) return;
    const color = colorOf(one);
    const share = (color[3] / 255) * strength;
    for (let k = 0; k < 3; k++) rgba[4 * i + k] = rgba[4 * i + k] * (1 - share) + color[k] * share;
  });
}

function drawColorBar(): void {
  const bar = byId<HTMLCanvasElement>('color-bar');
  const context = bar.getContext('2d')!;
  for (let x = 0; x < bar.width; x++) {
    const [red, green, blue, alpha] = colorOf((FULL_COLOR * x) / (bar.width - 1));
    context.fillStyle = `rgb(${red} ${green} ${blue} / ${alpha / 255})`;
    context.fillRect(x, 0, 1, bar.height);
  }
}

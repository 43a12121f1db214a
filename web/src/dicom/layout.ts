/** How the pixels of a frame are stored, checked before anything is decoded. */

import { MAX_PIXELS, SliceError } from '../imaging/slice';
import { frameCount, type DicomFile } from './parse';
import { code, integer, type Keyword } from './tags';

const MAX_FRAME_BYTES = 128_000_000;
const GRAY = ['MONOCHROME1', 'MONOCHROME2', 'PALETTE COLOR'];
const COLOR = ['RGB', 'YBR_FULL', 'YBR_FULL_422', 'YBR_ICT', 'YBR_RCT'];

export interface Layout {
  rows: number;
  columns: number;
  samples: number;
  frames: number;
  allocated: number;
  stored: number;
  high: number;
  isSigned: boolean;
  planar: number;
  photometric: string;
}

export type Samples =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array;

export function readLayout(file: DicomFile): Layout {
  const number = (keyword: Keyword, other: number): number =>
    integer(file.dataSet, keyword) ?? other;
  const allocated = number('BitsAllocated', 0);
  const stored = number('BitsStored', allocated);
  const layout = {
    rows: number('Rows', 0),
    columns: number('Columns', 0),
    samples: number('SamplesPerPixel', 1),
    frames: frameCount(file.dataSet),
    allocated,
    stored,
    high: number('HighBit', stored - 1),
    isSigned: number('PixelRepresentation', 0) === 1,
    planar: number('PlanarConfiguration', 0),
    photometric: code(file.dataSet, 'PhotometricInterpretation') || 'MONOCHROME2',
  };
  check(layout);
  return layout;
}

function check(layout: Layout): void {
  const { rows, columns, samples, allocated, stored, high } = layout;
  if (rows < 1 || columns < 1) throw new SliceError('declares no image size (Rows, Columns)');
  if (rows * columns > MAX_PIXELS) {
    throw new SliceError(`declares ${columns} x ${rows} pixels: the limit is ${MAX_PIXELS / 1e6} million`);
  }
  if (samples !== 1 && samples !== 3) {
    throw new SliceError(`has ${samples} samples per pixel: it must have 1 or 3`);
  }
  if (![8, 16, 32].includes(allocated)) {
    throw new SliceError(`has ${allocated} bits per sample: it must have 8, 16 or 32`);
  }
  if (stored < 1 || stored > allocated || high < stored - 1 || high >= allocated) {
    throw new SliceError(
      `declares ${stored} stored bits up to bit ${high}, but ${allocated} allocated`,
    );
  }
  if ((rows * columns * samples * allocated) / 8 > MAX_FRAME_BYTES) {
    throw new SliceError(`declares frames over the limit of ${MAX_FRAME_BYTES / 1e6} MB`);
  }
  const accepted = samples === 1 ? GRAY : COLOR;
  if (!accepted.includes(layout.photometric)) {
    throw new SliceError(
      `its photometric interpretation is ${layout.photometric}: with ${samples} samples per pixel ` +
        `it must be one of ${accepted.join(', ')}`,
    );
  }
}

/** Drop the bits that do not belong to the sample; old files keep overlays in them. */
export function clearUnusedBits(raw: Samples, layout: Layout): Samples {
  if (layout.allocated === layout.stored) return raw;
  // Shifting to the top of 32 bits and back extends the sign of signed samples.
  const up = 31 - layout.high;
  const down = 32 - layout.stored;
  const stored = raw.slice();
  for (let i = 0; i < raw.length; i++) {
    stored[i] = layout.isSigned ? (raw[i] << up) >> down : (raw[i] << up) >>> down;
  }
  return stored;
}

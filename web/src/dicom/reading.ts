/** Read one slice of a DICOM file; see `hemorrhage_tf/imaging/dicom/reading.py`. */

import { SliceError, type DisplaySlice, type Slice } from '../imaging/slice';
import { readOrientation, toUpright } from './geometry';
import { modalityOf } from './header';
import { toHounsfield } from './hounsfield';
import { clearUnusedBits, readLayout, type Layout, type Samples } from './layout';
import { macro, type DicomFile } from './parse';
import { bitsAreClear, decodeFrame, requirePixels } from './pixels';
import { code, isEmpty, numbers, TAGS, type Keyword } from './tags';

/** Read a frame in Hounsfield units, or as a display image if it is a secondary capture. */
export async function readFrame(file: DicomFile, frame: number): Promise<Slice> {
  const { modality, isAccepted } = modalityOf(file);
  if (!isAccepted) {
    throw new SliceError(`its modality is ${modality}: it must be one of CT, OT, SC`);
  }
  requirePixels(file);
  const layout = readLayout(file);
  const rescale = macro(file, frame, 'PixelValueTransformationSequence');
  const { values, photometric, isPlanar } = await decodeFrame(file, layout, frame);
  const { rows: height, columns: width } = layout;
  const stored = bitsAreClear(file.transferSyntax) ? values : clearUnusedBits(values, layout);
  let slice: Slice;
  if (layout.samples === 3) {
    slice = toRgb(layout, stored, photometric, isPlanar);
  } else if (layout.photometric === 'PALETTE COLOR') {
    slice = lookUpColors(file, layout, stored);
  } else if (isGrayDisplayImage(file, layout, rescale !== null)) {
    slice = { height, width, channels: 1, data: toGrayLevels(layout, stored) };
  } else {
    const data = toHounsfield(file.dataSet, rescale ?? file.dataSet, layout, values, stored);
    slice = { height, width, channels: 1, data };
  }
  return toUpright(slice, readOrientation(file, frame));
}

/** Return whether gray pixels have at most 8 bits and no tag relates them to HU. */
function isGrayDisplayImage(file: DicomFile, layout: Layout, hasRescale: boolean): boolean {
  const keywords: Keyword[] = ['RescaleSlope', 'RescaleIntercept', 'ModalityLUTSequence'];
  const hasTransform = hasRescale || keywords.some((one) => !isEmpty(file.dataSet, one));
  return layout.stored <= 8 && !hasTransform && code(file.dataSet, 'Modality') !== 'CT';
}

/** Spread stored values over the gray levels. */
function toGrayLevels(layout: Layout, stored: Samples): Uint8Array {
  const highest = 2 ** layout.stored - 1;
  const lowest = layout.isSigned ? -(2 ** (layout.stored - 1)) : 0;
  return Uint8Array.from(stored, (value) => {
    const level = value - lowest;
    const gray = layout.photometric === 'MONOCHROME1' ? highest - level : level;
    return Math.floor((gray * 255 + Math.floor(highest / 2)) / highest);
  });
}

function toRgb(
  layout: Layout,
  stored: Samples,
  photometric: string,
  isPlanar: boolean,
): DisplaySlice {
  const { rows: height, columns: width } = layout;
  const pixels = height * width;
  const data = new Uint8Array(3 * pixels);
  const shift = Math.max(layout.stored - 8, 0);
  for (let i = 0; i < pixels; i++) {
    for (let k = 0; k < 3; k++) {
      data[3 * i + k] = stored[isPlanar ? k * pixels + i : 3 * i + k] >> shift;
    }
  }
  if (photometric.startsWith('YBR_FULL')) convertYbr(data);
  return { height, width, channels: 3, data };
}

/** Convert YBR to RGB in place (PS3.3, C.7.6.3.1.2). */
function convertYbr(data: Uint8Array): void {
  const clamp = (value: number): number => Math.min(Math.max(Math.floor(value + 0.5), 0), 255);
  for (let at = 0; at < data.length; at += 3) {
    const [y, blue, red] = [data[at], data[at + 1] - 128, data[at + 2] - 128];
    data[at] = clamp(y + 1.402 * red);
    data[at + 1] = clamp(y - (0.114 * 1.772 * blue) / 0.587 - (0.299 * 1.402 * red) / 0.587);
    data[at + 2] = clamp(y + 1.772 * blue);
  }
}

function lookUpColors(file: DicomFile, layout: Layout, stored: Samples): DisplaySlice {
  const { dataSet } = file;
  const descriptor = numbers(dataSet, 'RedPaletteColorLookupTableDescriptor');
  const keywords: Keyword[] = [
    'RedPaletteColorLookupTableData',
    'GreenPaletteColorLookupTableData',
    'BluePaletteColorLookupTableData',
  ];
  const elements = keywords.map((keyword) => dataSet.elements[TAGS[keyword]]);
  if (descriptor.length !== 3 || elements.some((one) => !one)) {
    throw new SliceError('its color palette is missing or segmented');
  }
  const [length, first] = [descriptor[0] || 1 << 16, (descriptor[1] << 16) >> 16];
  const isWide = descriptor[2] > 8;
  if (elements.some((one) => one.length < length * (isWide ? 2 : 1))) {
    throw new SliceError('its color palette is missing or segmented');
  }
  const tables = elements.map((one, k) =>
    Uint8Array.from({ length }, (_, i) =>
      isWide
        ? (dataSet.uint16(TAGS[keywords[k]], i) as number) >> 8
        : dataSet.byteArray[one.dataOffset + i],
    ),
  );
  const { rows: height, columns: width } = layout;
  const data = new Uint8Array(3 * height * width);
  for (let i = 0; i < height * width; i++) {
    const index = Math.min(Math.max(stored[i] - first, 0), length - 1);
    for (let k = 0; k < 3; k++) data[3 * i + k] = tables[k][index];
  }
  return { height, width, channels: 3, data };
}

/** Decode one frame of the pixel data into stored values. */

import {
  createJPEGBasicOffsetTable,
  readEncapsulatedImageFrame,
  readEncapsulatedPixelDataFromFragments,
  type Element,
} from 'dicom-parser';
import { decodeLossless, decodeWasm, type Decoded } from '../imaging/codecs';
import { SliceError } from '../imaging/slice';
import type { Layout, Samples } from './layout';
import { BIG_ENDIAN, NATIVE, type DicomFile } from './parse';
import { has, text, TAGS } from './tags';

const UID = '1.2.840.10008.1.2.';
const RUN_LENGTH = `${UID}5`;
const JPEG = [`${UID}4.50`, `${UID}4.51`];
const JPEG_LOSSLESS = [`${UID}4.57`, `${UID}4.70`];
const JPEG_LS = [`${UID}4.80`, `${UID}4.81`];
const JPEG_2000 = [`${UID}4.90`, `${UID}4.91`];

/** The syntaxes whose codestream decides which bits belong to a sample. */
export function bitsAreClear(transferSyntax: string): boolean {
  return [...JPEG_LS, ...JPEG_2000].includes(transferSyntax);
}

export interface DecodedFrame {
  values: Samples;
  /** The photometric interpretation after decoding. */
  photometric: string;
  isPlanar: boolean;
}

/** Decode one frame; the others are not decoded. */
export async function decodeFrame(
  file: DicomFile,
  layout: Layout,
  frame: number,
): Promise<DecodedFrame> {
  const element = requirePixels(file);
  if (NATIVE.includes(file.transferSyntax)) {
    if (element.encapsulatedPixelData) {
      throw new SliceError(
        'damaged: its pixels are compressed, but its transfer syntax is not',
      );
    }
    const values = nativeFrame(file, layout, element, frame);
    return { values, photometric: layout.photometric, isPlanar: layout.planar === 1 };
  }
  const encoded = encodedFrame(file, layout, element, frame);
  if (file.transferSyntax === RUN_LENGTH) {
    const values = decodeRunLength(encoded, layout);
    return { values, photometric: layout.photometric, isPlanar: true };
  }
  if (JPEG.includes(file.transferSyntax) && layout.photometric === 'RGB') {
    throw new SliceError('its colors are stored as RGB in a JPEG, which is not supported');
  }
  const decoded = await decode(file.transferSyntax, encoded);
  const { rows, columns, samples, precision } = decoded;
  if (rows !== layout.rows || columns !== layout.columns || samples !== layout.samples) {
    throw new SliceError(
      `its compressed pixels are ${columns} x ${rows} of ${samples} samples, but its header ` +
        `declares ${layout.columns} x ${layout.rows} of ${layout.samples}`,
    );
  }
  if (precision > layout.allocated) {
    throw new SliceError(
      `its compressed samples have ${precision} bits, but its header allocates ${layout.allocated}`,
    );
  }
  return {
    values: layout.isSigned && !decoded.isSigned ? signed(decoded) : decoded.values,
    photometric: samples === 3 ? 'RGB' : layout.photometric,
    isPlanar: false,
  };
}

async function decode(syntax: string, encoded: Uint8Array): Promise<Decoded> {
  try {
    if (JPEG.includes(syntax)) return await decodeWasm('jpeg', encoded);
    if (JPEG_LS.includes(syntax)) return await decodeWasm('jpegLs', encoded);
    if (JPEG_2000.includes(syntax)) return await decodeWasm('jpeg2000', encoded);
    if (JPEG_LOSSLESS.includes(syntax)) return decodeLossless(encoded);
  } catch {
    throw new SliceError('damaged: its compressed pixels cannot be decoded');
  }
  throw new SliceError(`no decoder for its transfer syntax, ${syntax.replace(/[^0-9.]/g, '')}`);
}

/** Read codestream samples as signed ones: the topmost bit of the precision is the sign. */
function signed(decoded: Decoded): Samples {
  const { values, precision } = decoded;
  const shift = 32 - precision;
  const result = new (precision <= 8 ? Int8Array : Int16Array)(values.length);
  for (let i = 0; i < values.length; i++) result[i] = (values[i] << shift) >> shift;
  return result;
}

/** Return the element with the pixel data. */
export function requirePixels(file: DicomFile): Element {
  const element = file.dataSet.elements[TAGS.PixelData];
  if (!element) throw new SliceError(explainMissingPixels(file));
  return element;
}

function explainMissingPixels(file: DicomFile): string {
  if (has(file.dataSet, 'FloatPixelData') || has(file.dataSet, 'DoubleFloatPixelData')) {
    return 'its pixels are floating-point numbers, which are not supported';
  }
  if (has(file.dataSet, 'EncryptedAttributesSequence')) return 'its content is encrypted';
  if (has(file.dataSet, 'Rows')) return 'truncated: it ends before the pixel data';
  return text(file.dataSet, 'SOPClassUID') ? 'holds no image' : 'no readable content: it is damaged, encrypted or not an image';
}

function nativeFrame(file: DicomFile, layout: Layout, element: Element, frame: number): Samples {
  const { allocated, isSigned } = layout;
  if (layout.photometric === 'YBR_FULL_422') {
    throw new SliceError('its color is stored as YBR_FULL_422, which is not supported');
  }
  const count = layout.rows * layout.columns * layout.samples;
  const length = (count * allocated) / 8;
  const available = Math.min(element.length, file.bytes.length - element.dataOffset);
  if (available < length * layout.frames) {
    throw new SliceError(
      `truncated: ${available} bytes of pixel data, but ${length * layout.frames} expected`,
    );
  }
  const end = element.dataOffset + available;
  let stored = file.bytes.subarray(element.dataOffset, end);
  if (file.transferSyntax === BIG_ENDIAN) {
    // Bytes that are written as words are swapped, too (PS3.5, section 8.1.1).
    const size = allocated === 8 && element.vr === 'OW' ? 2 : allocated / 8;
    stored = stored.slice();
    for (let at = 0; at < stored.length; at += size) stored.subarray(at, at + size).reverse();
  }
  const bytes = stored.slice(frame * length, (frame + 1) * length);
  return asType(bytes, allocated, isSigned);
}

function asType(bytes: Uint8Array, allocated: number, isSigned: boolean): Samples {
  const { buffer } = bytes;
  if (allocated === 8) return isSigned ? new Int8Array(buffer) : bytes;
  if (allocated === 16) return isSigned ? new Int16Array(buffer) : new Uint16Array(buffer);
  return isSigned ? new Int32Array(buffer) : new Uint32Array(buffer);
}

function encodedFrame(
  file: DicomFile,
  layout: Layout,
  element: Element,
  frame: number,
): Uint8Array {
  if (!element.encapsulatedPixelData || !element.fragments?.length) {
    throw new SliceError('truncated: it ends within the compressed pixel data');
  }
  const fragments = element.fragments;
  if (fragments.some((one) => one.position + one.length > file.bytes.length)) {
    throw new SliceError('truncated: it ends within the compressed pixel data');
  }
  try {
    if (layout.frames === 1) {
      return readEncapsulatedPixelDataFromFragments(
        file.dataSet,
        element,
        0,
        fragments.length,
      ) as Uint8Array;
    }
    if (fragments.length === layout.frames) {
      return readEncapsulatedPixelDataFromFragments(file.dataSet, element, frame) as Uint8Array;
    }
    const table = element.basicOffsetTable?.length
      ? element.basicOffsetTable
      : createJPEGBasicOffsetTable(file.dataSet, element);
    return readEncapsulatedImageFrame(file.dataSet, element, frame, table) as Uint8Array;
  } catch {
    throw new SliceError('damaged: its compressed frames do not follow each other');
  }
}

/** Decode run lengths: a segment for each byte of a sample, the most significant one first. */
function decodeRunLength(encoded: Uint8Array, layout: Layout): Samples {
  const size = layout.allocated / 8;
  const pixels = layout.rows * layout.columns;
  const view = new DataView(encoded.buffer, encoded.byteOffset, encoded.byteLength);
  const broken = new SliceError('damaged: its run lengths do not fill the image');
  const segments = encoded.length < 64 ? 0 : view.getUint32(0, true);
  if (segments !== size * layout.samples) throw broken;
  const bytes = new Uint8Array(pixels * layout.samples * size);
  for (let segment = 0; segment < segments; segment++) {
    const start = view.getUint32(4 + 4 * segment, true);
    const end = segment + 1 < segments ? view.getUint32(8 + 4 * segment, true) : encoded.length;
    const plane = unpackBits(encoded.subarray(start, end), pixels);
    if (!plane) throw broken;
    const sample = Math.floor(segment / size);
    const byte = size - 1 - (segment % size);
    const base = sample * pixels * size + byte;
    for (let i = 0; i < pixels; i++) bytes[base + i * size] = plane[i];
  }
  return asType(bytes, layout.allocated, layout.isSigned);
}

/** Unpack a segment of run lengths (PS3.5, annex G); null if it is too short. */
function unpackBits(data: Uint8Array, length: number): Uint8Array | null {
  const result = new Uint8Array(length);
  let filled = 0;
  for (let at = 0; at < data.length && filled < length; ) {
    const control = data[at++];
    if (control < 128) {
      const part = data.subarray(at, at + control + 1).subarray(0, length - filled);
      result.set(part, filled);
      filled += part.length;
      at += control + 1;
    } else if (control > 128) {
      const end = Math.min(filled + 257 - control, length);
      result.fill(data[at++], filled, end);
      filled = end;
    }
  }
  return filled === length ? result : null;
}

/** Read PNG and JPEG files as 8-bit gray or RGB, with the conversions of Pillow. */

import { decode as decodePng, type DecodedPng } from 'fast-png';
import { decodeWasm, jpegSize } from './codecs';
import { MAX_PIXELS, MAX_SIDE, SliceError, type DisplaySlice } from './slice';

const PNG_SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

export function isPng(bytes: Uint8Array): boolean {
  return PNG_SIGNATURE.every((one, i) => bytes[i] === one);
}

export function isJpeg(bytes: Uint8Array): boolean {
  return bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;
}

function checkSize(width: number, height: number): void {
  if (width * height > MAX_PIXELS || Math.max(width, height) > MAX_SIDE) {
    throw new SliceError(
      `declares ${width} x ${height} pixels: the limit is ${MAX_PIXELS / 1e6} million, and ` +
        `${MAX_SIDE} per side`,
    );
  }
}

/** Read a PNG or JPEG. */
export async function readDisplayImage(bytes: Uint8Array): Promise<DisplaySlice> {
  if (isPng(bytes)) {
    const header = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.length < 33) throw new SliceError('cannot be decoded (truncated)');
    checkSize(header.getUint32(16), header.getUint32(20));
    let image: DecodedPng;
    try {
      image = decodePng(bytes);
    } catch (error) {
      throw new SliceError(`cannot be decoded (${describe(error)})`);
    }
    return fromPng(image);
  }
  if (!isJpeg(bytes)) throw new SliceError('not in a supported format: PNG, JPEG, DICOM and NIfTI');
  const size = jpegSize(bytes);
  if (!size) throw new SliceError('cannot be decoded (it has no frame header)');
  checkSize(size.columns, size.rows);
  if (size.precision !== 8 || ![1, 3].includes(size.samples)) {
    throw new SliceError(`a JPEG of ${size.samples} x ${size.precision} bits: it must be gray or RGB`);
  }
  if (!endsWithMarker(bytes)) throw new SliceError('cannot be decoded (truncated)');
  let decoded;
  try {
    decoded = await decodeWasm('jpeg', bytes);
  } catch (error) {
    throw new SliceError(`cannot be decoded (${describe(error)})`);
  }
  const { rows: height, columns: width, samples } = decoded;
  return { height, width, channels: samples as 1 | 3, data: decoded.values as Uint8Array };
}

/** Return whether the end marker of a JPEG is there; the decoder fills in what is missing. */
function endsWithMarker(bytes: Uint8Array): boolean {
  for (let at = bytes.length - 2; at > 1; at--) {
    if (bytes[at] === 0xff && bytes[at + 1] === 0xd9) return true;
  }
  return false;
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Convert a decoded PNG: palettes are looked up, alpha is composited on black. */
function fromPng(image: DecodedPng): DisplaySlice {
  const { width, height, channels, depth } = image;
  const count = width * height;
  const samples = depth < 8 ? unpacked(image) : image.data;
  const highByte = (value: number): number => (depth === 16 ? value >> 8 : value);
  if (image.palette) {
    const { palette } = image;
    const rgb = new Uint8Array(3 * count);
    for (let i = 0; i < count; i++) {
      const color = palette[samples[i]];
      if (!color) throw new SliceError('cannot be decoded (a color is not in its palette)');
      const alpha = color.length > 3 ? color[3]! : 255;
      for (let k = 0; k < 3; k++) rgb[3 * i + k] = composited(color[k]!, alpha);
    }
    return { height, width, channels: 3, data: rgb };
  }
  const scale = depth < 8 ? 255 / ((1 << depth) - 1) : 1;
  const colors = channels > 2 ? 3 : 1;
  const hasAlpha = channels === 2 || channels === 4;
  // Pillow ignores a transparent level of 16-bit gray.
  const transparent = image.transparency?.length && !(depth === 16 && colors === 1);
  const data = new Uint8Array(colors * count);
  for (let i = 0; i < count; i++) {
    let alpha = hasAlpha ? highByte(samples[i * channels + colors]) : 255;
    if (transparent) {
      let isTransparent = true;
      for (let k = 0; k < colors; k++) {
        isTransparent &&= samples[i * channels + k] === image.transparency![k];
      }
      if (isTransparent) alpha = 0;
    }
    for (let k = 0; k < colors; k++) {
      data[i * colors + k] = composited(highByte(samples[i * channels + k]) * scale, alpha);
    }
  }
  return { height, width, channels: colors, data };
}

function composited(value: number, alpha: number): number {
  return alpha === 255 ? value : Math.floor((value * alpha + 127) / 255);
}

/** Unpack samples of less than 8 bits, of which each row starts at a byte. */
function unpacked(image: DecodedPng): Uint8Array {
  const { width, height, depth, data } = image;
  const rowBytes = Math.ceil((width * depth) / 8);
  if (data.length !== rowBytes * height) return data as Uint8Array; // unpacked already
  const samples = new Uint8Array(width * height);
  const mask = (1 << depth) - 1;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const bit = x * depth;
      const byte = data[y * rowBytes + (bit >> 3)];
      samples[y * width + x] = (byte >> (8 - depth - (bit & 7))) & mask;
    }
  }
  return samples;
}

/** Decoders of JPEG, JPEG-LS and JPEG 2000, each loaded when the first file needs it. */

import charls from '@cornerstonejs/codec-charls/decodewasmjs';
import turbo from '@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasmjs';
import openjpeg from '@cornerstonejs/codec-openjpeg/decodewasmjs';
import { Decoder as LosslessDecoder } from 'jpeg-lossless-decoder-js';

export interface Decoded {
  rows: number;
  columns: number;
  samples: number;
  /** Bits of a sample. */
  precision: number;
  isSigned: boolean;
  values: Uint8Array | Int8Array | Uint16Array | Int16Array;
}

/** Where the decoders' binaries come from: a function from a file's name to its bytes. */
let readBinary: (name: string) => Promise<ArrayBuffer> = () =>
  Promise.reject(new Error('no decoders'));

export function setBinaries(read: (name: string) => Promise<ArrayBuffer>): void {
  readBinary = read;
}

const WASM = {
  jpeg: { factory: turbo, file: 'libjpegturbowasm_decode.wasm', decoder: 'JPEGDecoder' },
  jpegLs: { factory: charls, file: 'charlswasm_decode.wasm', decoder: 'JpegLSDecoder' },
  jpeg2000: { factory: openjpeg, file: 'openjpegwasm_decode.wasm', decoder: 'J2KDecoder' },
};

export type WasmCodec = keyof typeof WASM;

const loaded: Partial<Record<WasmCodec, Promise<DecoderModule>>> = {};

function load(codec: WasmCodec): Promise<DecoderModule> {
  const { factory, file } = WASM[codec];
  loaded[codec] ??= readBinary(file)
    .then((wasmBinary) => factory({ wasmBinary }))
    .catch((error) => {
      delete loaded[codec]; // the next file tries again
      throw error;
    });
  return loaded[codec];
}

/** Decode a codestream. Raises an error of any kind for a damaged one. */
export async function decodeWasm(codec: WasmCodec, encoded: Uint8Array): Promise<Decoded> {
  const module = await load(codec);
  const decoder = new module[WASM[codec].decoder]();
  try {
    decoder.getEncodedBuffer(encoded.length).set(encoded);
    try {
      decoder.decode();
    } catch (error) {
      throw typeof error === 'number' ? new Error('the decoder reports damaged data') : error;
    }
    const info = decoder.getFrameInfo();
    const bytes = new Uint8Array(decoder.getDecodedBuffer()); // copied: it is freed below
    const isSigned = codec === 'jpeg2000' && info.isSigned;
    return {
      rows: info.height,
      columns: info.width,
      samples: info.componentCount,
      precision: info.bitsPerSample,
      isSigned,
      values: asSamples(bytes, info.bitsPerSample, isSigned),
    };
  } finally {
    decoder.delete();
  }
}

function asSamples(bytes: Uint8Array, precision: number, isSigned: boolean): Decoded['values'] {
  if (precision <= 8) return isSigned ? new Int8Array(bytes.buffer) : bytes;
  return isSigned ? new Int16Array(bytes.buffer) : new Uint16Array(bytes.buffer);
}

/** Decode a lossless JPEG (process 14). */
export function decodeLossless(encoded: Uint8Array): Decoded {
  const decoder = new LosslessDecoder();
  const buffer = encoded.slice().buffer as ArrayBuffer;
  const output = decoder.decode(buffer, 0, encoded.length);
  const { frame } = decoder;
  return {
    rows: frame.dimY,
    columns: frame.dimX,
    samples: frame.numComp,
    precision: frame.precision,
    isSigned: false,
    values: output,
  };
}

/** Read the size that the frame header of a JPEG or JPEG-LS declares; null if there is none. */
export function jpegSize(
  data: Uint8Array,
): { rows: number; columns: number; samples: number; precision: number } | null {
  if (data[0] !== 0xff || data[1] !== 0xd8) return null;
  for (let at = 2; at + 9 < data.length; ) {
    if (data[at] !== 0xff) return null;
    if (data[at + 1] === 0xff) {
      at++; // any number of fill bytes may come first
      continue;
    }
    const marker = data[at + 1];
    const isFrame =
      (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) || marker === 0xf7;
    if (isFrame) {
      return {
        precision: data[at + 4],
        rows: (data[at + 5] << 8) | data[at + 6],
        columns: (data[at + 7] << 8) | data[at + 8],
        samples: data[at + 9],
      };
    }
    if (marker === 0xda) return null;
    at += 2 + ((data[at + 2] << 8) | data[at + 3]);
  }
  return null;
}

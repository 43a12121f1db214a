/** The decoders' packages come without types; they are Emscripten modules that take their binary. */

interface FrameInfo {
  width: number;
  height: number;
  bitsPerSample: number;
  componentCount: number;
  isSigned: boolean;
}

interface Decoder {
  getEncodedBuffer(length: number): Uint8Array;
  getDecodedBuffer(): Uint8Array;
  getFrameInfo(): FrameInfo;
  decode(): void;
  delete(): void;
}

type DecoderModule = Record<string, new () => Decoder> & {
  getExceptionMessage?: (pointer: number) => string;
};
type DecoderFactory = (options: { wasmBinary: ArrayBuffer }) => Promise<DecoderModule>;

declare module '@cornerstonejs/codec-openjpeg/decodewasmjs' {
  const factory: DecoderFactory;
  export default factory;
}
declare module '@cornerstonejs/codec-charls/decodewasmjs' {
  const factory: DecoderFactory;
  export default factory;
}
declare module '@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasmjs' {
  const factory: DecoderFactory;
  export default factory;
}
declare module 'jpeg-lossless-decoder-js' {
  export class Decoder {
    frame: { dimX: number; dimY: number; precision: number; components: unknown[]; numComp: number };
    decode(buffer: ArrayBuffer, offset: number, length: number): Uint8Array | Uint16Array;
  }
}

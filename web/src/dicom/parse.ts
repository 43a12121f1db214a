/** Recognize DICOM files and parse their headers. */

import { parseDicom, readPart10Header, type DataSet, type ParseDicomOptions } from 'dicom-parser';
import { Inflate } from 'fflate';
import { SliceError } from '../imaging/slice';
import { items, TAGS, text, type Keyword } from './tags';

const MEDIA_STORAGE_DIRECTORY = '1.2.840.10008.1.3.10';
const IMPLICIT = '1.2.840.10008.1.2';
const EXPLICIT = '1.2.840.10008.1.2.1';
export const DEFLATED = '1.2.840.10008.1.2.1.99';
export const BIG_ENDIAN = '1.2.840.10008.1.2.2';
export const NATIVE = [IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN];

const PREAMBLE_BYTES = 128;
const MAX_INFLATED_BYTES = 256 * 2 ** 20;
const MAX_FRAMES = 100_000;
const VRS =
  'AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US OB OD OF OL OV OW SQ UC UN UR UT'.split(
    ' ',
  );

/** An open file: its data set, with the pixel data as a place in the bytes. */
export interface DicomFile {
  dataSet: DataSet;
  bytes: Uint8Array;
  transferSyntax: string;
  shared: DataSet | null;
  perFrame: DataSet[];
}

function hasPreamble(head: Uint8Array): boolean {
  return String.fromCharCode(...head.subarray(PREAMBLE_BYTES, PREAMBLE_BYTES + 4)) === 'DICM';
}

function startsWithElement(head: Uint8Array, isLittle: boolean): boolean {
  if (head.length < 8) return false;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const [group, element] = [view.getUint16(0, isLittle), view.getUint16(2, isLittle)];
  if (![0x0002, 0x0008].includes(group) || element > 0x0100) return false;
  if (VRS.includes(String.fromCharCode(head[4], head[5]))) return true;
  // Without a VR, four bytes of length are weak evidence: a second element must follow.
  const length = view.getUint32(4, true);
  if (!isLittle || length % 2 || head.length < 12 + length) return false;
  const next = view.getUint16(8 + length, true);
  const isAfter = next > group || (next === group && view.getUint16(10 + length, true) > element);
  return isAfter && next <= 0x0010;
}

/** Return whether the first bytes of a file look like DICOM. */
export function isDicom(head: Uint8Array): boolean {
  return hasPreamble(head) || startsWithElement(head, true) || startsWithElement(head, false);
}

/** Parse a file; the pixel data is not decoded. */
export function openDicom(file: Uint8Array): DicomFile {
  if (file.length === 0) throw new SliceError('the file is empty (0 bytes)');
  if (!isDicom(file.subarray(0, 512))) throw new SliceError('not a DICOM file');
  let bytes = file;
  if (!hasPreamble(file)) {
    bytes = new Uint8Array(file.length + PREAMBLE_BYTES + 4); // the parser requires one
    bytes.set([68, 73, 67, 77], PREAMBLE_BYTES);
    bytes.set(file, PREAMBLE_BYTES + 4);
  }
  const start = PREAMBLE_BYTES + 4;
  const declaresSyntax = bytes[start] === 2 && bytes[start + 1] === 0;
  try {
    let syntax = declaresSyntax ? EXPLICIT : guessSyntax(bytes.subarray(start));
    const options = {
      inflater: inflate,
      ...(declaresSyntax ? {} : { TransferSyntaxUID: syntax }),
    };
    const dataSet = parse(bytes, options);
    syntax = dataSet.string('x00020010') ?? syntax;
    if (dataSet.string('x00020002') === MEDIA_STORAGE_DIRECTORY) {
      throw new SliceError('an index of other files (DICOMDIR), not an image');
    }
    const [shared = null] = items(dataSet, 'SharedFunctionalGroupsSequence');
    const perFrame = items(dataSet, 'PerFrameFunctionalGroupsSequence');
    return {
      dataSet,
      bytes: dataSet.byteArray as Uint8Array,
      transferSyntax: syntax,
      shared,
      perFrame,
    };
  } catch (error) {
    if (error instanceof SliceError) throw error;
    // The parser throws texts and objects, which may quote values of the file.
    throw new SliceError('damaged or truncated: it cannot be parsed');
  }
}

/** Parse a data set. What follows the pixel data, often a stray byte, is ignored. */
function parse(bytes: Uint8Array, options: ParseDicomOptions): DataSet {
  try {
    return parseDicom(bytes, options);
  } catch (error) {
    const partial = (error as { dataSet?: DataSet }).dataSet;
    if (!partial?.elements[TAGS.PixelData]) throw error;
    const meta = readPart10Header(bytes, options as { untilTag: string }); // its types lack options
    Object.assign(partial.elements, meta.elements);
    return partial;
  }
}

function guessSyntax(content: Uint8Array): string {
  if (!VRS.includes(String.fromCharCode(content[4], content[5]))) return IMPLICIT;
  return content[0] === 0 && content[1] !== 0 ? BIG_ENDIAN : EXPLICIT;
}

/** Inflate the rest of a file, up to a limit; the parser wants it after the bytes before. */
function inflate(bytes: Uint8Array, position: number): Uint8Array {
  const parts: Uint8Array[] = [bytes.subarray(0, position)];
  let [total, isWhole] = [0, false];
  const stream = new Inflate((part, final) => {
    total += part.length;
    isWhole ||= final;
    if (total > MAX_INFLATED_BYTES) {
      throw new SliceError('inflates to more than the limit of 256 MiB');
    }
    parts.push(part.slice());
  });
  for (let at = position; at < bytes.length; at += 1 << 16) {
    stream.push(bytes.subarray(at, at + (1 << 16)), at + (1 << 16) >= bytes.length);
  }
  if (!isWhole) throw new SliceError('truncated: its deflated data ends early');
  const result = new Uint8Array(parts.reduce((sum, one) => sum + one.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

/** Return how many frames a file declares; 1 if it declares none. */
export function frameCount(dataSet: DataSet): number {
  const value = text(dataSet, 'NumberOfFrames');
  const count = value === null ? 1 : Number(value);
  if (!Number.isInteger(count)) return 1;
  if (count < 1 || count > MAX_FRAMES) {
    throw new SliceError(`declares ${count} frames: it must have 1 to ${MAX_FRAMES}`);
  }
  return count;
}

/** Return a frame's macro, its own before the shared one, or null if there is neither. */
export function macro(file: DicomFile, frame: number, keyword: Keyword): DataSet | null {
  for (const holder of [file.perFrame[frame] ?? null, file.shared]) {
    const [found] = items(holder, keyword);
    if (found) return found;
  }
  return null;
}

/** Read one slice of any format; the last volume stays in memory. */

import { openDicom } from '../dicom/parse';
import { readFrame } from '../dicom/reading';
import { readDisplayImage } from '../imaging/displayImages';
import { readVolume, type Volume } from '../imaging/nifti';
import { MAX_SIDE, SliceError, type Slice } from '../imaging/slice';
import type { SliceRef } from './listing';

let lastVolume: { file: File; volume: Promise<Volume> } | null = null;

/** Read a slice; raises a SliceError for a file that cannot be used. */
export async function readSlice(ref: SliceRef): Promise<Slice> {
  const slice = await read(ref);
  if (Math.max(slice.height, slice.width) > MAX_SIDE) {
    throw new SliceError(`a side is longer than the limit of ${MAX_SIDE} pixels`);
  }
  return slice;
}

/** Forget the volume in memory. */
export function forgetVolume(): void {
  lastVolume = null;
}

async function read(ref: SliceRef): Promise<Slice> {
  try {
    if (ref.format === 'nifti') {
      if (lastVolume?.file !== ref.file) {
        lastVolume = null; // before the next is read, so that only one is in memory
        lastVolume = { file: ref.file, volume: readVolume(ref.file) };
      }
      return (await lastVolume.volume).readSlice(ref.frame);
    }
    const bytes = new Uint8Array(await ref.file.arrayBuffer());
    if (bytes.length === 0) throw new SliceError('the file is empty (0 bytes)');
    if (ref.format === 'image') return await readDisplayImage(bytes);
    return await readFrame(openDicom(bytes), ref.frame);
  } catch (error) {
    if (error instanceof RangeError) throw new SliceError('not enough memory to decode it');
    if (error instanceof DOMException) throw new SliceError('the file can no longer be read');
    throw error;
  }
}

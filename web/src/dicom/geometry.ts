/** Where a slice lies in the patient, and how to show it upright; see `imaging/dicom/geometry.py`. */

import { cross, dot, norm } from '../imaging/nifti';
import type { Slice } from '../imaging/slice';
import { frameCount, macro, type DicomFile } from './parse';
import { numbers } from './tags';

export interface Orientation {
  row: number[];
  column: number[];
}

/** Read the directions of a row and of a column; null if they are unusable. */
export function readOrientation(file: DicomFile, frame: number): Orientation | null {
  const plane = macro(file, frame, 'PlaneOrientationSequence') ?? file.dataSet;
  const cosines = numbers(plane, 'ImageOrientationPatient');
  if (cosines.length !== 6 || !cosines.every(Number.isFinite)) return null;
  const [row, column] = [cosines.slice(0, 3), cosines.slice(3)];
  const lengths = [norm(row), norm(column)];
  if (lengths.some((one) => Math.abs(one - 1) > 0.1) || Math.abs(dot(row, column)) > 0.1) return null;
  return {
    row: row.map((one) => one / lengths[0]),
    column: column.map((one) => one / lengths[1]),
  };
}

/** Return the normal of a slice; for axial slices it points to the head. */
export function sliceNormal(orientation: Orientation): number[] {
  const normal = cross(orientation.row, orientation.column);
  const largest = normal.reduce((most, one) => (Math.abs(one) > Math.abs(most) ? one : most));
  return largest < 0 ? normal.map((one) => -one) : normal;
}

/** Compute the position of a frame along its normal, in mm; null if the file lacks it. */
export function readPosition(file: DicomFile, frame: number): number | null {
  const orientation = readOrientation(file, frame);
  let plane = macro(file, frame, 'PlanePositionSequence');
  if (!plane && frameCount(file.dataSet) === 1) plane = file.dataSet;
  if (!orientation || !plane) return null;
  const corner = numbers(plane, 'ImagePositionPatient');
  if (corner.length !== 3 || !corner.every(Number.isFinite)) return null;
  return dot(corner, sliceNormal(orientation));
}

/** Return whether a slice is tilted by at most 45 degrees from the axial plane. */
export function isAxial(orientation: Orientation): boolean {
  return Math.abs(sliceNormal(orientation)[2]) >= Math.cos(Math.PI / 4) - 1e-6;
}

/** Flip and transpose an axial slice so that columns run to the left and rows to posterior. */
export function toUpright<T extends Slice>(slice: T, orientation: Orientation | null): T {
  if (!orientation || !isAxial(orientation)) return slice;
  let { row, column } = orientation;
  const isTransposed =
    Math.abs(row[0]) + Math.abs(column[1]) < Math.abs(row[1]) + Math.abs(column[0]);
  if (isTransposed) [row, column] = [column, row];
  const [isMirrored, isFlipped] = [row[0] < 0, column[1] < 0];
  if (!isTransposed && !isMirrored && !isFlipped) return slice;
  const { channels } = slice;
  const [height, width] = isTransposed ? [slice.width, slice.height] : [slice.height, slice.width];
  const data = slice.data.slice();
  for (let y = 0; y < height; y++) {
    const v = isFlipped ? height - 1 - y : y;
    for (let x = 0; x < width; x++) {
      const u = isMirrored ? width - 1 - x : x;
      const from = isTransposed ? u * slice.width + v : v * slice.width + u;
      for (let k = 0; k < channels; k++) {
        data[(y * width + x) * channels + k] = slice.data[from * channels + k];
      }
    }
  }
  return { ...slice, height, width, data };
}

/** The header that listing, sorting and grouping need; no pixels are decoded. */

import { isAxial, readOrientation, readPosition, sliceNormal, type Orientation } from './geometry';
import { frameCount, type DicomFile } from './parse';
import { code, integer, text, texts } from './tags';

const MODALITIES = ['CT', 'OT', 'SC'];
const BODY_PARTS = ['HEAD', 'SKULL', 'BRAIN', 'CRANI'];

export interface Header {
  /** For each slice of the file the position in mm along the normal, or null. */
  positions: (number | null)[];
  patient: string | null;
  series: string | null;
  seriesNumber: number | null;
  instance: string | null;
  number: number | null;
  inputWarning: string | null;
}

export function readHeader(file: DicomFile): Header {
  const { dataSet } = file;
  const count = frameCount(dataSet);
  const number = integer(dataSet, 'InstanceNumber');
  const seriesNumber = integer(dataSet, 'SeriesNumber');
  return {
    positions: Array.from({ length: count }, (_, frame) => readPosition(file, frame)),
    patient: text(dataSet, 'PatientID'),
    series: text(dataSet, 'SeriesInstanceUID'),
    seriesNumber: seriesNumber !== null && Math.abs(seriesNumber) < 2 ** 31 ? seriesNumber : null,
    instance: text(dataSet, 'SOPInstanceUID'),
    number: number !== null && number >= -(2 ** 31) && number < 2 ** 31 ? number : null,
    inputWarning: checkTags(file, readOrientation(file, 0)),
  };
}

/** Return whether pixels of a modality are accepted, and which one it is. */
export function modalityOf(file: DicomFile): { modality: string; isAccepted: boolean } {
  const modality = code(file.dataSet, 'Modality');
  return { modality, isAccepted: !modality || MODALITIES.includes(modality) };
}

/** Return an input warning: why a file does not look like axial head CT, or null. */
function checkTags(file: DicomFile, orientation: Orientation | null): string | null {
  const { dataSet } = file;
  if (!integer(dataSet, 'Rows') || !integer(dataSet, 'Columns')) return 'it holds no image';
  const { modality, isAccepted } = modalityOf(file);
  if (!isAccepted) return `its modality is ${modality}, not CT`;
  const types = texts(dataSet, 'ImageType').map((one) => one.toUpperCase());
  if (types.includes('LOCALIZER') || types.includes('SCOUT')) {
    return 'a localizer (Image Type), not an axial slice';
  }
  if (orientation && !isAxial(orientation)) {
    const normal = sliceNormal(orientation).map(Math.abs);
    const axis = normal.indexOf(Math.max(...normal));
    const plane = ['sagittal', 'coronal', 'oblique'][axis];
    return `not an axial slice (its orientation is ${plane})`;
  }
  const part = code(dataSet, 'BodyPartExamined');
  if (part && !BODY_PARTS.some((one) => part.startsWith(one))) {
    return `its Body Part Examined is ${part}, not the head`;
  }
  return null;
}

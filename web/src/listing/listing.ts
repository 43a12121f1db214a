/** List the slices of files, grouped into scans and sorted from the neck to the vertex. */

import { readHeader } from '../dicom/header';
import { isDicom, openDicom } from '../dicom/parse';
import { isNiftiName, readVolume } from '../imaging/nifti';
import { SliceError } from '../imaging/slice';
import type { NamedFile } from './files';

export type Format = 'dicom' | 'nifti' | 'image';

export interface SliceRef {
  file: File;
  format: Format;
  /** The path, with `#N` for slice N of a file that holds several. */
  name: string;
  frame: number;
  position: number | null;
  number: number | null;
}

export interface Scan {
  name: string;
  /** The places of its slices in the listing, from the neck to the vertex. */
  members: number[];
}

export interface Problem {
  name: string;
  reason: string;
}

export interface Listing {
  slices: SliceRef[];
  scans: Scan[];
  problems: Problem[];
  warnings: Problem[];
}

interface Group {
  folder: string;
  isSeries: boolean;
  seriesNumbers: (number | null)[];
  entries: SliceRef[];
}

const IMAGE_NAME = /\.(png|jpe?g)$/i;
const DICOM_NAME = /\.(dcm|dicom|ima)$/i;

/** Return the format of a file by name and content; null for a file of a folder to pass over. */
async function formatOf({ path, file, isNamed }: NamedFile): Promise<Format | null> {
  const name = path.split('/').pop()!;
  const isHidden = path.split('/').some((part) => part.startsWith('.') || part.startsWith('__MACOSX'));
  if (!isNamed && (isHidden || name.toUpperCase() === 'DICOMDIR')) return null;
  if (isNiftiName(name)) return 'nifti';
  const head = new Uint8Array(await file.slice(0, 512).arrayBuffer());
  if (DICOM_NAME.test(name) || (isDicom(head) && head.length > 0)) return 'dicom';
  if (IMAGE_NAME.test(name)) return 'image';
  return isNamed ? 'image' : null;
}

/** Read the headers of files, group their slices into scans and sort each scan. */
export async function listSlices(
  files: NamedFile[],
  advance: (done: number, count: number) => void,
): Promise<Listing> {
  const sorted = [...files].sort((a, b) => compare(sortKey(a.path), sortKey(b.path)));
  const groups = new Map<string, Group>();
  const problems: Problem[] = [];
  const warnings: Problem[] = [];
  const instances = new Map<string, string>();
  let done = 0;
  for (const one of sorted) {
    try {
      const format = await formatOf(one);
      if (format) await addFile(one, format, groups, warnings, instances);
    } catch (error) {
      if (!(error instanceof SliceError)) throw error;
      problems.push({ name: one.path, reason: error.message });
    }
    advance(++done, sorted.length);
  }
  return assemble(groups, problems, warnings);
}

function sortKey(path: string): string {
  return path.replaceAll('/', '\0');
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

async function addFile(
  { path, file }: NamedFile,
  format: Format,
  groups: Map<string, Group>,
  warnings: Problem[],
  instances: Map<string, string>,
): Promise<void> {
  const folder = path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '';
  if (format === 'image') {
    const entry = { file, format, name: path, frame: 0, position: null, number: null };
    groups.set(`file\0${path}`, { folder: path, isSeries: false, seriesNumbers: [], entries: [entry] });
    return;
  }
  let header;
  if (format === 'nifti') {
    const { positions, inputWarning } = await readVolume(file);
    header = {
      positions,
      inputWarning,
      patient: null,
      series: null,
      seriesNumber: null,
      instance: null,
      number: null,
    };
  } else {
    header = readHeader(openDicom(new Uint8Array(await file.arrayBuffer())));
  }
  if (header.instance !== null) {
    const first = instances.get(header.instance);
    if (first !== undefined) throw new SliceError(`has the same SOP Instance UID as ${first}`);
    instances.set(header.instance, path);
  }
  if (header.inputWarning) warnings.push({ name: path, reason: header.inputWarning });
  const isSeries = header.positions.length === 1 && format === 'dicom';
  const key = isSeries
    ? ['series', folder, header.patient, header.series].join('\0')
    : `file\0${path}`;
  if (!groups.has(key)) {
    groups.set(key, { folder: isSeries ? folder : path, isSeries, seriesNumbers: [], entries: [] });
  }
  const group = groups.get(key)!;
  group.seriesNumbers.push(header.seriesNumber);
  const isSeveral = header.positions.length > 1;
  header.positions.forEach((position, frame) => {
    const name = isSeveral ? `${path}#${frame}` : path;
    group.entries.push({ file, format, name, frame, position, number: header.number });
  });
}

function assemble(groups: Map<string, Group>, problems: Problem[], warnings: Problem[]): Listing {
  const names = nameScans(groups);
  const listing: Listing = { slices: [], scans: [], problems, warnings };
  for (const [key, group] of groups) {
    const entries = sortedEntries(group.entries);
    if (entries.length > 1) {
      const start = listing.slices.length;
      listing.scans.push({ name: names.get(key)!, members: entries.map((_, i) => start + i) });
      const repeated = repeatedPositions(entries);
      if (repeated) {
        const noun = repeated === 1 ? 'slice has' : 'slices have';
        const reason = `${repeated} ${noun} the position of another slice`;
        warnings.push({ name: names.get(key)!, reason });
      }
    }
    listing.slices.push(...entries);
  }
  return listing;
}

/** Sort by position if each slice has one, else by Instance Number, else keep the order. */
function sortedEntries(entries: SliceRef[]): SliceRef[] {
  for (const value of [(one: SliceRef) => one.position, (one: SliceRef) => one.number]) {
    if (entries.every((one) => value(one) !== null)) {
      return [...entries].sort((a, b) => value(a)! - value(b)!);
    }
  }
  return entries;
}

function repeatedPositions(entries: SliceRef[]): number {
  const known = entries.map((one) => one.position).filter((one) => one !== null);
  return known.length - new Set(known).size;
}

/** Name scans by file or folder, and by Series Number where a folder holds several; never by UID. */
function nameScans(groups: Map<string, Group>): Map<string, string> {
  const names = new Map<string, string>();
  const inFolder = new Map<string, string[]>();
  for (const [key, group] of groups) {
    names.set(key, group.folder || 'Selected files');
    if (group.isSeries) inFolder.set(group.folder, [...(inFolder.get(group.folder) ?? []), key]);
  }
  for (const keys of inFolder.values()) {
    if (keys.length < 2) continue;
    const numbers = keys.map((key) => groups.get(key)!.seriesNumbers[0]);
    const areNames = !numbers.includes(null) && new Set(numbers).size === numbers.length;
    keys.forEach((key, i) => {
      const suffix = areNames ? `series ${numbers[i]}` : `series ${i + 1} of ${keys.length}`;
      names.set(key, `${names.get(key)} (${suffix})`);
    });
  }
  return names;
}

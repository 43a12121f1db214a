/** The table of all slices as CSV, with the columns of `hemorrhage-tf predict --csv`. */

import type { Results, SlicePrediction } from '../model/predictions';

type Value = string | number | null;

function rounded(value: number | null): number | null {
  return value === null ? null : Number(value.toFixed(6));
}

/** Return the rows with the columns by name. */
export function rowsOf(results: Results): Record<string, Value>[] {
  const rows: Record<string, Value>[] = [];
  const add = (one: SlicePrediction, scan: number | null, place: number | null): void => {
    const found = scan === null ? null : results.scans[scan];
    const rank = found && place !== null ? found.top.indexOf(place) + 1 : 0;
    const subtypes = Object.entries(one.subtypes ?? {}).map(([name, value]) => [
      `probability_${name}`,
      rounded(value),
    ]);
    rows.push({
      path: one.name,
      probability: rounded(one.probability),
      hemorrhage: Number(one.isHemorrhage),
      scan: found ? found.name : null,
      warning: one.warning,
      probability_in_scan: rounded(one.probabilityInScan),
      ...Object.fromEntries(subtypes),
      scan_probability: found ? rounded(found.probability) : null,
      scan_hemorrhage: found && found.probability !== null ? Number(found.isHemorrhage) : null,
      place: place === null ? null : place + 1,
      rank: rank || null,
    });
  };
  results.scans.forEach((scan, i) => scan.slices.forEach((one, place) => add(one, i, place)));
  results.single.forEach((one) => add(one, null, null));
  return rows;
}

function quoted(value: Value): string {
  let text = value === null ? '' : String(value);
  // A spreadsheet runs a file name that begins like a formula.
  if (typeof value === 'string' && /^[=+\-@\t]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Return the table as CSV. */
export function toCsv(results: Results): string {
  const rows = rowsOf(results);
  if (!rows.length) return '';
  const lines = [Object.keys(rows[0]), ...rows.map((row) => Object.values(row))];
  return lines.map((line) => `${line.map(quoted).join(',')}\r\n`).join('');
}

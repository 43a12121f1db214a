/** What a scan model is told of the places of slices, and how slices combine into a scan. */

const SPACING_UNIT = 10; // mm
export const TOP_SLICES = 3;

/** Compute the geometry `(n, 3)` of a scan; see `models.scan_model.scan_geometry` in Python. */
export function scanGeometry(positions: (number | null)[]): Float32Array {
  const count = positions.length;
  const geometry = new Float32Array(3 * count);
  if (count < 2) {
    if (count) geometry[0] = 0.5;
    return geometry;
  }
  for (let i = 0; i < count; i++) geometry[3 * i] = i / (count - 1);
  const known = positions.filter((one) => one !== null);
  if (known.length < count) return geometry;
  const [lowest, highest] = [Math.min(...known), Math.max(...known)];
  if (!(highest > lowest)) return geometry;
  const gap = (i: number): number => Math.abs(known[i + 1] - known[i]);
  for (let i = 0; i < count; i++) {
    const before = gap(Math.max(i - 1, 0));
    const after = gap(Math.min(i, count - 2));
    geometry[3 * i] = (known[i] - lowest) / (highest - lowest);
    geometry[3 * i + 1] = (before + after) / 2 / SPACING_UNIT;
    geometry[3 * i + 2] = 1;
  }
  return geometry;
}

/** Compute the score of a scan without a scan model: the mean of its highest probabilities. */
export function meanOfHighest(probabilities: number[]): number {
  const highest = [...probabilities].sort((a, b) => b - a).slice(0, TOP_SLICES);
  return highest.reduce((sum, one) => sum + one, 0) / highest.length;
}

/** Return the places of the slices to look at, highest probability first. */
export function topPlaces(probabilities: number[]): number[] {
  const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
  return order.slice(0, TOP_SLICES);
}

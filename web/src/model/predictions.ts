/** The results of a prediction, as in `hemorrhage_tf/inference/predictions.py`. */

import type { Problem } from '../listing/listing';

export interface SlicePrediction {
  index: number;
  name: string;
  scan: number | null;
  probability: number;
  probabilityInScan: number | null;
  isHemorrhage: boolean;
  warning: string | null;
  subtypes: Record<string, number> | null;
}

export interface ScanPrediction {
  name: string;
  /** Null where the scan has more slices than the scan model takes. */
  probability: number | null;
  isHemorrhage: boolean;
  threshold: number;
  slices: SlicePrediction[];
  /** The places of the slices to look at in `slices`, highest probability first. */
  top: number[];
}

export interface Results {
  scans: ScanPrediction[];
  /** The slices of no scan. */
  single: SlicePrediction[];
  problems: Problem[];
  warnings: Problem[];
}

/** The probability that decides: the one in the scan if there is one, else that alone. */
export function finalProbability(one: SlicePrediction): number {
  return one.probabilityInScan ?? one.probability;
}

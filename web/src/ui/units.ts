/** What the page shows at a time: a scan, or all slices that belong to no scan. */

import { finalProbability, type Results, type SlicePrediction } from '../model/predictions';
import type { ModelDescription } from '../model/metadata';
import { counted, shownProbability } from './dom';

export interface Unit {
  title: string;
  /** In words, what the model predicts. */
  decision: string;
  detail: string;
  thresholdText: string;
  kind: 'hemorrhage' | 'normal' | 'none';
  slices: SlicePrediction[];
  /** The place of the slice to show first. */
  first: number;
}

/** Return the units of some results. */
export function unitsOf(results: Results, model: ModelDescription): Unit[] {
  const units: Unit[] = results.scans.map((scan) => {
    const flagged = scan.slices.filter((one) => one.isHemorrhage).length;
    const places = scan.top.map((place) => place + 1).join(', ');
    const { probability, slices } = scan;
    const about = `${counted(slices.length, 'slice')}, ${flagged} predicted hemorrhage`;
    const base = { title: scan.name, slices, first: scan.top[0] };
    if (probability === null) {
      return {
        ...base,
        decision: 'No decision for this scan',
        detail: about,
        thresholdText: `It has more slices than the scan model takes. ${sliceThreshold(model.threshold)}`,
        kind: 'none',
      };
    }
    return {
      ...base,
      decision: scan.isHemorrhage ? 'Hemorrhage predicted' : 'No hemorrhage predicted',
      detail:
        `Probability of hemorrhage in the scan: ${shownProbability(probability)}. ${about}. ` +
        `Look first at ${scan.top.length === 1 ? 'slice' : 'slices'} ${places}.`,
      thresholdText:
        `A scan with a probability of at least ${shownProbability(scan.threshold)} counts as ` +
        `hemorrhage. ${sliceThreshold(slices[0].probabilityInScan === null ? model.threshold : model.sliceInScanThreshold)}`,
      kind: scan.isHemorrhage ? 'hemorrhage' : 'normal',
    };
  });
  const { single } = results;
  if (single.length) units.push(unitOfSingle(single, model));
  return units;
}

function sliceThreshold(threshold: number): string {
  return `A slice counts from ${shownProbability(threshold)} on.`;
}

function unitOfSingle(slices: SlicePrediction[], model: ModelDescription): Unit {
  const flagged = slices.filter((one) => one.isHemorrhage).length;
  const highest = slices.reduce(
    (most, one, i) => (finalProbability(one) > finalProbability(slices[most]) ? i : most),
    0,
  );
  const isOne = slices.length === 1;
  return {
    title: isOne ? slices[0].name : `${slices.length} slices that belong to no scan`,
    decision: flagged
      ? isOne
        ? 'Hemorrhage predicted'
        : `Hemorrhage predicted in ${flagged} of ${slices.length} slices`
      : 'No hemorrhage predicted',
    detail: isOne
      ? `Probability of hemorrhage in the slice: ${shownProbability(slices[0].probability)}.`
      : `Highest probability of a slice: ${shownProbability(slices[highest].probability)}.`,
    thresholdText:
      `${sliceThreshold(model.threshold)} (${model.operatingPoint})` +
      (isOne ? '' : ' Slices in several files that form a scan: choose DICOM or NIfTI.'),
    kind: flagged ? 'hemorrhage' : 'normal',
    slices,
    first: highest,
  };
}

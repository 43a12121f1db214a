/** Predict the slices of a listing, and the scans that they belong to. */

import type { Listing, SliceRef } from '../listing/listing';
import { readSlice } from '../listing/reading';
import { findHead } from '../imaging/headCrop';
import { checkInput } from '../imaging/inputChecks';
import { modelInput, takesDisplayImages } from '../imaging/modelInput';
import { dropEqualChannels, isHounsfield, SliceError, type Slice } from '../imaging/slice';
import type { ModelDescription } from './metadata';
import { finalProbability, type Results, type ScanPrediction, type SlicePrediction } from './predictions';
import type { Runner } from './runner';
import { meanOfHighest, scanGeometry, topPlaces } from './scans';

/** What happens while slices are predicted. */
export interface Events {
  onSlice(index: number, slice: Slice, cam: Float32Array | null): void;
  isCancelled(): boolean;
}

interface Predicted extends SlicePrediction {
  features: Float32Array | null;
  position: number | null;
}

/** Predict all slices; files that cannot be read are problems, and the others go on. */
export async function predictListing(
  listing: Listing,
  runner: Runner,
  description: ModelDescription,
  events: Events,
): Promise<Results> {
  const results: Results = {
    scans: [],
    single: [],
    problems: [...listing.problems],
    warnings: [...listing.warnings],
  };
  const inScan = new Set(listing.scans.flatMap((scan) => scan.members));
  const units = listing.scans.map((scan) => ({ ...scan, isScan: true }));
  const alone = listing.slices.map((_, i) => i).filter((i) => !inScan.has(i));
  for (const unit of [...units, { name: '', members: alone, isScan: false }]) {
    const predicted: Predicted[] = [];
    for (const index of unit.members) {
      if (events.isCancelled()) return results;
      try {
        const one = await predictSlice(index, listing.slices[index], runner, description, events);
        predicted.push({ ...one, scan: unit.isScan ? results.scans.length : null });
        if (one.warning) results.warnings.push({ name: one.name, reason: one.warning });
      } catch (error) {
        if (!(error instanceof SliceError)) throw error;
        results.problems.push({ name: listing.slices[index].name, reason: error.message });
      }
    }
    if (!unit.isScan) results.single = predicted.map(withoutFeatures);
    else if (predicted.length) {
      results.scans.push(await predictScan(unit.name, predicted, runner, description, results));
    }
  }
  return results;
}

async function predictSlice(
  index: number,
  ref: SliceRef,
  runner: Runner,
  description: ModelDescription,
  events: Events,
): Promise<Predicted> {
  const slice = await readSlice(ref);
  const gray = dropEqualChannels(slice);
  const { input } = description;
  if (!isHounsfield(gray) && !takesDisplayImages(input)) {
    throw new SliceError(
      'a display image, but the model takes Hounsfield units: choose DICOM or NIfTI files',
    );
  }
  const head = findHead(gray, input.upright);
  const output = await runner.runSlice(modelInput(gray, input, input.cropHead ? head : null));
  const { probability, cam, features } = output;
  events.onSlice(index, slice, cam);
  const named = description.subtypes.map((name, i) => [name, output.subtypes?.[i] ?? NaN]);
  return {
    index,
    name: ref.name,
    scan: null,
    probability,
    probabilityInScan: null,
    isHemorrhage: probability >= description.threshold,
    warning: checkInput(gray, head),
    subtypes: output.subtypes ? Object.fromEntries(named) : null,
    features,
    position: ref.position,
  };
}

async function predictScan(
  name: string,
  predicted: Predicted[],
  runner: Runner,
  description: ModelDescription,
  results: Results,
): Promise<ScanPrediction> {
  const { scanThreshold, sliceInScanThreshold } = description;
  let probability: number | null = Math.fround(meanOfHighest(predicted.map((one) => one.probability)));
  let slices = predicted;
  if (runner.hasScanModel && predicted.length > runner.maxSlices) {
    probability = null;
    const reason =
      `${predicted.length} slices, but the scan model takes at most ${runner.maxSlices}: ` +
      'there is no decision for the scan, and each slice counts alone';
    results.problems.push({ name, reason });
  } else if (runner.hasScanModel) {
    const geometry = scanGeometry(predicted.map((one) => one.position));
    const output = await runner.runScan(predicted.map((one) => one.features!), geometry);
    probability = output.probability;
    slices = predicted.map((one, i) => ({
      ...one,
      probabilityInScan: output.slices[i],
      isHemorrhage: output.slices[i] >= sliceInScanThreshold,
    }));
  }
  return {
    name,
    probability,
    threshold: scanThreshold,
    isHemorrhage: probability !== null && probability >= scanThreshold,
    slices: slices.map(withoutFeatures),
    top: topPlaces(slices.map(finalProbability)),
  };
}

function withoutFeatures(one: Predicted): SlicePrediction {
  const { features: _features, position: _position, ...rest } = one;
  return rest;
}

/** What the exported model's metadata says, as `hemorrhage-tf export` wrote it. */

import type { InputSettings } from '../imaging/modelInput';

export interface ModelDescription {
  name: string;
  size: number;
  threshold: number;
  operatingPoint: string;
  scanThreshold: number;
  sliceInScanThreshold: number;
  subtypes: string[];
  input: InputSettings;
  backbone: string;
  version: string;
}

interface RawMetadata {
  image_size: number;
  threshold: number;
  operating_point: string;
  scan_threshold: number | null;
  slice_in_scan_threshold: number | null;
  subtypes: string[];
  window: string[] | null;
  crop_head: boolean;
  upright: boolean;
  backbone: string;
  versions: Record<string, string>;
}

/** Read the description that the export wrote next to the model. */
export function parseDescription(raw: {
  name: string;
  size: number;
  metadata: RawMetadata;
}): ModelDescription {
  const { name, size, metadata } = raw;
  return {
    name,
    size,
    threshold: metadata.threshold,
    operatingPoint: metadata.operating_point,
    scanThreshold: metadata.scan_threshold ?? metadata.threshold,
    sliceInScanThreshold: metadata.slice_in_scan_threshold ?? metadata.threshold,
    subtypes: metadata.subtypes,
    input: {
      imageSize: metadata.image_size,
      window: metadata.window,
      cropHead: metadata.crop_head,
      upright: metadata.upright,
    },
    backbone: metadata.backbone,
    version: metadata.versions.hemorrhage_tf ?? '',
  };
}

/** The messages between the page and its worker. */

import type { NamedFile } from './listing/files';
import type { Slice } from './imaging/slice';
import type { ModelDescription } from './model/metadata';
import type { Results } from './model/predictions';

export type Request =
  | { type: 'start'; base: string }
  | { type: 'predict'; job: number; files: NamedFile[] }
  | { type: 'view'; view: number; index: number; probability: number; threshold: number };

/** A small picture of a slice in gray levels. */
export interface Thumbnail {
  width: number;
  height: number;
  gray: Uint8Array;
}

export type Reply =
  | { type: 'ready'; description: ModelDescription; threads: number; hasCam: boolean }
  | { type: 'failed'; message: string }
  | { type: 'progress'; job: number; stage: 'headers' | 'slices'; done: number; count: number }
  | { type: 'slice'; job: number; index: number; thumbnail: Thumbnail }
  | { type: 'results'; job: number; results: Results; seconds: number }
  | { type: 'error'; job: number; message: string }
  | { type: 'view'; view: number; slice: Slice; evidence: Float32Array | null }
  | { type: 'viewError'; view: number; message: string };

/** The page: files in, predictions out. Everything is computed in the worker. */

import workerUrl from './worker?worker&url';
import { fromDrop, fromList, type NamedFile } from './listing/files';
import type { ModelDescription } from './model/metadata';
import { finalProbability, type Results, type SlicePrediction } from './model/predictions';
import type { Reply, Request } from './protocol';
import { toCsv } from './ui/csv';
import { byId, counted, create } from './ui/dom';
import { startOffline } from './ui/offline';
import { ResultsView } from './ui/results';
import { show, startViewer } from './ui/viewer';

const status = byId('status');
const progress = byId<HTMLProgressElement>('progress');
const results = new ResultsView(requestView);
let worker: Worker;
let model: ModelDescription;
let hasCam = false;
let job = 0;
let view = 0;
let last: Results | null = null;

function send(request: Request): void {
  worker.postMessage(request);
}

async function start(): Promise<void> {
  startViewer();
  const isOffline = await startOffline();
  byId('offline').textContent = isOffline
    ? 'This page works offline; nothing leaves this device.'
    : 'Nothing leaves this device.';
  const base = new URL('./', location.href).href;
  const script = new URL(workerUrl, location.href).href;
  // A worker from a blob has the Content-Security-Policy of this page; one from an address has its
  // own, which a host that sends no headers does not give it.
  const blob = new Blob([`importScripts(${JSON.stringify(script)});`], { type: 'text/javascript' });
  worker = new Worker(URL.createObjectURL(blob));
  worker.addEventListener('message', ({ data }: MessageEvent<Reply>) => receive(data));
  worker.addEventListener('error', () => fail('The page could not be loaded. Reload it.'));
  send({ type: 'start', base });
}

function receive(reply: Reply): void {
  if ('job' in reply && reply.job !== job) return;
  if ('view' in reply && reply.view !== view) return;
  switch (reply.type) {
    case 'ready':
      model = reply.description;
      hasCam = reply.hasCam;
      ready(reply.threads);
      break;
    case 'failed':
      fail(`The model could not be loaded (${reply.message}). Reload the page, or try another browser.`);
      break;
    case 'progress':
      status.textContent =
        reply.stage === 'headers'
          ? `Reading ${counted(reply.count, 'file')} …`
          : `Predicting ${counted(reply.count, 'slice')} …`;
      progress.hidden = false;
      progress.max = reply.count;
      progress.value = reply.done;
      break;
    case 'slice':
      results.addThumbnail(reply.index, reply.thumbnail);
      break;
    case 'results':
      finish(reply.results, reply.seconds);
      break;
    case 'error':
      progress.hidden = true;
      status.textContent = `The prediction failed (${reply.message}). Choose other files.`;
      break;
    case 'view':
      show({ slice: reply.slice, evidence: reply.evidence });
      describeOverlay(reply.evidence !== null);
      break;
    case 'viewError':
      show(null);
      byId('slice-text').textContent = `The slice cannot be shown: ${reply.message}`;
      break;
  }
}

function ready(threads: number): void {
  const windows = model.input.window;
  byId('model').textContent =
    `Model: ${model.name} (${model.backbone}, ${(model.size / 1e6).toFixed(1)} MB, ` +
    `${counted(threads, 'thread')}).`;
  byId('overlay-controls').hidden = !hasCam;
  if (windows?.length === 1) byId<HTMLSelectElement>('window').value = windows[0];
  for (const id of ['choose-files', 'choose-folder']) byId<HTMLButtonElement>(id).disabled = false;
  status.textContent = 'Ready.';
  document.documentElement.dataset.ready = 'true';
}

function fail(message: string): void {
  status.textContent = message;
  byId('model').textContent = 'No model is loaded.';
}

function predict(files: NamedFile[]): void {
  if (!document.documentElement.dataset.ready || !files.length) return;
  job++;
  view++; // an answer for the slices before is of no use now
  last = null;
  results.clear();
  show(null);
  status.textContent = `Reading ${counted(files.length, 'file')} …`;
  send({ type: 'predict', job, files });
}

function finish(found: Results, seconds: number): void {
  last = found;
  progress.hidden = true;
  const count = found.single.length + found.scans.reduce((sum, one) => sum + one.slices.length, 0);
  status.textContent = count
    ? `Predicted ${counted(count, 'slice')} in ${seconds.toFixed(1)} s.`
    : 'No slice could be predicted. The reasons are listed below.';
  if (!count && !found.problems.length) {
    status.textContent = 'There is no slice in these files. Choose PNG, JPEG, DICOM or NIfTI.';
  }
  results.show(found, model);
}

function requestView(one: SlicePrediction): void {
  view++;
  const text = results.sliceText();
  byId('slice-text').textContent = text;
  byId('canvas').setAttribute('aria-label', text);
  const probability = finalProbability(one);
  const threshold =
    one.probabilityInScan === null ? model.threshold : model.sliceInScanThreshold;
  send({ type: 'view', view, index: one.index, probability, threshold });
}

function describeOverlay(hasEvidence: boolean): void {
  byId('overlay-text').textContent = hasEvidence
    ? 'Colored is what raises this slice above its threshold.'
    : 'Nothing is colored: the slice does not reach its threshold.';
}

function saveCsv(): void {
  if (!last) return;
  const address = URL.createObjectURL(new Blob([toCsv(last)], { type: 'text/csv' }));
  create('a', { href: address, download: 'predictions.csv' }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // the download has started by then
}

function listen(): void {
  const drop = byId('drop');
  for (const [button, input] of [
    ['choose-files', 'files'],
    ['choose-folder', 'folder'],
  ]) {
    const field = byId<HTMLInputElement>(input);
    byId(button).addEventListener('click', () => field.click());
    field.addEventListener('change', () => {
      predict(fromList(field.files!));
      field.value = ''; // so that the same files can be chosen again
    });
  }
  document.addEventListener('dragover', (event) => {
    event.preventDefault(); // else the browser would open the file
    drop.classList.add('over');
  });
  document.addEventListener('dragleave', () => drop.classList.remove('over'));
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    drop.classList.remove('over');
    if (event.dataTransfer) void fromDrop(event.dataTransfer).then(predict);
  });
  byId('csv').addEventListener('click', saveCsv);
}

listen();
void start();

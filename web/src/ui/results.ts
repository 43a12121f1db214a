/** The results: the decision on top, the strip of slices, the table, and the files with problems. */

import { finalProbability, type Results, type SlicePrediction } from '../model/predictions';
import type { ModelDescription } from '../model/metadata';
import type { Thumbnail } from '../protocol';
import { byId, counted, create, shownProbability } from './dom';
import { unitsOf, type Unit } from './units';

/** Shows results; `onSelect` is called when another slice is to be shown. */
export class ResultsView {
  private units: Unit[] = [];
  private unit: Unit | null = null;
  private place = 0;
  private thumbnails: Thumbnail[] = [];
  private readonly number = byId<HTMLInputElement>('slice-number');
  private readonly choice = byId<HTMLSelectElement>('unit');
  private readonly strip = byId('strip');

  constructor(private readonly onSelect: (slice: SlicePrediction) => void) {
    this.choice.addEventListener('change', () => this.showUnit(Number(this.choice.value)));
    this.number.addEventListener('input', () => this.select(Number(this.number.value) - 1));
    this.strip.addEventListener('keydown', (event) => this.onKey(event));
    byId('canvas').addEventListener('wheel', (event) => this.onWheel(event), { passive: false });
  }

  clear(): void {
    this.units = [];
    this.unit = null;
    this.thumbnails = [];
    byId('results').hidden = true;
    byId('problems').hidden = true;
  }

  addThumbnail(index: number, thumbnail: Thumbnail): void {
    this.thumbnails[index] = thumbnail;
  }

  show(results: Results, model: ModelDescription): void {
    this.showProblems(results);
    this.units = unitsOf(results, model);
    byId('results').hidden = this.units.length === 0;
    byId('unit-choice').hidden = this.units.length < 2;
    this.choice.replaceChildren(
      ...this.units.map((unit, i) =>
        create('option', { value: String(i) }, `${unit.title}: ${unit.decision.toLowerCase()}`),
      ),
    );
    if (this.units.length) this.showUnit(0);
  }

  private showProblems(results: Results): void {
    const line = (kind: string, { name, reason }: { name: string; reason: string }): HTMLElement =>
      create('li', {}, create('strong', {}, `${kind}: `), `${name}: ${reason}`);
    byId('problems').hidden = results.problems.length + results.warnings.length === 0;
    byId('problem-list').replaceChildren(
      ...results.problems.map((one) => line('Not predicted', one)),
      ...results.warnings.map((one) => line('Check', one)),
    );
  }

  private showUnit(index: number): void {
    const unit = this.units[index];
    this.unit = unit;
    byId('decision').className = unit.kind;
    byId('decision-text').textContent = unit.decision;
    byId('decision-detail').textContent = `${unit.title}. ${unit.detail}`;
    byId('decision-threshold').textContent = unit.thresholdText;
    byId('strip-title').textContent = counted(unit.slices.length, 'slice');
    this.number.max = String(unit.slices.length);
    this.strip.replaceChildren(...unit.slices.map((one, place) => this.button(one, place)));
    byId('table').replaceChildren(this.table(unit));
    this.select(unit.first);
  }

  private button(one: SlicePrediction, place: number): HTMLButtonElement {
    const probability = shownProbability(finalProbability(one));
    const canvas = create('canvas');
    const thumbnail = this.thumbnails[one.index];
    if (thumbnail) drawThumbnail(canvas, thumbnail);
    const button = create('button', { type: 'button', tabIndex: -1 }, canvas, probability);
    button.setAttribute('aria-label', `Slice ${place + 1}, probability ${probability}`);
    button.classList.toggle('hemorrhage', one.isHemorrhage);
    button.addEventListener('click', () => this.select(place));
    return button;
  }

  private table(unit: Unit): HTMLTableElement {
    const hasScan = unit.slices.some((one) => one.probabilityInScan !== null);
    const names = Object.keys(unit.slices[0].subtypes ?? {});
    const head = ['#', 'slice', 'probability', ...(hasScan ? ['in the scan'] : []), ...names];
    const row = (one: SlicePrediction, place: number): HTMLTableRowElement => {
      const numbers = [
        one.probability,
        ...(hasScan ? [one.probabilityInScan] : []),
        ...names.map((name) => one.subtypes![name]),
      ];
      const cells = numbers.map((value) =>
        create('td', { className: 'number' }, value === null ? '' : shownProbability(value)),
      );
      const decision = one.isHemorrhage ? 'hemorrhage' : 'normal';
      const element = create(
        'tr',
        { className: one.isHemorrhage ? 'hemorrhage' : '' },
        create('td', { className: 'number' }, String(place + 1)),
        create('td', {}, one.name),
        ...cells,
        create('td', {}, one.warning ? `${decision} (check: ${one.warning})` : decision),
      );
      element.addEventListener('click', () => this.select(place));
      return element;
    };
    return create(
      'table',
      {},
      create('thead', {}, create('tr', {}, ...[...head, 'predicted'].map(headCell))),
      create('tbody', {}, ...unit.slices.map(row)),
    );
  }

  private select(place: number): void {
    if (!this.unit) return;
    this.place = Math.min(Math.max(place, 0), this.unit.slices.length - 1);
    const buttons = [...this.strip.querySelectorAll('button')];
    buttons.forEach((button, i) => {
      const isCurrent = i === this.place;
      button.tabIndex = isCurrent ? 0 : -1;
      button.setAttribute('aria-current', String(isCurrent));
    });
    const current = buttons[this.place];
    // Not scrollIntoView, which would scroll the page, too.
    this.strip.scrollLeft =
      current.offsetLeft - this.strip.offsetLeft - (this.strip.clientWidth - current.offsetWidth) / 2;
    this.number.value = String(this.place + 1);
    this.onSelect(this.unit.slices[this.place]);
  }

  /** Return the text about the slice that is shown. */
  sliceText(): string {
    const { unit, place } = this;
    if (!unit) return '';
    const one = unit.slices[place];
    const inScan =
      one.probabilityInScan === null
        ? ''
        : `, in the scan ${shownProbability(one.probabilityInScan)}`;
    const decision = one.isHemorrhage ? 'hemorrhage' : 'normal';
    return (
      `Slice ${place + 1} of ${unit.slices.length}: probability ` +
      `${shownProbability(one.probability)}${inScan}, predicted ${decision}. ${one.name}`
    );
  }

  private onKey(event: KeyboardEvent): void {
    const steps: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 };
    const last = (this.unit?.slices.length ?? 1) - 1;
    let next: number;
    if (event.key in steps) next = this.place + steps[event.key];
    else if (event.key === 'Home') next = 0;
    else if (event.key === 'End') next = last;
    else return;
    event.preventDefault();
    this.select(next);
    this.strip.querySelectorAll('button')[this.place].focus({ preventScroll: true });
  }

  private onWheel(event: WheelEvent): void {
    if (!this.unit || this.unit.slices.length < 2 || event.ctrlKey || !event.deltaY) return;
    event.preventDefault();
    this.select(this.place + Math.sign(event.deltaY));
  }
}

function headCell(text: string): HTMLTableCellElement {
  const isNumber = !['slice', 'predicted'].includes(text);
  return create('th', { scope: 'col', className: isNumber ? 'number' : '' }, text);
}

function drawThumbnail(canvas: HTMLCanvasElement, { width, height, gray }: Thumbnail): void {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d')!;
  const image = context.createImageData(width, height);
  gray.forEach((level, i) => image.data.set([level, level, level, 255], 4 * i));
  context.putImageData(image, 0, 0);
}

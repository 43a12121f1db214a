/** Boolean grids, one byte a cell, and the morphology that finding a head needs. */

export interface Grid {
  rows: number;
  columns: number;
  cells: Uint8Array;
}

export function emptyGrid(rows: number, columns: number): Grid {
  return { rows, columns, cells: new Uint8Array(rows * columns) };
}

/** Return whether any cell is set. */
export function anySet(grid: Grid): boolean {
  return grid.cells.includes(1);
}

export function countSet(cells: Uint8Array): number {
  let count = 0;
  for (const cell of cells) count += cell;
  return count;
}

/** Erode by a square of 3 x 3 cells; what lies outside the grid is empty. */
export function eroded(grid: Grid): Grid {
  const { rows, columns, cells } = grid;
  const along = emptyGrid(rows, columns);
  for (let y = 0; y < rows; y++) {
    for (let x = 1; x < columns - 1; x++) {
      const i = y * columns + x;
      along.cells[i] = cells[i] & cells[i - 1] & cells[i + 1];
    }
  }
  const result = emptyGrid(rows, columns);
  for (let i = columns; i < (rows - 1) * columns; i++) {
    result.cells[i] = along.cells[i] & along.cells[i - columns] & along.cells[i + columns];
  }
  return result;
}

/** Return a grid after 0, 1, 2 ... erosions, as long as cells remain. */
export function erosions(grid: Grid): Grid[] {
  const layers: Grid[] = [];
  for (let next = grid; anySet(next); next = eroded(next)) layers.push(next);
  return layers;
}

/** Dilate by a square of 3 x 3 cells. */
export function dilated(grid: Grid): Grid {
  const { rows, columns, cells } = grid;
  const along = emptyGrid(rows, columns);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const i = y * columns + x;
      along.cells[i] =
        cells[i] | (x > 0 ? cells[i - 1] : 0) | (x < columns - 1 ? cells[i + 1] : 0);
    }
  }
  const result = emptyGrid(rows, columns);
  for (let i = 0; i < cells.length; i++) {
    result.cells[i] =
      along.cells[i] |
      (i >= columns ? along.cells[i - columns] : 0) |
      (i < cells.length - columns ? along.cells[i + columns] : 0);
  }
  return result;
}

/** Fill the holes of bodies: what is not connected to the border through empty cells. */
export function fillHoles(grid: Grid): Grid {
  const { rows, columns, cells } = grid;
  const outside = new Uint8Array(cells.length);
  const stack: number[] = [];
  const visit = (i: number): void => {
    if (!cells[i] && !outside[i]) {
      outside[i] = 1;
      stack.push(i);
    }
  };
  for (let x = 0; x < columns; x++) {
    visit(x);
    visit((rows - 1) * columns + x);
  }
  for (let y = 0; y < rows; y++) {
    visit(y * columns);
    visit(y * columns + columns - 1);
  }
  while (stack.length) {
    const i = stack.pop()!;
    const x = i % columns;
    if (x > 0) visit(i - 1);
    if (x < columns - 1) visit(i + 1);
    if (i >= columns) visit(i - columns);
    if (i < cells.length - columns) visit(i + columns);
  }
  return { rows, columns, cells: inverted(outside) };
}

/** Grow a body within a core until it no longer changes; diagonal cells are neighbors. */
export function floodWithin(seed: number, core: Grid): Grid {
  const { rows, columns, cells } = core;
  const body = emptyGrid(rows, columns);
  const stack = [seed];
  body.cells[seed] = 1;
  while (stack.length) {
    const i = stack.pop()!;
    const [y, x] = [Math.floor(i / columns), i % columns];
    for (let v = Math.max(y - 1, 0); v <= Math.min(y + 1, rows - 1); v++) {
      for (let u = Math.max(x - 1, 0); u <= Math.min(x + 1, columns - 1); u++) {
        const j = v * columns + u;
        if (cells[j] && !body.cells[j]) {
          body.cells[j] = 1;
          stack.push(j);
        }
      }
    }
  }
  return body;
}

export function intersected(a: Grid, b: Grid): Grid {
  return { ...a, cells: a.cells.map((one, i) => one & b.cells[i]) };
}

/** Expand each cell to its pixels, for a slice of a height and width. */
export function cellsToPixels(grid: Grid, cell: number, height: number, width: number): Uint8Array {
  const pixels = new Uint8Array(height * width);
  for (let row = 0, top = 0; top < height; row++, top += cell) {
    const start = top * width;
    for (let u = 0, left = 0; left < width; u++, left += cell) {
      if (grid.cells[row * grid.columns + u]) {
        pixels.fill(1, start + left, start + Math.min(left + cell, width));
      }
    }
    for (let y = top + 1; y < Math.min(top + cell, height); y++) {
      pixels.copyWithin(y * width, start, start + width);
    }
  }
  return pixels;
}

/** Count the pixels of each cell that are set, and all of its pixels. */
export function countInCells(
  flags: Uint8Array,
  height: number,
  width: number,
  cell: number,
): { rows: number; columns: number; count: Int32Array; area: Int32Array } {
  const [rows, columns] = [Math.ceil(height / cell), Math.ceil(width / cell)];
  const count = new Int32Array(rows * columns);
  const area = new Int32Array(rows * columns);
  for (let v = 0; v < rows; v++) {
    const bottom = Math.min((v + 1) * cell, height);
    for (let u = 0; u < columns; u++) {
      const right = Math.min((u + 1) * cell, width);
      let sum = 0;
      for (let y = v * cell; y < bottom; y++) {
        for (let x = u * cell; x < right; x++) sum += flags[y * width + x];
      }
      count[v * columns + u] = sum;
      area[v * columns + u] = (bottom - v * cell) * (right - u * cell);
    }
  }
  return { rows, columns, count, area };
}

/** Return the first index along an axis with a set flag, and the one after the last. */
export function extent(
  flags: Uint8Array,
  height: number,
  width: number,
  axis: 0 | 1,
): [number, number] {
  const length = axis === 0 ? height : width;
  const occupied = new Uint8Array(length);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) if (flags[at]) occupied[axis === 0 ? y : x] = 1;
  }
  const first = occupied.indexOf(1);
  return first < 0 ? [0, length] : [first, occupied.lastIndexOf(1) + 1];
}

/** Open a mask by a square of side 2 * radius + 1; what lies outside the image is no air. */
export function opened(
  mask: Uint8Array,
  height: number,
  width: number,
  radius: number,
): Uint8Array {
  const dilate = (bits: Uint8Array): Uint8Array =>
    dilatedAlong(dilatedAlong(bits, height, width, radius, 1), height, width, radius, width);
  return dilate(inverted(dilate(inverted(mask))));
}

function inverted(mask: Uint8Array): Uint8Array {
  const result = new Uint8Array(mask.length);
  for (let i = 0; i < mask.length; i++) result[i] = 1 - mask[i];
  return result;
}

/** Dilate along an axis: `step` is 1 along rows, and the width along columns. */
function dilatedAlong(
  bits: Uint8Array,
  height: number,
  width: number,
  radius: number,
  step: number,
): Uint8Array {
  const result = new Uint8Array(bits.length);
  const [lines, length, next] = step === 1 ? [height, width, width] : [width, height, 1];
  for (let line = 0; line < lines; line++) {
    const start = line * next;
    let filled = 0; // everything before this place is written already
    for (let i = 0; i < length; i++) {
      if (!bits[start + i * step]) continue;
      const end = Math.min(i + radius + 1, length);
      for (let j = Math.max(i - radius, filled); j < end; j++) result[start + j * step] = 1;
      filled = end;
    }
  }
  return result;
}

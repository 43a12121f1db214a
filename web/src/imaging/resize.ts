/**
 * Resize with an antialiased triangle filter, without rounding.
 *
 * The arithmetic is that of Pillow's `Image.resize(size, BILINEAR)` for mode F (src/libImaging/
 * Resample.c): coefficients and sums in float64, both passes rounded to float32.
 */

interface Coefficients {
  starts: Int32Array;
  counts: Int32Array;
  weights: Float64Array;
  stride: number;
}

function coefficients(before: number, after: number): Coefficients {
  const scale = before / after;
  const filterScale = Math.max(scale, 1);
  const stride = Math.ceil(filterScale) * 2 + 1;
  const starts = new Int32Array(after);
  const counts = new Int32Array(after);
  const weights = new Float64Array(after * stride);
  for (let at = 0; at < after; at++) {
    const center = (at + 0.5) * scale;
    const start = Math.max(Math.trunc(center - filterScale + 0.5), 0);
    const count = Math.min(Math.trunc(center + filterScale + 0.5), before) - start;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const distance = Math.abs((i + start - center + 0.5) * (1 / filterScale));
      const weight = distance < 1 ? 1 - distance : 0;
      weights[at * stride + i] = weight;
      sum += weight;
    }
    for (let i = 0; i < count && sum !== 0; i++) weights[at * stride + i] /= sum;
    starts[at] = start;
    counts[at] = count;
  }
  return { starts, counts, weights, stride };
}

/** Resize one channel, `(height, width)` in rows, to another height and width. */
export function resize(
  pixels: ArrayLike<number>,
  height: number,
  width: number,
  newHeight: number,
  newWidth: number,
): Float32Array {
  let wide = Float32Array.from(pixels);
  if (newWidth !== width) {
    const { starts, counts, weights, stride } = coefficients(width, newWidth);
    wide = new Float32Array(height * newWidth);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < newWidth; x++) {
        const from = y * width + starts[x];
        let sum = 0;
        for (let i = 0; i < counts[x]; i++) sum += pixels[from + i] * weights[x * stride + i];
        wide[y * newWidth + x] = sum;
      }
    }
  }
  if (newHeight === height) return wide;
  const { starts, counts, weights, stride } = coefficients(height, newHeight);
  const result = new Float32Array(newHeight * newWidth);
  for (let y = 0; y < newHeight; y++) {
    for (let x = 0; x < newWidth; x++) {
      let sum = 0;
      for (let i = 0; i < counts[y]; i++) {
        sum += wide[(starts[y] + i) * newWidth + x] * weights[y * stride + i];
      }
      result[y * newWidth + x] = sum;
    }
  }
  return result;
}
